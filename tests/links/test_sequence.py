"""Networks that change from slot to slot, and what is seen of them."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import FixedSnr, Links, Ofdma, RayleighSnr, SnrProcess, UniformSnr, link_sequence

RADIO = Ofdma(subcarriers=3, power_w=1.0, noise_w=1.0)  # gain = linear SNR


def sequence(process: SnrProcess, nodes: int = 3, slots: int = 20, **seen: float) -> list[Links]:
    return link_sequence(process, nodes, RADIO, slots, np.random.default_rng(0), **seen)  # type: ignore[arg-type]


def off_diagonal_db(links: Links) -> np.ndarray:
    return 10 * np.log10(links.gain_NNM[~np.eye(links.nodes, dtype=bool)])


def test_each_directed_link_is_a_link_of_the_process() -> None:
    (links,) = sequence(FixedSnr((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)), slots=1)
    snr_db_NN = links.snr_db([0, 1, 2])
    np.testing.assert_allclose(snr_db_NN, [[30, 1, 2], [3, 30, 4], [5, 6, 30]])


def test_all_subcarriers_of_a_link_are_alike() -> None:
    for links in sequence(RayleighSnr(10)):
        np.testing.assert_array_equal(links.gain_NNM, np.repeat(links.gain_NNM[:, :, :1], 3, axis=2))


def test_links_change_from_slot_to_slot_as_the_process_does() -> None:
    snr_db_SL = RayleighSnr(10).draw(20, 6, np.random.default_rng(0))
    found = [off_diagonal_db(links)[:, 0] for links in sequence(RayleighSnr(10))]
    np.testing.assert_allclose(found, snr_db_SL)


def test_without_delay_and_error_links_are_seen_as_they_are() -> None:
    assert all(links.observed is links for links in sequence(UniformSnr()))


def test_what_is_seen_is_the_truth_of_so_many_slots_before() -> None:
    links_S = sequence(UniformSnr(), delay_slots=2)
    assert len(links_S) == 20
    for earlier, later in zip(links_S, links_S[2:], strict=False):
        np.testing.assert_array_equal(later.observed.gain_NNM, earlier.gain_NNM)
    assert (off_diagonal_db(links_S[0].observed) != off_diagonal_db(links_S[0])).all()


def test_what_is_seen_errs_by_so_many_db() -> None:
    links_S = sequence(UniformSnr(), nodes=20, error_db=2.0)
    error_db = [off_diagonal_db(links.observed)[:, 0] - off_diagonal_db(links)[:, 0] for links in links_S]
    assert np.std(error_db) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("snr_db", [-300.0, 300.0])
def test_what_is_seen_is_finite_at_the_largest_error(snr_db: float) -> None:
    for links in sequence(FixedSnr(snr_db), error_db=100.0):
        assert np.isfinite(links.observed.gain_NNM).all()
        assert np.isfinite(links.observed.snr_db([0, 1, 2])).all()


def test_no_slots_are_no_snapshots() -> None:
    assert sequence(UniformSnr(), slots=0, delay_slots=3) == []


@pytest.mark.parametrize(
    ("name", "value"), [("nodes", 1), ("slots", -1), ("delay_slots", -1), ("error_db", 101)]
)
def test_a_wrong_argument_is_named(name: str, value: float) -> None:
    # To a process slots are items.
    with pytest.raises(InvalidInputError, match=f"^{'items' if name == 'slots' else name} is"):
        sequence(UniformSnr(), **{name: value})  # type: ignore[arg-type]
