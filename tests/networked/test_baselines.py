"""The baselines: one FedAvg network, and a mixture trained in one place."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from airmoe.data import ImageSet, as_pixels
from airmoe.data.split import held_out_split
from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.networked import (
    baselines,
    split_among_clients,
    train_best_central_moe,
    train_central_moe,
    train_fedavg_network,
)
from airmoe.networked.baselines import top_1_answers
from airmoe.networked.config import NetworkedConfig
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.evaluation import macro_f1

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


def test_a_fedavg_network_may_have_other_rounds_than_stage_1(
    few_digits: ImageSet, tiny_config: Config
) -> None:
    config = tiny_config(features={"rounds": 3})
    _, rows = train_fedavg_network(config, split_among_clients(config, few_digits), rounds=5)
    assert len(rows) == 5
    with pytest.raises(InvalidInputError, match="rounds is 0"):
        train_fedavg_network(config, split_among_clients(config, few_digits), rounds=0)


def f1_when_given(rows: list[MetricsRow]) -> list[float]:
    return [float(row["validation_f1"]) for row in rows]


@pytest.mark.long
def test_the_best_central_mixture_is_the_one_that_knew_the_deciding_images_best(
    digits: ImageSet, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "PATIENCE", 2)
    config = tiny_config(data={"clients": 3}, features={"batch_size": 128})
    model, rows = train_best_central_moe(config, digits, 40)
    f1 = f1_when_given(rows)
    # It ended by itself: after the last gain came PATIENCE epochs at each of the rates that were left.
    assert len(rows) < 40
    assert len(rows) - 1 - int(np.argmax(f1)) in (2, 4, 6)
    _, deciding_T = held_out_split(
        digits.train_labels, np.ceil(np.bincount(digits.train_labels) * 0.1).astype(int)
    )
    answers_T = top_1_answers(model, torch.from_numpy(as_pixels(digits.train_images[deciding_T])))
    assert macro_f1(digits.train_labels[deciding_T], answers_T.numpy(), 10) == max(f1)
    assert max(f1) > 0.9


def test_the_best_central_mixture_ends_when_patience_does_or_where_it_is_told_to(
    few_digits: ImageSet, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "RATE_DROPS", 0)
    monkeypatch.setattr(baselines, "PATIENCE", 3)
    _, rows = train_best_central_moe(tiny_config(), few_digits, 60)
    assert len(rows) - 1 - int(np.argmax(f1_when_given(rows))) == 3
    _, rows = train_best_central_moe(tiny_config(), few_digits, 2)
    assert [row["round"] for row in rows] == [1, 2]
    with pytest.raises(InvalidInputError, match="most_epochs is 0"):
        train_best_central_moe(tiny_config(), few_digits, 0)


def test_a_backbone_that_gradients_do_not_train_is_refused(few_digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(
        model={"backbone": "patches", "width": 8},
        features={"method": "patches"},
        experts={"method": "sums"},
        gate={"method": "posterior"},
    )
    refused = r"model\.backbone is 'patches'; expected a backbone that gradients train"
    with pytest.raises(InvalidInputError, match=refused):
        train_fedavg_network(config, split_among_clients(config, few_digits))
    with pytest.raises(InvalidInputError, match=refused):
        train_central_moe(config, few_digits, epochs=1)
