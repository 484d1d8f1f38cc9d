"""Where the links of the moment come from."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import (
    Links,
    LinkSource,
    Ofdma,
    RayleighFading,
    RecordedLinks,
    SimulatedLinks,
    UniformSnr,
    link_sequence,
)

RADIO = Ofdma(subcarriers=4)


def flat(snr_db: float, nodes: int = 3) -> Links:
    return Links.from_snr(snr_db, RADIO, nodes)


def test_simulated_links_are_those_of_one_slot_after_another() -> None:
    fading = RayleighFading(3, RADIO, seed=5)
    source: LinkSource = SimulatedLinks(fading)
    for slot in range(4):
        np.testing.assert_array_equal(source.current().gain_NNM, fading.at(slot).gain_NNM)


def test_recorded_links_come_one_after_another_and_begin_again() -> None:
    links = [flat(snr_db) for snr_db in (1.0, 2.0, 3.0)]
    source: LinkSource = RecordedLinks(links)
    assert [source.current() for _ in range(7)] == [*links, *links, links[0]]


def test_a_sequence_of_a_process_can_be_recorded() -> None:
    links = link_sequence(UniformSnr(), 3, RADIO, 5, np.random.default_rng(0), delay_slots=1)
    source = RecordedLinks(links)
    assert [source.current().observed for _ in links] == [each.observed for each in links]


@pytest.mark.parametrize("links", [[], [flat(1.0), flat(1.0, nodes=4)]])
def test_no_links_and_links_of_different_numbers_of_nodes_are_refused(links: list[Links]) -> None:
    with pytest.raises(InvalidInputError, match="expected one or more snapshots of the same number of nodes"):
        RecordedLinks(links)


def test_threads_get_each_link_once() -> None:
    links = [flat(float(number)) for number in range(80)]
    source, together = RecordedLinks(links), threading.Barrier(4)

    def take(_: int) -> list[Links]:
        together.wait(20)
        return [source.current() for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        taken = [each for part in pool.map(take, range(4)) for each in part]
    assert {id(each) for each in taken} == {id(each) for each in links}
