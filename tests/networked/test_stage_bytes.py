"""What the engine counts in each stage is what the formulas say."""

from collections.abc import Callable

import pytest

from airmoe.data import ImageSet
from airmoe.networked import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.stage_bytes import (
    answers_bytes,
    averaging_bytes,
    closed_form_bytes,
    moments_bytes,
    told_bytes,
)
from airmoe.networked.stages import train_stages

CLIENTS, ITEMS, CLASSES = 4, 200, 10
EXTRACTOR, FEATURES = 6 * (25 + 1) + 2 * 6 + 16 * (6 * 25 + 1) + 2 * 16, 400
HEAD, GATE = FEATURES * CLASSES + CLASSES, FEATURES * CLIENTS + CLIENTS
"""Values of the weights of LeNet-5, of a linear head and of the gate."""


def measured(config: NetworkedConfig, images: ImageSet) -> dict[str, int]:
    """Bytes of each stage over all clients."""
    sums = dict[str, int]()
    for row in train_stages(config, split_among_clients(config, images)).rows:
        sums[str(row["stage"])] = sums.get(str(row["stage"]), 0) + int(row["bytes"])
    return sums


@pytest.mark.parametrize("partition", ["ring", "dirichlet:0.5"])
def test_the_closed_form_costs_what_the_formulas_say(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig], partition: str
) -> None:
    config = tiny_config(data={"clients": CLIENTS, "partition": partition}, gate={"method": "closed-form"})
    answers = answers_bytes(ITEMS * (CLIENTS - 1), FEATURES, CLASSES)
    assert measured(config, few_digits) == {
        "features": CLIENTS * averaging_bytes(EXTRACTOR + HEAD, rounds=3),
        "experts": CLIENTS * told_bytes(EXTRACTOR),
        "gate statistics": CLIENTS * moments_bytes(FEATURES),
        "gate": CLIENTS * (closed_form_bytes(FEATURES, CLIENTS) + told_bytes(GATE)) + answers,
    }


@pytest.mark.parametrize(("channel_aware", "levels", "worth"), [(False, 1, 0), (True, 7, 19)])
def test_fedgate_costs_what_the_formulas_say(
    few_digits: ImageSet,
    tiny_config: Callable[..., NetworkedConfig],
    channel_aware: bool,
    levels: int,
    worth: int,
) -> None:
    rounds = 2
    config = tiny_config(
        data={"clients": CLIENTS},
        gate={"query_k": CLIENTS, "rounds": rounds, "channel_aware": channel_aware},  # asks all, at once
    )
    sums = measured(config, few_digits)
    assert sums["features"] == CLIENTS * averaging_bytes(EXTRACTOR + HEAD, rounds=3)
    assert sums["experts"] == CLIENTS * told_bytes(EXTRACTOR)
    pairs = answers_bytes(ITEMS * (CLIENTS - 1), FEATURES, CLASSES, levels)
    assert (
        sums["gate"] == CLIENTS * (averaging_bytes(GATE + worth, rounds) + told_bytes(GATE + worth)) + pairs
    )


def test_sums_cost_what_the_formulas_say(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(data={"clients": CLIENTS}, experts={"method": "sums"}, gate={"method": "posterior"})
    sums, triangle = measured(config, few_digits), FEATURES * (FEATURES + 1) // 2
    assert sums["class sums"] == CLIENTS * (8 * (CLASSES * FEATURES + triangle) + told_bytes(EXTRACTOR))
    told = triangle + 2 * CLASSES * FEATURES + 2 * FEATURES + 2 * CLASSES
    assert sums["experts"] == CLIENTS * told_bytes(told)
    assert sums["gate"] == CLIENTS * told_bytes(CLASSES * (FEATURES + 1 + CLIENTS))


def test_fedsc_costs_what_the_formulas_say(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    hidden, out = 16, 8
    spectral = {"projector_hidden": hidden, "projector_out": out}
    config = tiny_config(
        data={"clients": CLIENTS}, features={"method": "fedsc", "rounds": 2, "spectral": spectral}
    )
    projector = FEATURES * hidden + hidden + hidden * out + out
    values = EXTRACTOR + projector + out**2
    assert measured(config, few_digits)["features"] == CLIENTS * averaging_bytes(values, rounds=2)
