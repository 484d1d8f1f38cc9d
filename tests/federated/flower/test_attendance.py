"""Who is invited: clients by the names of their nodes; one that missed is asked again, ever more rarely."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from airmoe.federated.flower.attendance import MOST_ROUNDS_OUT, Attendance, Node, name_of_client

EARLY, LATE = "2026-01-01T00:00:00", "2026-01-01T01:00:00"
NODES = [Node(100 + client, name_of_client(client), EARLY, online_until=60.0) for client in range(3)]


def alive(node: Node, seconds: float = 1e9) -> Node:
    """The node after another sign of life."""
    return replace(node, online_until=node.online_until + seconds)


def test_the_name_of_a_node_is_its_client() -> None:
    assert Attendance(3).invited(reversed(NODES)) == dict(enumerate(NODES))


def test_nodes_of_other_names_take_no_part() -> None:
    strange = ["", "client-3", "client-03", "client--1", "client-1 ", "admin"]
    assert Attendance(3).invited([replace(NODES[0], name=name) for name in strange]) == {}


def test_of_two_nodes_for_one_client_the_one_that_came_last_counts() -> None:
    newer = Node(7, NODES[0].name, LATE, 60.0)
    for nodes in ([NODES[0], newer], [newer, NODES[0]]):
        assert Attendance(1).invited(nodes) == {0: newer}


def test_a_client_that_missed_sits_out_a_round() -> None:
    attendance = Attendance(3)
    attendance.next_round()
    attendance.missed(1, NODES[1])
    nodes = [alive(node) for node in NODES]
    assert list(attendance.invited(nodes)) == [0, 2]
    attendance.next_round()
    assert list(attendance.invited(nodes)) == [0, 2]
    attendance.next_round()
    assert list(attendance.invited(nodes)) == [0, 1, 2]


def test_a_client_without_a_sign_of_life_since_is_not_asked() -> None:
    attendance = Attendance(3)
    attendance.missed(1, NODES[1])
    for _ in range(50):
        attendance.next_round()
    assert list(attendance.invited(NODES)) == [0, 2]
    assert list(attendance.invited([NODES[0], alive(NODES[1]), NODES[2]])) == [0, 1, 2]


def test_a_node_that_began_anew_is_asked_at_once() -> None:
    attendance = Attendance(3)
    attendance.missed(1, NODES[1])
    assert 1 in attendance.invited([replace(NODES[1], active_since=LATE)])
    assert 1 in attendance.invited([replace(NODES[1], node=999)])


@given(st.integers(1, 30))
def test_the_more_it_misses_the_longer_it_sits_out_but_never_longer_than_the_most(misses: int) -> None:
    attendance = Attendance(3)
    for _ in range(misses):
        attendance.missed(1, NODES[1])
    out = 0
    attendance.next_round()
    while 1 not in attendance.invited([alive(NODES[1])]):
        out += 1
        attendance.next_round()
    assert out == min(2 ** (misses - 1), MOST_ROUNDS_OUT)


def test_where_too_few_are_left_those_that_sit_out_are_asked_too() -> None:
    attendance = Attendance(3)
    attendance.next_round()
    attendance.missed(1, NODES[1])
    assert list(attendance.invited(NODES, at_least=2)) == [0, 2]
    assert list(attendance.invited(NODES, at_least=3)) == [0, 1, 2]
    assert list(attendance.invited(NODES, among={1, 2}, at_least=2)) == [1, 2]
    assert list(attendance.invited(NODES, among={1, 2}, at_least=1)) == [2]


def test_an_answer_makes_up_for_all_misses() -> None:
    attendance = Attendance(3)
    for _ in range(4):
        attendance.missed(1, NODES[1])
    attendance.answered(1)
    assert 1 in attendance.invited(NODES)
