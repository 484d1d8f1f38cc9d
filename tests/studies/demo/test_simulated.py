"""Asking in one process: what links do to each query, and what it costs."""

import numpy as np
import pytest
import torch

from airmoe.data import ImageSet
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.nn import (
    IdealRadioCarrier,
    LinearGate,
    MixtureOfExperts,
    MlpExpert,
    MoeLayer,
    RadioCarrier,
    build_extractor,
    build_model,
)
from airmoe.radio import Analog
from airmoe.scheduling import BestLink, Jesa, Policy, TopK
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.simulated import ask_simulated

CLIENTS, IMAGES = 3, 7
AIRTIME_J = (400 / 2 + 32) * 1e-2 / 1e6
"""Half a complex symbol per value, 32 for the norm, at 10 mW and 1 MHz."""


@pytest.fixture(scope="module")
def model() -> MixtureOfExperts:
    torch.manual_seed(0)
    gate = LinearGate(400, CLIENTS)
    torch.nn.init.normal_(gate.linear.weight)
    layer = MoeLayer(gate, [MlpExpert(400, 10) for _ in range(CLIENTS)])
    return MixtureOfExperts(build_extractor("lenet5", 1, "group"), layer)


@pytest.fixture(scope="module")
def questions(digits: ImageSet) -> Questions:
    nothing: list[list[int]] = [[]] * CLIENTS
    return Questions(digits.test_images[:IMAGES], digits.test_labels[:IMAGES], digits.class_names, nothing)


def test_over_links_without_noise_answers_are_those_of_ideal_links(
    model: MixtureOfExperts, questions: Questions
) -> None:
    ideal = IdealRadioCarrier(Links.from_snr(10.0, Ofdma(subcarriers=6), CLIENTS))
    expected = ask_simulated(model, TopK(1), ideal, questions)
    noiseless = LinkSnr(np.full((CLIENTS * IMAGES, CLIENTS), np.inf))
    trial = ask_simulated(model, TopK(1), RadioCarrier(Analog()), questions, noiseless)
    assert trial.answer_Q.tolist() == expected.answer_Q.tolist()
    assert trial.requested_QE.tolist() == expected.requested_QE.tolist()
    remote_Q = ~trial.requested_QE[np.arange(CLIENTS * IMAGES), trial.client_Q]
    assert 0 < remote_Q.sum() < len(remote_Q)
    np.testing.assert_allclose(trial.energy_j_Q, remote_Q * AIRTIME_J)
    assert trial.bytes_Q.tolist() == (remote_Q * (400 + 10) * 4).tolist() == expected.bytes_Q.tolist()


def test_every_query_meets_its_own_links(model: MixtureOfExperts, questions: Questions) -> None:
    snr_db_QE = np.random.default_rng(0).normal(size=(CLIENTS * IMAGES, CLIENTS))
    carrier = RadioCarrier(Analog())
    trial = ask_simulated(model, BestLink(1), carrier, questions, LinkSnr(snr_db_QE))
    assert trial.requested_QE.argmax(axis=1).tolist() == snr_db_QE.argmax(axis=1).tolist()
    assert trial.client_Q.tolist() == np.repeat(range(CLIENTS), IMAGES).tolist()
    assert trial.image_Q.tolist() == [*range(IMAGES)] * CLIENTS


@pytest.mark.parametrize("backbone", ["resnet18", "vit"])
@pytest.mark.parametrize("policy", [TopK(1), Jesa(0.6, 2)], ids=["client by client", "all at once"])
def test_a_payload_may_be_a_map_or_tokens(questions: Questions, backbone: str, policy: Policy) -> None:
    width = {"resnet18": 4, "vit": 12}[backbone]
    model = build_model(backbone, classes=10, experts=CLIENTS, channels=1, width=width, gate="mlp").eval()
    carrier = IdealRadioCarrier(Links.from_snr(10.0, Ofdma(subcarriers=6), CLIENTS))
    trial = ask_simulated(model, policy, carrier, questions)
    with torch.no_grad():
        payload_T = model.extractor(questions.pixels_TCHW)
        weights_TE = model(questions.pixels_TCHW, policy=TopK(1)).weights_TE
    assert payload_T.ndim > 2
    if policy == TopK(1):
        assert trial.requested_QE.tolist() == (weights_TE > 0).tolist() * CLIENTS
    remote_Q = (
        trial.requested_QE.sum(axis=1) - trial.requested_QE[np.arange(len(trial.client_Q)), trial.client_Q]
    )
    assert trial.bytes_Q.tolist() == (remote_Q * (payload_T[0].numel() + 10) * 4).tolist()
    assert remote_Q.any()
