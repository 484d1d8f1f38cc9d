"""What is seen of a mesh, of reports that the test makes."""

import json
from dataclasses import asdict, replace

import pytest

from airmoe.mesh.reporters import Reporter
from airmoe.mesh.reports import LinkReport, Report
from airmoe.monitor.happenings import AGAIN_S, MOST_EVENTS, SOON_S
from airmoe.monitor.look import LinkNow, Look, Totals
from airmoe.monitor.picture import HISTORY, Picture, Placed
from tests.monitor.reports import BEGAN_S, client, mesh_of, node

NOW_S = BEGAN_S + 1000
OWN = "own"
ALL = {Placed(1, number, number) for number in range(3)}
NODES = [node(number) for number in range(3)]


class Watching:
    """Looks at a mesh of nodes 0, 1 and 2 every two seconds."""

    def __init__(self, layers: int = 1) -> None:
        self.picture, self.at_s = Picture(mesh_of(4, layers), OWN), NOW_S

    def look(self, *told: tuple[Reporter, Report], alive: set[Placed] = ALL) -> Look:
        self.at_s += 2
        return self.picture.look(self.at_s, self.at_s - NOW_S, dict(told), alive)

    def said(self, look: Look) -> list[str]:
        """What happened since the look before, the first thing first."""
        return [event.what for event in reversed(look.events) if event.at_s == self.at_s]


@pytest.fixture
def watching() -> Watching:
    watching = Watching()
    watching.look(*NODES)
    return watching


def link(to: int, rate_bps: float | None, unanswered: int = 0) -> LinkReport:
    return LinkReport(node=to, latency_s=0.01, rate_bps=rate_bps, messages=9, unanswered=unanswered)


def test_nodes_that_are_alive_and_report_are_well(watching: Watching) -> None:
    look = watching.look(*NODES)
    assert [(each.node, each.state, each.why, each.experts) for each in look.nodes] == [
        (number, "well", None, str(number)) for number in range(3)
    ]
    assert look.nodes[0].classes == ["cat"]


def test_what_is_wrong_with_a_node_is_said(watching: Watching) -> None:
    look = watching.look(NODES[0], node(1, ill="the node is closing"), alive=ALL - {Placed(1, 2, 2)})
    assert [(each.state, each.why) for each in look.nodes] == [
        ("well", None),
        ("ill", "the node is closing"),
        ("gone", "none of its experts is alive"),
    ]
    look = watching.look(NODES[0], NODES[2])
    assert (look.nodes[1].state, look.nodes[1].why) == ("well", "it does not report")
    assert look.nodes[1].items_s is None


def test_a_node_whose_experts_are_gone_has_no_figures_though_it_reports(watching: Watching) -> None:
    look = watching.look(*NODES[:2], node(2, items=9), alive=ALL - {Placed(1, 2, 2)})
    assert (look.nodes[2].state, look.nodes[2].classes, look.nodes[2].items_s) == ("gone", None, None)


def test_experts_of_several_layers_are_told_by_layer() -> None:
    watching = Watching(layers=2)
    look = watching.look(*NODES, alive=ALL)
    assert look.nodes[1].experts == "layer 1: 1; layer 2: 1"
    assert (look.nodes[1].state, look.nodes[1].why) == ("partly", "1 of 2 experts are alive")


def test_figures_are_of_a_second(watching: Watching) -> None:
    busy = node(1, items=10, answered={"node-3": 4}, refused={"late": 2}, busy_s=0.5, waiting=3)
    seen = watching.look(NODES[0], busy, NODES[2]).nodes[1]
    assert (seen.items_s, seen.requests_s, seen.refused_s, seen.busy, seen.waiting) == (
        5.0,
        2.0,
        1.0,
        0.25,
        3,
    )


def test_totals_are_of_all_clients(watching: Watching) -> None:
    watching.look(*NODES, client(2), client(3))
    asked = client(2, batches=2, items=8, energy_j=4.0, elapsed_s=0.5, degraded=1)
    look = watching.look(*NODES, asked, client(3, batches=2, items=2, elapsed_s=0.5))
    assert look.history[-1] == Totals(0.0, 5.0, 0.4, 0.25, 0.1)
    assert look.clients == [2, 3]
    assert watching.look(*NODES, asked).history[-1] == Totals(0.0, 0.0, None, None, None)


