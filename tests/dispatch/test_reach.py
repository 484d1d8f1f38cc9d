"""How many experts too few subcarriers leave out of reach, and who is told."""

import logging

import numpy as np
import pytest

from airmoe.cli.settings import networked_settings
from airmoe.dispatch import why_out_of_reach
from airmoe.dispatch.reach import warn_of_reach
from airmoe.errors import InvalidInputError
from airmoe.links import Ofdma, RayleighFading
from airmoe.scheduling import allocate_subcarriers


def test_the_share_that_is_told_is_the_one_that_the_standing_assignment_reaches() -> None:
    fading = RayleighFading(20, Ofdma(subcarriers=128))
    reached_N = (allocate_subcarriers(fading.at(0)) >= 0).sum(axis=1)
    assert np.mean(reached_N) == pytest.approx(6.4)
    assert reached_N.max() < 19
    why = why_out_of_reach(20, 128)
    assert why == (
        "128 subcarriers are too few for the 380 links between 20 nodes: 252 links have none, and a node "
        "reaches 6.4 of 19 others on average, unless a joint policy decides; 380 subcarriers serve all links"
    )


@pytest.mark.parametrize(
    ("clients", "subcarriers", "links", "reached", "cure"),
    [
        (90, 8_010, None, "", ""),
        (91, 8_103, "8,190", "89.0 of 90", "at most 8,103 fit in memory; analog links need none"),
        (100, 6_710, "9,900", "67.1 of 99", "at most 6,710 fit in memory; analog links need none"),
        (200, 1_677, "39,800", "8.4 of 199", "at most 1,677 fit in memory; analog links need none"),
        (1000, 67, "999,000", "0.1 of 999", "at most 67 fit in memory; analog links need none"),
    ],
)
def test_a_training_with_many_clients_is_told_what_it_gets(
    clients: int, subcarriers: int, links: str | None, reached: str, cure: str
) -> None:
    settings = networked_settings("digits", None, clients, None)
    assert settings.links.subcarriers == subcarriers
    why = why_out_of_reach(clients, settings.links.subcarriers)
    assert (why is None) == (links is None)
    for part in (f"{subcarriers:,} subcarriers", f"the {links} links", f"reaches {reached} others", cure):
        assert why is None or part in why


@pytest.mark.parametrize(("nodes", "subcarriers"), [(1, 1), (2, 2), (11, 110), (11, 128)])
def test_enough_subcarriers_leave_nothing_to_say(nodes: int, subcarriers: int) -> None:
    assert why_out_of_reach(nodes, subcarriers) is None
    assert subcarriers == 1 or why_out_of_reach(nodes, nodes * (nodes - 1) - 1) is not None


def test_only_ideal_links_need_subcarriers_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "airmoe"):
        warn_of_reach(20, 128, "analog")
        assert caplog.text == ""
        warn_of_reach(20, 128, "ideal")
    assert "links.subcarriers: 128 subcarriers are too few for the 380 links" in caplog.text


def test_a_count_below_one_is_named() -> None:
    with pytest.raises(InvalidInputError, match="subcarriers is 0"):
        why_out_of_reach(3, 0)
