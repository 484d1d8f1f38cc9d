"""Mean and spread of all clients' features."""

import numpy as np
import pytest
import torch

from airmoe.federated import Loop, federate
from airmoe.networked.moments import Moments, MomentsClient


def test_they_are_those_of_all_features_together_and_every_client_is_told() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(size=(n, 6)).astype(np.float32) * 3 + 5 for n in (7, 20, 1)]
    for part in parts:
        part[:, 5] = 2.0
    engine = Loop([MomentsClient(torch.from_numpy(part)) for part in parts])
    moments, (row,) = federate(Moments("gate statistics", 3), {}, engine, 1)
    pooled = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(moments["mean"].numpy(), pooled.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(moments["std"][:5].numpy(), pooled[:, :5].std(axis=0), rtol=1e-5)
    assert float(moments["std"][5]) == pytest.approx(1e-2)  # constant: not divided by 0
    assert row == {
        "stage": "gate statistics",
        "round": 1,
        "participants": 3,
        "bytes": 3 * (2 * 6 * 8 + 2 * 6 * 4),
    }
    for state in engine.states.values():
        assert state.keys() == moments.keys()
        assert all(torch.equal(state[name], moments[name]) for name in moments)


def test_how_images_fall_on_clients_makes_no_difference() -> None:
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(30, 4))).float()

    def moments_of(*sizes: int) -> dict[str, torch.Tensor]:
        engine = Loop([MomentsClient(part) for part in features.split(list(sizes))])
        return federate(Moments("statistics", len(sizes)), {}, engine, 1)[0]

    whole, split = moments_of(30), moments_of(1, 20, 9)
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-6, atol=1e-7)
