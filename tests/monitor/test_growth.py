"""How much counts grew between two looks, whoever comes, leaves or starts anew meanwhile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.mesh.reports import AskedReport, LinkReport
from airmoe.monitor.growth import NEW_S, Growth, NodeGrowth
from tests.monitor.reports import BEGAN_S, client, node

LATER_S = BEGAN_S + 1000


def link(to: int, unanswered: int) -> LinkReport:
    return LinkReport(node=to, latency_s=None, rate_bps=None, messages=9, unanswered=unanswered)


def test_the_first_look_tells_no_growth() -> None:
    grown = Growth().since(LATER_S, dict([node(1, items=50), client(2, items=9)]))
    assert (grown.nodes, grown.asked, grown.unanswered) == ({}, {}, {})


def test_growth_is_what_came_since_the_look_before() -> None:
    growth = Growth()
    growth.since(LATER_S, dict([node(1, items=50, answered={"a": 2}, refused={"late": 1}, busy_s=2.0)]))
    more = node(1, items=57, answered={"a": 3, "b": 4}, refused={"late": 1, "wrong": 2}, busy_s=2.5)
    assert growth.since(LATER_S + 1, dict([more])).nodes == {
        1: NodeGrowth({"a": 1, "b": 4}, 7, {"wrong": 2}, 0.5)
    }


def test_a_client_that_came_since_counts_from_nothing() -> None:
    growth = Growth()
    growth.since(LATER_S, {})
    key, report = client(2, batches=2, items=9, energy_j=1.0, since_s=LATER_S + 0.5, links=[link(1, 3)])
    grown = growth.since(LATER_S + 1, {key: report})
    assert grown.asked == {key: AskedReport(batches=2, items=9, energy_j=1.0)}
    assert grown.unanswered == {(key, 1): 3}


def test_all_that_a_client_asked_is_what_came_since() -> None:
    growth, (key, before) = (
        Growth(),
        client(2, batches=5, failed=2, items=9, degraded=4, energy_j=3.0, elapsed_s=1.5),
    )
    growth.since(LATER_S, {key: before})
    _, after = client(2, batches=6, failed=3, items=12, degraded=6, energy_j=3.5, elapsed_s=2.0)
    assert growth.since(LATER_S + 1, {key: after}).asked[key] == AskedReport(
        batches=1, failed=1, items=3, degraded=2, energy_j=0.5, elapsed_s=0.5
    )


def test_what_was_out_of_sight_for_long_makes_no_peak() -> None:
    growth = Growth()
    growth.since(LATER_S, {})
    grown = growth.since(LATER_S + 1, dict([client(2, items=9000), node(1, items=9000)]))
    assert not grown.asked
    assert not grown.nodes


def test_a_client_that_comes_back_is_counted_from_where_it_was() -> None:
    growth = Growth()
    growth.since(LATER_S, dict([client(2, items=10)]))
    growth.since(LATER_S + 1, {})
    key, report = client(2, items=14)
    assert growth.since(LATER_S + 2, {key: report}).asked[key].items == 4


def test_a_node_that_started_anew_counts_from_nothing() -> None:
    growth = Growth()
    growth.since(LATER_S, dict([node(1, items=50)]))
    anew = node(1, "b", items=60, since_s=LATER_S + 0.5)
    assert growth.since(LATER_S + 1, dict([anew])).nodes[1].items == 60


def test_a_node_that_goes_on_in_another_session_is_counted_once() -> None:
    growth = Growth()
    growth.since(LATER_S, dict([node(1, items=50)]))
    both = dict([node(1, "a", items=52), node(1, "b", items=52)])
    assert growth.since(LATER_S + 1, both).nodes[1].items == 2
    assert growth.since(LATER_S + 2, dict([node(1, "b", items=55)])).nodes[1].items == 3


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_sessions_of_a_node_the_one_that_counted_more_is_newer(order: int) -> None:
    growth = Growth()
    growth.since(LATER_S, dict([node(1, items=50)]))
    both = [node(1, "a", items=52), node(1, "b", items=55)][::order]
    assert growth.since(LATER_S + 1, dict(both)).nodes[1].items == 5


def test_clients_that_left_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airmoe.monitor.growth.MOST_REMEMBERED", 2)
    growth = Growth()
    for number in (2, 3, 2, 4):
        growth.since(LATER_S, dict([client(number, items=10)]))
    assert not growth.since(LATER_S + 1, dict([client(3, items=14)])).asked
    assert growth.since(LATER_S + 1, dict([client(4, items=14)])).asked


def test_a_clock_that_is_wrong_makes_no_peak() -> None:
    growth = Growth()
    growth.since(LATER_S, {})
    ahead = client(2, items=9000, since_s=LATER_S + 2 * NEW_S)
    assert not growth.since(LATER_S + 1, dict([ahead])).asked


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_all_growth_together_is_what_there_is(steps: list[int]) -> None:
    growth, total, told = Growth(), 0, 0
    growth.since(LATER_S, dict([client(1), node(2)]))
    for number, step in enumerate(steps):
        total += step
        key, report = client(1, items=total)
        grown = growth.since(LATER_S + number, dict([(key, report), node(2, items=total)]))
        told += grown.asked[key].items
        assert grown.nodes[2].items == step
    assert told == total
