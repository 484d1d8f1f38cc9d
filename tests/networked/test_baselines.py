"""The baselines: one FedAvg network, and a mixture trained in one place."""

from collections.abc import Callable

import pytest

from airmoe.data import ImageSet
from airmoe.errors import TrainingDivergedError
from airmoe.networked import split_among_clients, train_central_moe, train_fedavg_network
from airmoe.networked.config import NetworkedConfig

Config = Callable[..., NetworkedConfig]


def test_a_central_mixture_learns(digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(data={"clients": 3}, model={"expert_hidden": 32})
    model, rows = train_central_moe(config, digits, 4)
    losses = [float(row["loss"]) for row in rows]
    assert len(losses) == 4
    assert losses[-1] < 0.6 * losses[0]
    assert len(model.layer.experts) == 3
    assert not model.training


def test_a_central_mixture_that_diverges_says_so(few_digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(features={"learning_rate": 1e30})
    with pytest.raises(TrainingDivergedError, match="central MoE: the loss is nan in epoch 1 of 2"):
        train_central_moe(config, few_digits, 2)


def test_a_fedavg_network_learns(digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(data={"partition": "iid"}, model={"expert_hidden": 32}, features={"rounds": 6})
    network, rows = train_fedavg_network(config, split_among_clients(config, digits))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert float(rows[-1]["macro_f1"]) > 0.8
    assert [tuple(p.shape) for p in network.head.parameters()] == [(32, 400), (32,), (10, 32), (10,)]


def test_a_fedavg_network_sends_its_whole_self(few_digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(features={"rounds": 1})
    _, (row,) = train_fedavg_network(config, split_among_clients(config, few_digits))
    extractor = 6 * (25 + 1) + 12 + 16 * (25 * 6 + 1) + 32
    head = 400 * 8 + 8 + 8 * 10 + 10
    assert row["bytes"] == 2 * 2 * (extractor + head) * 4
