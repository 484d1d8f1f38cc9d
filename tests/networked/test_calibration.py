"""Temperature scaling of an expert by images that were held back."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from airmoe.federated import Message, State
from airmoe.networked.calibration import FLATTEST, SHARPEST, calibrate, held_back
from airmoe.networked.config import ExpertSettings
from airmoe.networked.experts import ExpertClient
from airmoe.nn import MlpExpert
from airmoe.randomness import stream
from airmoe.seeding import torch_seeded


@pytest.fixture
def expert() -> MlpExpert:
    with torch_seeded(0, "calibrated expert"):
        return MlpExpert(6, 4, hidden=8).eval()


def features(items: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(items, 6)).astype(np.float32)) * 8


@pytest.mark.parametrize("wrong", [0.1, 0.3, 0.6])
def test_the_temperature_is_where_the_derivative_of_the_likelihood_vanishes(
    expert: MlpExpert, wrong: float
) -> None:
    features_TF = features(400)
    with torch.no_grad():
        logits_TC = expert.logits(features_TF).double()
    labels_T = logits_TC.argmax(dim=1)
    labels_T[: int(400 * wrong)] = 0

    def slope(temperature: float) -> float:
        own_T = logits_TC[torch.arange(400), labels_T]
        expected_T = (torch.softmax(logits_TC / temperature, dim=1) * logits_TC).sum(dim=1)
        return float((own_T - expected_T).mean())

    found = calibrate(expert, features_TF, labels_T)
    assert found == pytest.approx(brentq(slope, SHARPEST, FLATTEST), rel=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(expert.logits(features_TF), (logits_TC / found).float())


def test_the_class_that_an_expert_names_stays(expert: MlpExpert) -> None:
    features_TF = features(100)
    before = expert.logits(features_TF).argmax(dim=1)
    calibrate(expert, features_TF, torch.zeros(100, dtype=torch.int64))
    assert torch.equal(expert.logits(features_TF).argmax(dim=1), before)


def test_answers_that_are_all_right_stay_finite(expert: MlpExpert) -> None:
    features_TF = features(50)
    labels_T = expert.logits(features_TF).argmax(dim=1)
    assert calibrate(expert, features_TF, labels_T) == pytest.approx(SHARPEST, rel=1e-2)
    assert expert(features_TF).isfinite().all()


@pytest.mark.parametrize(("items", "share", "held"), [(10, 0.0, 0), (10, 0.1, 1), (9, 0.1, 0), (7, 0.5, 3)])
def test_a_share_is_held_back(items: int, share: float, held: int) -> None:
    assert held_back(items, share) == held


def trained(labels_T: torch.Tensor, calibration: float) -> dict[str, torch.Tensor]:
    """The expert of client 3, trained on given labels of the same features."""
    settings = ExpertSettings(epochs=3, calibration=calibration)
    told = list[State]()
    client = ExpertClient(
        settings, labels_T, 5, 3, lambda _: features(40), lambda: MlpExpert(6, 4, hidden=8), told.append
    )
    client.client_step("train", {}, Message())
    return dict(told[0])


def test_held_back_labels_scale_the_last_layer_and_change_nothing_else() -> None:
    labels_T = torch.arange(40) % 4
    held_T = torch.from_numpy(stream(5, "held back", 3).permutation(40)[:10])
    other_T = labels_T.clone()
    other_T[held_T] = (labels_T[held_T] + 1) % 4
    one, other = trained(labels_T, 0.25), trained(other_T, 0.25)
    assert torch.equal(one["layers.0.weight"], other["layers.0.weight"])
    ratios = torch.cat([(one[name] / other[name]).ravel() for name in ("layers.2.weight", "layers.2.bias")])
    assert not torch.allclose(ratios[0], torch.ones(()), rtol=0.01)
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios), rtol=1e-4, atol=0)


def test_without_a_share_an_expert_learns_from_all_its_images() -> None:
    labels_T = torch.arange(40) % 4
    plain = trained(labels_T, 0.0)
    assert all(
        torch.equal(tensor, trained(labels_T, 0.02)[name]) for name, tensor in plain.items()
    )  # 0 of 40
    assert not torch.equal(plain["layers.0.weight"], trained(labels_T, 0.1)["layers.0.weight"])
