"""Inputs as they come out of a computation: rounded over an edge, masked, negative, or a text."""

import inspect
from typing import Any

import numpy as np
import pytest

import airmoe.dispatch
import airmoe.links
import airmoe.mesh
import airmoe.scheduling
from airmoe.dispatch import IdealPrice, dispatch
from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.scheduling import Des, Homogeneous, Jesa, Slot, TopK, make_policy, schedule_layer, select_experts
from airmoe.scheduling.parsing import as_policy
from tests.scheduling.policies.test_jointly import RadioCarrier

LAYER = {
    "scores": [[0.5, 0.5], [0.2, 0.8]],
    "source": [0, 1],
    "gain": np.full((2, 2, 3), 1e-12),
    "radio": Ofdma(subcarriers=3),
}
OVER_ONE = np.nextafter(1.0, 2.0)


@pytest.mark.parametrize("threshold", [OVER_ONE, [OVER_ONE, 0.5]])
def test_a_threshold_that_rounding_carried_over_an_edge_is_the_edge(threshold: Any) -> None:
    exact = np.minimum(threshold, 1.0)
    for found, expected in (
        (select_experts(LAYER["scores"], [1.0, 2.0], q) for q in (threshold, exact)),
        (schedule_layer(**LAYER, threshold=q).selection for q in (threshold, exact)),
    ):
        np.testing.assert_array_equal(found.mask, expected.mask)


def test_a_requirement_that_rounding_carried_over_an_edge_is_the_edge() -> None:
    assert Des(OVER_ONE, 2, OVER_ONE).threshold(1) == pytest.approx(1.0, abs=1e-15)
    assert schedule_layer(**LAYER, threshold=Des(1.0, 2, OVER_ONE).threshold(1)).selection.feasible.all()


@pytest.mark.parametrize("threshold", [1 + 1e-9, -1e-9, np.nan])
def test_a_threshold_beyond_rounding_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInputError, match=r"threshold is .*; expected a number from 0 to 1"):
        select_experts(LAYER["scores"], [1.0, 2.0], threshold)
    with pytest.raises(InvalidInputError, match=r"threshold is .*; expected a number from 0 to 1"):
        schedule_layer(**LAYER, threshold=threshold)


MASKED = np.ma.masked_array([[0.5, 0.5], [0.2, 0.8]], mask=[[False, True], [False, False]])


@pytest.mark.parametrize("masked", [MASKED, list(MASKED), [next(iter(MASKED)), [0.2, 0.8]]])
def test_masked_entries_are_refused_in_lists_too(masked: Any) -> None:
    with pytest.raises(InvalidInputError, match="scores is 'a masked array'"):
        select_experts(masked, [1.0, 2.0])
    with pytest.raises(InvalidInputError, match="gain is 'a masked array'"):
        Ofdma().energy_per_bit_j(masked)
    with pytest.raises(InvalidInputError, match="reachable is 'a masked array'"):
        schedule_layer(**LAYER, reachable=np.ma.masked_array(np.ones((2, 2), bool), mask=MASKED.mask))


@pytest.mark.parametrize("bits", [-1.0, np.inf, np.nan])
def test_no_payload_has_a_negative_number_of_bits(bits: float) -> None:
    slot = Slot([0], [0, 1])
    with pytest.raises(InvalidInputError, match=r"bits is .*; expected a finite number >= 0"):
        slot.with_bits(bits)


def test_a_text_is_taken_for_the_policy_that_it_names() -> None:
    assert as_policy("topk:2") == TopK(2)
    links = Links.from_gain(LAYER["gain"], LAYER["radio"])
    slot = Slot([0], [0, 1], links)
    sent = dispatch(np.zeros(1), np.array([[0.1, 0.9]]), "topk:1", RadioCarrier(links), slot)
    assert sent.decided_by == "topk:1"
    assert sent.energy_j_T[0] == IdealPrice(links)(slot.with_bits(12800)).charged.energy_j_TE[0, 1]


@pytest.mark.parametrize("wrong", [1, None, TopK, "top:1"])
def test_what_is_no_policy_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"policy is .*; expected .*topk:K"):
        as_policy(wrong)


@pytest.mark.parametrize("text", ["jesa:0.5:2:1:20", "homogeneous:0.5:2:20"])
def test_a_joint_policy_restarts_as_often_as_its_text_says(text: str) -> None:
    policy = make_policy(text, seed=3)
    assert policy.name == text
    assert isinstance(policy, Jesa | Homogeneous)
    assert (policy.restarts, policy.seed) == (20, 3)
    assert policy.fallback.name == ("des:0.5:2" if isinstance(policy, Jesa) else "des:1:2:0.5")


@pytest.mark.parametrize("text", ["jesa:0.5:2:1:-1", "homogeneous:0.5:2:-1"])
def test_fewer_than_no_restarts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="restarts is -1; expected an integer of at least 0"):
        make_policy(text)


@pytest.mark.parametrize(
    "package", [airmoe.scheduling, airmoe.links, airmoe.dispatch, airmoe.mesh], ids=lambda each: each.__name__
)
def test_signatures_fit_on_a_screen(package: Any) -> None:
    """An alias of a type, such as ArrayLike, stays a word."""
    for name in package.__all__:
        public = getattr(package, name)
        members = [getattr(public, member) for member in dir(public) if not member.startswith("_")]
        for function in [public, *members]:
            if inspect.isfunction(function) or inspect.ismethod(function):
                for parameter in inspect.signature(function).parameters.values():
                    assert len(str(parameter)) < 120, f"{name}: {parameter}"
