"""What a gate may know of a link: late, with errors, or all of it."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import GaussMarkovSnr, LinkSnr, UniformSnr


def drawn(**settings: float) -> LinkSnr:
    return LinkSnr.drawn(UniformSnr(), 50, 3, np.random.default_rng(0), **settings)  # type: ignore[arg-type]


def test_left_out_the_observation_is_the_truth() -> None:
    snr = LinkSnr([[1.0, -np.inf], [np.inf, 2.0]])
    np.testing.assert_array_equal(snr.observed_db_TE, snr.true_db_TE)
    np.testing.assert_array_equal(drawn().observed_db_TE, drawn().true_db_TE)


@pytest.mark.parametrize("delay", [1, 2, 10, 60])
def test_outdated_csi_is_the_truth_of_so_many_slots_before(delay: int) -> None:
    snr = drawn(delay_slots=delay)
    assert snr.true_db_TE.shape == snr.observed_db_TE.shape == (50, 3)
    if delay < 50:
        np.testing.assert_array_equal(snr.observed_db_TE[delay:], snr.true_db_TE[:-delay])
    # The first items are seen late, too: the process ran before them.
    assert (snr.observed_db_TE != snr.true_db_TE).all()


def test_outdated_csi_is_worth_what_the_channel_remembers() -> None:
    process = GaussMarkovSnr(0, 0.9)
    snr = LinkSnr.drawn(process, 20, 20_000, np.random.default_rng(0), delay_slots=3)
    powers = 10 ** (snr.true_db_TE / 10), 10 ** (snr.observed_db_TE / 10)
    assert np.corrcoef(powers[0].ravel(), powers[1].ravel())[0, 1] == pytest.approx(0.9**6, abs=0.02)


@pytest.mark.parametrize("delay", [0, 4])
def test_noisy_csi_errs_by_a_normal_number_of_db(delay: int) -> None:
    settings = {"delay_slots": delay}
    snr = LinkSnr.drawn(UniformSnr(), 5000, 8, np.random.default_rng(0), error_db=3.0, **settings)
    without = LinkSnr.drawn(UniformSnr(), 5000, 8, np.random.default_rng(0), **settings)
    error_db = snr.observed_db_TE - without.observed_db_TE
    np.testing.assert_array_equal(snr.true_db_TE, without.true_db_TE)
    assert error_db.mean() == pytest.approx(0, abs=0.06)
    assert error_db.std() == pytest.approx(3, rel=0.02)
    assert abs(np.corrcoef(error_db[:, 0], error_db[:, 1])[0, 1]) < 0.06


def test_the_snr_of_some_items_can_be_had_alone() -> None:
    snr = drawn(delay_slots=1).of_items(np.array([4, 2]))
    np.testing.assert_array_equal(snr.true_db_TE, drawn(delay_slots=1).true_db_TE[[4, 2]])
    np.testing.assert_array_equal(snr.observed_db_TE, drawn(delay_slots=1).observed_db_TE[[4, 2]])


def test_no_items_have_no_snr() -> None:
    snr = LinkSnr.drawn(UniformSnr(), 0, 3, np.random.default_rng(0), delay_slots=2)
    assert snr.true_db_TE.shape == snr.observed_db_TE.shape == (0, 3)


@pytest.mark.parametrize("name", ["true_db_TE", "observed_db_TE"])
def test_what_is_no_number_is_named_with_its_place(name: str) -> None:
    arrays = {"true_db_TE": np.zeros((2, 3)), "observed_db_TE": np.zeros((2, 3))}
    arrays[name][1, 2] = np.nan
    with pytest.raises(InvalidInputError, match=rf"{name}\[1, 2\] is nan; expected a number of dB"):
        LinkSnr(**arrays)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1)])
def test_a_truth_that_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of true_db_TE .*\(T, E\)"):
        LinkSnr(np.zeros(shape))


@pytest.mark.parametrize("shape", [(3,), (2, 2), (3, 2)])
def test_an_observation_of_other_links_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of observed_db_TE .*\(2, 3\)"):
        LinkSnr(np.zeros((2, 3)), np.zeros(shape))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("items", -1), ("items", 2.5), ("experts", 0), ("delay_slots", -1), ("delay_slots", 0.5)),
        *(("error_db", -1), ("error_db", np.nan), ("error_db", 101)),
    ],
)
def test_a_wrong_argument_is_named(name: str, value: float) -> None:
    arguments = {"items": 2, "experts": 3, name: value}
    with pytest.raises(InvalidInputError, match=f"^{name} is"):
        LinkSnr.drawn(UniformSnr(), random=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]


def test_a_process_that_draws_another_shape_is_named() -> None:
    class Short:
        name = "short"

        def draw(self, slots: int, links: int, random: np.random.Generator) -> np.ndarray:
            return np.zeros((slots - 1, links))

    with pytest.raises(InvalidInputError, match=r"shape of a draw of short is \(3, 2\); expected .*\(4, 2\)"):
        LinkSnr.drawn(Short(), 3, 2, np.random.default_rng(0), delay_slots=1)
