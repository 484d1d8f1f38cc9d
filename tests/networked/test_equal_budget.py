"""Rounds of one network that cost as much computing as all stages of a mixture: against a count by hand."""

import math

import pytest

from airmoe.networked.config import NetworkedConfig, parse_config
from airmoe.networked.equal_budget import equal_rounds, mixture_flops

CONV_1, CONV_2 = 6 * 28 * 28 * 25, 16 * 10 * 10 * 6 * 25
"""Multiply-adds of LeNet-5 for one grey image."""

SHAPE = (1, 32, 32)


def test_each_stage_costs_what_it_computes_for_an_image() -> None:
    config = parse_config(
        "features.rounds = 7\nexperts.epochs = 3\ngate.rounds = 5\ngate.local_epochs = 2", "x"
    )
    head, gate, expert = 4000, 4000, 400 * 256 + 2560
    assert mixture_flops(config, SHAPE, 10) == {
        "features": pytest.approx(7 * 2 * (2 * CONV_1 + 3 * CONV_2 + 3 * head)),
        "experts": pytest.approx(2 * (CONV_1 + CONV_2) + 3 * 2 * (2 * 400 * 256 + 3 * 2560)),
        "gate": pytest.approx(10 * 2 * expert + 5 * 2 * 2 * 2 * gate),
    }


def test_a_closed_form_costs_its_sums() -> None:
    config = parse_config('[gate]\nmethod = "closed-form"', "x")
    sums = 2 * 401 * 401 + 2 * 401 * 10
    assert mixture_flops(config, SHAPE, 10)["gate"] == 10 * 2 * (400 * 256 + 2560) + sums


@pytest.mark.parametrize("local_epochs", [1, 2])
def test_stages_2_and_3_pay_for_more_rounds(local_epochs: int) -> None:
    config = parse_config(f"features.rounds = 10\nfeatures.local_epochs = {local_epochs}", "x")
    flops = mixture_flops(config, SHAPE, 10)
    of_round = local_epochs * 2 * (2 * CONV_1 + 3 * (CONV_2 + 400 * 256 + 2560))
    assert equal_rounds(config, SHAPE, 10) == 10 + math.ceil((flops["experts"] + flops["gate"]) / of_round)


def test_more_work_in_the_experts_pays_for_more_rounds() -> None:
    short, long = (NetworkedConfig.model_validate({"experts": {"epochs": epochs}}) for epochs in (1, 200))
    assert equal_rounds(long, SHAPE, 10) > equal_rounds(short, SHAPE, 10) + 10


def test_experts_from_sums_have_a_budget_too() -> None:
    config = parse_config('[experts]\nmethod = "sums"\n[features]\nrounds = 10', "x")
    assert equal_rounds(config, SHAPE, 10) > 10
