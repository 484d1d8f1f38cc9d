"""Processes without memory, and what all processes hold to."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.links import FixedSnr, OneBadSnr, SnrProcess, SpreadSnr, TraceSnr, UniformSnr, make_process

FORMS = [
    *("fixed:10", "uniform:-5:20", "spread:10:5", "one-bad:-10:20", "rayleigh:10", "rician:10:5"),
    *("gauss-markov:10:0.9", "jakes:10:0.01", "path-loss:80:3.5:200", "trace"),
]


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module", params=FORMS)
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SnrProcess:
    """One process of each kind; that of TR 38.901 has tests of its own."""
    if request.param != "trace":
        return make_process(request.param)
    file = tmp_path_factory.mktemp("trace") / "trace.csv"
    file.write_text("SNR\n1\n2\n3\n4\n5\n-\n6\n7\n")
    return TraceSnr(file)


@settings(deadline=None)  # SciPy is loaded by the first draw that needs it
@given(slots=st.integers(0, 40), links=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_a_draw_has_a_finite_number_for_every_slot_and_link(
    process: SnrProcess, slots: int, links: int, seed: int
) -> None:
    snr_db_SL = process.draw(slots, links, random(seed))
    assert snr_db_SL.shape == (slots, links)
    assert snr_db_SL.dtype == np.float64
    assert np.isfinite(snr_db_SL).all()


def test_the_same_generator_draws_the_same(process: SnrProcess) -> None:
    np.testing.assert_array_equal(process.draw(7, 3, random(5)), process.draw(7, 3, random(5)))


@pytest.mark.parametrize(
    ("slots", "links", "named"),
    [(-1, 2, "slots is -1"), (1.5, 2, "slots is 1.5"), (3, 0, "links is 0"), (3, True, "links is True")],
)
def test_a_draw_of_an_impossible_size_is_refused(
    process: SnrProcess, slots: int, links: int, named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        process.draw(slots, links, random())


def test_a_fixed_snr_holds_for_all_links_in_every_slot() -> None:
    assert (FixedSnr(7.5).draw(3, 2, random()) == 7.5).all()


def test_a_fixed_snr_may_differ_between_links() -> None:
    np.testing.assert_array_equal(FixedSnr((10.0, -5.0)).draw(3, 2, random()), [[10.0, -5.0]] * 3)


def test_fixed_snrs_are_as_many_as_the_links() -> None:
    with pytest.raises(InvalidInputError, match="links is 3; expected 2"):
        FixedSnr((10.0, -5.0)).draw(1, 3, random())


@pytest.mark.parametrize("snr_db", [np.nan, np.inf, 301, "10", None, True, (), (1.0, np.nan), [1.0]])
def test_a_fixed_snr_is_a_number_or_a_tuple_of_numbers(snr_db: float) -> None:
    with pytest.raises(InvalidInputError, match="snr_db"):
        FixedSnr(snr_db)


def test_the_training_law_is_uniform_and_independent() -> None:
    snr_db_SL = UniformSnr(-5.0, 20.0).draw(40_000, 2, random())
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        np.testing.assert_allclose(np.quantile(snr_db_SL, share, axis=0), -5 + 25 * share, atol=0.3)
    assert abs(np.corrcoef(snr_db_SL.T)[0, 1]) < 0.02
    assert abs(np.corrcoef(snr_db_SL[:-1, 0], snr_db_SL[1:, 0])[0, 1]) < 0.02


def test_spread_is_the_same_steps_in_every_slot() -> None:
    snr_db_SL = SpreadSnr(10.0, 5.0).draw(500, 5, random())
    np.testing.assert_allclose(np.sort(snr_db_SL, axis=1), [[5.0, 7.5, 10.0, 12.5, 15.0]] * 500)


def test_spread_gives_every_link_every_step_equally_often() -> None:
    snr_db_SL = SpreadSnr(0.0, 1.0).draw(9000, 3, random())
    for step in (-1.0, 0.0, 1.0):
        np.testing.assert_allclose((snr_db_SL == step).mean(axis=0), 1 / 3, atol=0.02)


def test_spread_of_a_single_link_is_its_mean() -> None:
    assert (SpreadSnr(10.0, 5.0).draw(4, 1, random()) == 10.0).all()


def test_one_link_is_bad() -> None:
    np.testing.assert_array_equal(OneBadSnr().draw(2, 3, random()), [[-10.0, 20.0, 20.0]] * 2)
    np.testing.assert_array_equal(OneBadSnr(0.0, 5.0, bad_link=2).draw(1, 3, random()), [[5.0, 5.0, 0.0]])


def test_the_bad_link_is_one_of_them() -> None:
    with pytest.raises(InvalidInputError, match="bad_link is 3; expected a link from 0 to 2"):
        OneBadSnr(bad_link=3).draw(1, 3, random())


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (UniformSnr, {"low_db": np.nan}),
        (UniformSnr, {"high_db": 301}),
        (UniformSnr, {"low_db": 21}),
        (SpreadSnr, {"mean_db": np.inf}),
        (SpreadSnr, {"spread_db": -1}),
        (OneBadSnr, {"bad_db": np.nan}),
        (OneBadSnr, {"good_db": "20"}),
        (OneBadSnr, {"bad_link": -1}),
        (OneBadSnr, {"bad_link": 0.0}),
    ],
)
def test_a_wrong_parameter_is_named(kind: type, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=f"^{next(iter(wrong))} is"):
        kind(**wrong)


def test_a_process_of_ones_own_needs_no_more_than_a_name_and_draw() -> None:
    from airmoe.links import LinkSnr

    class Rising:
        name = "rising"

        def draw(self, slots: int, links: int, random: np.random.Generator) -> np.ndarray:
            return np.tile(np.arange(float(slots))[:, np.newaxis], links)

    snr = LinkSnr.drawn(Rising(), 2, 3, random(), delay_slots=1)
    np.testing.assert_array_equal(snr.true_db_TE, [[1.0] * 3, [2.0] * 3])
    np.testing.assert_array_equal(snr.observed_db_TE, [[0.0] * 3, [1.0] * 3])


def test_files_are_read_once(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("SNR\n1\n2\n")
    process = TraceSnr(file)
    file.unlink()
    assert set(process.draw(9, 2, random()).ravel()) == {1.0, 2.0}
