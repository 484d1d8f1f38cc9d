"""What chosen scores must sum to, and what no requirement can be."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.scheduling import Des, Homogeneous, Jesa, Requirement


@pytest.mark.parametrize(
    ("requirement", "thresholds"),
    [
        (Requirement(0.5, 2), [0.5, 0.25, 0.125]),
        (Requirement(0.5, 2, 0.8), [0.4, 0.2, 0.1]),
        (Requirement(1.0, 2, 0.8), [0.8, 0.8, 0.8]),
        (Homogeneous(0.8, 2).requirement, [0.8, 0.8, 0.8]),
    ],
)
def test_the_threshold_is_z_times_the_importance_to_the_layer(
    requirement: Requirement, thresholds: list[float]
) -> None:
    assert [requirement.threshold(layer) for layer in (1, 2, 3)] == pytest.approx(thresholds)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 30))
def test_deeper_layers_never_ask_for_more(importance: float, z: float, layer: int) -> None:
    requirement = Requirement(importance, z=z)
    assert requirement.threshold(layer + 1) <= requirement.threshold(layer) <= z


@pytest.mark.parametrize("policy", [Des, Jesa])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"importance": -0.1}, "importance is -0.1; expected a number from 0 to 1"),
        ({"max_experts": 0}, "max_experts is 0; expected an integer of at least 1"),
        ({"max_experts": 1.5}, "max_experts is 1.5; expected an integer of at least 1"),
        ({"z": float("nan")}, "z is nan; expected a number from 0 to 1"),
    ],
)
def test_a_policy_refuses_what_its_requirement_refuses(
    policy: type[Requirement], wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        policy(**wrong)


@pytest.mark.parametrize("wrong", [{"z": 1.1}, {"max_experts": 0}])
def test_the_same_holds_for_a_requirement_that_is_the_same_on_every_layer(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidInputError, match=f"^{name} is "):
        Homogeneous(**wrong)