def test_links_show_who_asks_whom_how_often_and_what_was_measured(watching: Watching) -> None:
    asked = node(1, answered={"node-2": 6, "3-af": 2, "somebody": 4})
    look = watching.look(NODES[0], asked, NODES[2], client(2, links=[link(1, 4e6), link(0, None)]))
    assert look.links == [
        LinkNow(2, 1, 3.0, 4e6, 0.01),
        LinkNow(3, 1, 1.0, None, None),
        LinkNow(2, 0, 0.0, None, 0.01),
    ]
    assert look.unplaced_s == 2.0


@pytest.mark.parametrize("sessions", [("a", "b"), ("b", "a")])
def test_of_two_clients_at_a_node_the_one_that_knows_the_rate_tells_the_link(
    watching: Watching, sessions: tuple[str, str]
) -> None:
    knows, other = sessions
    clients = client(2, knows, links=[link(1, 4e6)]), client(2, other, links=[link(1, None)])
    assert watching.look(*NODES, *clients).links == [LinkNow(2, 1, 0.0, 4e6, 0.01)]


def test_a_link_that_nothing_is_known_of_is_not_shown(watching: Watching) -> None:
    nothing = LinkReport(node=1, latency_s=None, rate_bps=None, messages=0, unanswered=0)
    assert watching.look(*NODES, client(2, links=[nothing])).links == []


def test_what_was_measured_of_a_link_to_a_node_that_is_gone_is_not_shown(watching: Watching) -> None:
    asks = client(3, links=[link(2, 4e6), link(1, 4e6)])
    look = watching.look(*NODES, asks, alive=ALL - {Placed(1, 2, 2)})
    assert look.links == [LinkNow(3, 1, 0.0, 4e6, 0.01)]


