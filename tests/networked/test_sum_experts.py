"""Experts from a client's own class means and the covariance of all."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from airmoe.data import load_images
from airmoe.errors import InvalidInputError
from airmoe.federated import Message, State
from airmoe.networked import parse_config, split_among_clients, train_stages
from airmoe.networked.class_sums import Discriminant, class_sums
from airmoe.networked.sum_experts import SumExpertClient, told_of
from airmoe.nn import DiscriminantExpert, PosteriorGate
from airmoe.runs.evaluation import macro_f1

CLASSES, FEATURES = 4, 6


def drawn(images: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    labels_T = np.arange(images) % CLASSES
    centre_CF = 2 * random.normal(size=(CLASSES, FEATURES))
    features_TF = (3 + centre_CF[labels_T] + random.normal(size=(images, FEATURES))).astype(np.float32)
    return torch.from_numpy(features_TF), torch.from_numpy(labels_T)


def told_to_all() -> State:
    features_TF, labels_T = drawn()
    counts = torch.bincount(labels_T, minlength=CLASSES)[None].double()
    return told_of(Discriminant.fit({**class_sums(features_TF, labels_T, CLASSES), "counts": counts}, 0.05))


def expert_of(
    features_TF: torch.Tensor,
    labels_T: torch.Tensor,
    prior_images: float,
    mirrored: Callable[[], torch.Tensor] | None = None,
) -> DiscriminantExpert:
    expert, told = DiscriminantExpert(FEATURES, CLASSES), told_to_all()
    client = SumExpertClient(
        lambda extractor: features_TF,
        labels_T,
        mirrored,
        prior_images,
        lambda: DiscriminantExpert(FEATURES, CLASSES),
        expert.load_state_dict,
    )
    state, reply = client.client_step("train", {}, Message(told))
    assert not reply.tensors  # an expert stays at its client
    assert state.keys() == expert.state_dict().keys()
    return expert


def test_an_expert_tells_its_own_classes_apart_and_shares_out_evenly_what_is_none_of_them() -> None:
    features_TF, labels_T = drawn()
    own_T = labels_T < 2
    expert = expert_of(features_TF[own_T], labels_T[own_T], prior_images=0)
    probability_TC = expert(features_TF)
    assert torch.allclose(probability_TC.sum(dim=1), torch.ones(len(features_TF)), atol=1e-5)
    assert torch.equal(probability_TC[:, 2], probability_TC[:, 3])
    assert float((probability_TC[own_T].argmax(dim=1) == labels_T[own_T]).float().mean()) > 0.95
    own_share_T = probability_TC[:, :2].sum(dim=1)
    assert float(own_share_T[own_T].mean()) > 0.9
    assert float(own_share_T[~own_T].mean()) < 0.1


def test_with_all_images_it_is_the_discriminant_of_all() -> None:
    features_TF, labels_T = drawn()
    told = told_to_all()
    expert = expert_of(features_TF, labels_T, prior_images=0)
    standard_TF = (features_TF - told["mean"]) / told["std"]
    expected_TC = torch.softmax(standard_TF @ told["weight"].T + told["bias"], dim=1)
    assert torch.allclose(expert(features_TF), expected_TC, atol=1e-5)


def test_mirrored_images_count_in_its_own_means_as_in_those_of_all() -> None:
    features_TF, labels_T = drawn()
    half = len(features_TF) // 2
    whole = expert_of(features_TF, labels_T, prior_images=20)
    of_halves = expert_of(features_TF[:half], labels_T[:half], 20, lambda: features_TF[half:])
    for name, weights in whole.state_dict().items():
        assert torch.allclose(of_halves.state_dict()[name], weights, rtol=1e-5, atol=1e-5)


def test_features_that_are_not_finite_make_no_expert() -> None:
    features_TF, labels_T = drawn()
    features_TF[5, 2] = torch.nan
    with pytest.raises(InvalidInputError, match="features of own images is 'nan or infinite"):
        expert_of(features_TF, labels_T, prior_images=0)


def test_the_mean_of_all_clients_stands_in_where_a_client_has_few_images() -> None:
    features_TF, labels_T = drawn()
    few = torch.tensor([0, 1])
    far = features_TF[few] + 50
    alone, steadied = (expert_of(far, labels_T[few], prior) for prior in (0.0, 1e6))
    own_T = labels_T < 2
    right = [
        float((each(features_TF[own_T])[:, :2].argmax(dim=1) == labels_T[own_T]).float().mean())
        for each in (alone, steadied)
    ]
    assert right[1] > 0.95 > right[0]


def test_logits_are_the_logarithms_of_the_answers() -> None:
    features_TF, labels_T = drawn()
    expert = expert_of(features_TF[:40], labels_T[:40], 100.0)
    assert torch.allclose(torch.softmax(expert.logits(features_TF), dim=1), expert(features_TF), atol=1e-5)


def test_a_gate_by_posterior_shares_a_class_among_those_that_hold_it() -> None:
    gate = PosteriorGate(features=1, experts=3, classes=2)
    gate.weight_CF.copy_(torch.tensor([[1.0], [-1.0]]))
    gate.share_CE.copy_(torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]))
    scores_TE = gate(torch.tensor([[30.0], [-30.0], [0.0]])).scores_TE
    expected = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [0.375, 0.125, 0.5]])
    assert torch.allclose(scores_TE, expected, atol=1e-6)


def test_all_experts_together_without_a_gate_are_as_good_as_one_head_for_all() -> None:
    """They know what they do not know: their plain mean does not suffer from foreign images."""
    config = parse_config(
        '[model]\nbackbone = "patches"\nwidth = 40\n[features]\nmethod = "patches"\n'
        '[features.patches]\nrounds = 2\n[experts]\nmethod = "sums"\n[gate]\nmethod = "posterior"',
        "test",
    )
    data = split_among_clients(config, load_images("digits"))
    trained = train_stages(config, data)
    (head,) = [row["macro_f1"] for row in trained.rows if row["stage"] == "class sums"]
    with torch.no_grad():
        features_TF = trained.model.extractor(data.test_images_TCHW)
        mean_TC = torch.stack([expert(features_TF) for expert in trained.model.layer.experts]).mean(dim=0)
    assert macro_f1(data.test_labels_T, mean_TC.argmax(dim=1).numpy(), 10) >= float(head) - 0.01
    assert float(head) > 0.97
    (gate,) = [row for row in trained.rows if row["stage"] == "gate"]
    assert gate["macro_f1"] == pytest.approx(float(head), abs=0.01)
