"""Emulated links go with the clock, and say what a message over them goes through."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import EmulatedLinks, Links, Ofdma, RayleighFading

RADIO = Ofdma(subcarriers=2, subcarrier_hz=1e6)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def at(snr_db: float, nodes: int = 2) -> Links:
    return Links.from_snr(snr_db, RADIO, nodes)


def test_a_slot_holds_for_as_long_as_told_and_the_first_comes_after_the_last() -> None:
    clock, slots = Clock(), [at(0.0), at(10.0), at(20.0)]
    source = EmulatedLinks(slots, slot_s=0.5, clock=clock)
    seen = []
    for clock.now_s in (100.0, 100.49, 100.51, 101.2, 101.6):
        seen.append(source.current())
    assert [slots.index(each) for each in seen] == [0, 0, 1, 2, 0]


def test_the_slots_of_a_fading_process_come_one_by_one_each_the_same_object() -> None:
    clock, fading = Clock(), RayleighFading(3, RADIO, seed=4)
    source = EmulatedLinks(fading, slot_s=1.0, clock=clock)
    assert source.current() is source.current()
    clock.now_s += 7.3
    assert np.array_equal(source.current().gain_NNM, fading.at(7).gain_NNM)


def test_a_message_takes_its_bits_over_the_rate_of_the_best_subcarrier() -> None:
    links = Links.from_snr([[[0, 0], [-3, 10 * np.log10(3)]], [[-np.inf, -np.inf], [0, 0]]], RADIO)
    source = EmulatedLinks([links])
    assert source.carries_s(0, 1, 1e6) == pytest.approx(0.5)  # log2(1 + 3) = 2 bit/s per Hz
    assert source.carries_s(1, 0, 1.0) is None


def test_losses_have_their_probability_and_are_the_same_again_with_the_same_seed() -> None:
    first, again, other = (EmulatedLinks([at(0.0)], loss=0.3, seed=seed) for seed in (1, 1, 2))
    drawn = [[each.loses(0, 1) for _ in range(4000)] for each in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert np.mean(drawn[0]) == pytest.approx(0.3, abs=0.03)
    assert drawn[0] != [first.loses(1, 0) for _ in range(4000)]
    assert not any(EmulatedLinks([at(0.0)]).loses(0, 1) for _ in range(100))


@pytest.mark.parametrize(
    ("name", "links", "options"),
    [
        ("nodes of the emulated links", [], {}),
        ("nodes of the emulated links", [at(0.0), at(0.0, 3)], {}),
        ("slot_s", [at(0.0)], {"slot_s": 0.0}),
        ("delay_s", [at(0.0)], {"delay_s": -1.0}),
        ("loss", [at(0.0)], {"loss": 1.5}),
        ("seed", [at(0.0)], {"seed": -1}),
    ],
)
def test_what_is_wrong_is_named(name: str, links: list[Links], options: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match=name):
        EmulatedLinks(links, **options)  # type: ignore[arg-type]


def test_links_that_share_nothing_have_their_best_subcarrier_each() -> None:
    from airmoe.scheduling import allocate_subcarriers

    alone = Ofdma(subcarriers=1, shared=False)
    found_NN = allocate_subcarriers(Links.from_snr(0.0, alone, nodes=4))
    assert found_NN.tolist() == (np.diag([-1] * 4)).tolist()
    shared_NN = allocate_subcarriers(Links.from_snr(0.0, Ofdma(subcarriers=1), nodes=4))
    assert (shared_NN == 0).sum() == 1