def test_links_with_fewest_requests_are_left_out_and_that_is_said(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.monitor.picture.MOST_LINKS_SHOWN", 2)
    look = watching.look(NODES[0], node(1, answered={"node-0": 1, "node-2": 3, "node-3": 2}), NODES[2])
    assert ([each.source for each in look.links], look.links_left_out) == ([2, 3], 1)


def test_who_only_watches_is_no_client(watching: Watching) -> None:
    assert watching.look(*NODES, client(3)).clients == []
    assert watching.look(*NODES, client(3, batches=1)).clients == [3]
    assert watching.look(*NODES, client(3, failed=1)).clients == [3]


def test_a_source_of_texts_is_a_client_but_for_who_watches(watching: Watching) -> None:
    report = client(3)[1].model_copy(update={"asked": None})
    assert watching.look(*NODES, (Reporter(3, "other"), report)).clients == [3]
    assert watching.look(*NODES, (Reporter(3, OWN), report)).clients == []


def test_another_model_is_not_told(watching: Watching) -> None:
    other = {"model_hash": "f" * 16}
    look = watching.look(
        *NODES[:2],
        node(2, items=8, **other),
        (Reporter(3, "x"), client(3, batches=1)[1].model_copy(update=other)),
    )
    assert look.nodes[2].why == "it does not report"
    assert look.clients == []


def test_a_node_cannot_invent_others(watching: Watching) -> None:
    look = watching.look(NODES[0], node(1, answered={"node-4": 2, "node-3": 2}), NODES[2])
    assert [link.source for link in look.links] == [3]
    assert look.unplaced_s == 1.0
    look = watching.look(*NODES, client(3, batches=1, links=[link(9, 4e6, unanswered=3), link(2, 4e6)]))
    assert [(each.source, each.target) for each in look.links] == [(3, 2)]
    assert not [event for event in look.events if "node 9" in event.what]


def test_words_of_a_node_are_no_form_to_fill(watching: Watching) -> None:
    for count, why in enumerate(("{x}", "{", "{}{}", "{:>9}", "%s"), start=1):
        look = watching.look(*NODES[:2], node(2, refused={why: count}))
        assert look.events[0].what == f"node 2 refused {count} request{'s' * (count > 1)}: {why}"


def most(session: str) -> tuple[Reporter, Report]:
    """The largest figures that a client can report."""
    return client(3, session, batches=1, items=1, energy_j=1e15, elapsed_s=1e15, degraded=(1 << 53) - 1)


def test_sums_of_the_largest_reports_can_be_told(watching: Watching) -> None:
    watching.look(*NODES, *(client(3, f"c{number}") for number in range(40)))
    look = watching.look(*NODES, *(most(f"c{number}") for number in range(40)))
    now = look.history[-1]
    assert (now.energy_j, now.degraded) == (1e15, 1.0)
    json.dumps(asdict(look), allow_nan=False)


def test_what_a_node_says_of_itself_anew_each_time_is_told_seldom(watching: Watching) -> None:
    for count in range(10):
        look = watching.look(*NODES[:2], node(2, roster=count, certificate_ends_s=NOW_S + count))
    assert len([event for event in look.events if "node 2" in event.what]) == 2


def test_the_history_has_an_end(watching: Watching) -> None:
    for _ in range(HISTORY + 5):
        look = watching.look(*NODES)
    assert len(look.history) == HISTORY


def test_what_happens_is_told_once(watching: Watching) -> None:
    gone = watching.look(*NODES[:2], alive=ALL - {Placed(1, 2, 2)})
    assert watching.said(gone) == ["node 2 is gone: none of its experts is alive"]
    assert watching.said(watching.look(*NODES[:2], alive=ALL - {Placed(1, 2, 2)})) == []
    back = watching.look(*NODES, client(1, since_s=watching.at_s, batches=1))
    assert watching.said(back) == ["node 2 is well", "a client at node 1 came"]
    assert [event.level for event in back.events[:3]] == ["note", "good", "bad"]
    assert watching.said(watching.look(*NODES)) == ["a client at node 1 left"]


def test_the_first_thing_told_is_who_is_well(watching: Watching) -> None:
    assert watching.look().events[-1].what == "looking at mesh lab: 3 of 3 nodes are well"


def test_failures_are_told_with_their_reason(watching: Watching) -> None:
    watching.look(*NODES, client(1))
    failed = client(1, batches=1, failed=1, items=8, degraded=3, links=[link(2, None, unanswered=2)])
    look = watching.look(NODES[0], NODES[1], node(2, refused={"overloaded": 4}), failed)
    assert watching.said(look) == [
        "a client at node 1 came",
        "node 2 refused 4 requests: overloaded",
        "1 batch of the client at node 1 got no answer",
        "3 images of the client at node 1 got a degraded answer",
        "node 2 left 2 messages of the client at node 1 unanswered",
    ]


def test_what_happens_again_and_again_is_one_line_that_counts(watching: Watching) -> None:
    looks = [watching.look(*NODES[:2], node(2, refused={"late": count})) for count in range(1, 6)]
    told = [event.what for event in looks[-1].events if "refused" in event.what]
    assert told == ["node 2 refused 5 requests: late"]
    watching.at_s += AGAIN_S
    later = watching.look(*NODES[:2], node(2, refused={"late": 6}))
    assert watching.said(later) == ["node 2 refused 1 request: late"]


def test_events_have_an_end(watching: Watching) -> None:
    for count in range(MOST_EVENTS):
        watching.look(*NODES, *[client(1, batches=1)] * (count % 2))
        look = watching.look(*NODES)
    assert len(look.events) == MOST_EVENTS


def test_many_kinds_of_failures_are_not_remembered_for_ever(watching: Watching) -> None:
    for number in range(2 * MOST_EVENTS):
        look = watching.look(*NODES[:2], node(2, refused={f"reason {number}": 1}))
    assert len(look.events) == MOST_EVENTS
    assert len(watching.picture._happenings._lately) == MOST_EVENTS


def test_a_certificate_that_is_soon_over_is_told_once(watching: Watching) -> None:
    ends_s = NOW_S + SOON_S - 3600
    look = watching.look(*NODES[:2], node(2, certificate_ends_s=ends_s))
    assert watching.said(look) == ["the certificate of node 2 is over in 71 hours"]
    assert watching.said(watching.look(*NODES[:2], node(2, certificate_ends_s=ends_s))) == []


def test_another_roster_is_told(watching: Watching) -> None:
    assert watching.said(watching.look(*NODES[:2], node(2, roster=2))) == ["node 2 goes by roster 2"]


def test_a_look_is_not_changed_by_the_next(watching: Watching) -> None:
    look = watching.look(*NODES)
    kept = replace(look, history=list(look.history), events=list(look.events))
    watching.look(*NODES[:1], alive=set())
    assert look == kept
