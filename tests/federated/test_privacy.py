"""What releases with Gaussian noise spend of a client's privacy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.federated import composed_epsilon
from airmoe.federated.privacy import privacy_spent

SENSITIVITIES, NOISES = st.floats(1e-6, 10), st.floats(1e-6, 10)


def test_the_papers_noise_over_200_rounds_of_5000_images_comes_to_111() -> None:
    epsilon = composed_epsilon(4 / 5000, noise_std=0.00104, releases=200, delta=1e-5)
    assert epsilon == pytest.approx(111, abs=0.5)


@given(SENSITIVITIES, NOISES, st.integers(1, 1000), st.floats(1e-9, 0.5))
def test_many_releases_are_worth_one_with_as_many_times_less_variance(
    sensitivity: float, noise_std: float, releases: int, delta: float
) -> None:
    one = composed_epsilon(sensitivity, noise_std / math.sqrt(releases), 1, delta)
    assert composed_epsilon(sensitivity, noise_std, releases, delta) == pytest.approx(one, rel=1e-9)


def test_epsilon_is_the_smallest_that_any_order_of_renyi_divergence_gives() -> None:
    # An oracle without the closed form: rho-zCDP is (order, rho order) Renyi privacy for every order above 1,
    # and that is (rho order + ln(1/delta) / (order - 1), delta) privacy (Mironov 2017).
    sensitivity, noise_std, releases, delta = 0.02, 0.1, 30, 1e-5
    rho = releases * sensitivity**2 / (2 * noise_std**2)
    orders = [1 + 10 ** (step / 1000) for step in range(-3000, 3001)]
    least = min(rho * order + math.log(1 / delta) / (order - 1) for order in orders)
    assert composed_epsilon(sensitivity, noise_std, releases, delta) == pytest.approx(least, rel=1e-5)


def test_without_noise_there_is_no_privacy_and_without_a_release_nothing_is_spent() -> None:
    assert composed_epsilon(1, noise_std=0, releases=1, delta=1e-5) == math.inf
    assert composed_epsilon(1, noise_std=0, releases=0, delta=1e-5) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sensitivity", 0.0),
        ("noise_std", -1e-3),
        ("noise_std", math.nan),
        ("releases", -1),
        ("delta", 0),
        ("delta", 1),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    arguments = {"sensitivity": 1.0, "noise_std": 1.0, "releases": 1, "delta": 1e-5, name: value}
    with pytest.raises(InvalidInputError, match=f"{name} is "):
        composed_epsilon(**arguments)  # type: ignore[arg-type]


def test_a_row_tells_the_largest_epsilon_so_far_and_that_of_each_client_of_the_round() -> None:
    row = privacy_spent({3: 2.25, 0: 1.5}, before=0)
    assert row == {"epsilon": 2.25, "epsilons": "0: 1.5, 3: 2.25"}
    assert privacy_spent({0: 1.75}, before=2.25) == {"epsilon": 2.25, "epsilons": "0: 1.75"}


def test_a_row_says_none_where_one_client_has_no_privacy_and_nothing_where_nothing_is_released() -> None:
    assert privacy_spent({0: 1.5, 1: math.inf}, before=0) == {"privacy": "none"}
    assert privacy_spent({}, before=0) == {}
