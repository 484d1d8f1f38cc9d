"""Placements, costs and slots: what they hold, and what they refuse."""

from typing import Any

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.scheduling import Cost, Placement, Slot

INF = np.inf


def test_a_placement_lists_nodes_by_expert_and_experts_by_node() -> None:
    placement = Placement.of([[0], [1], [0, 1]])
    assert [placement.nodes_of(expert) for expert in range(3)] == [[0], [1], [0, 1]]
    assert [placement.experts_at(node) for node in range(2)] == [[0, 2], [1, 2]]
    assert (placement.experts, placement.replicas) == (3, 2)
    assert placement.first_E.tolist() == [0, 1, 0]


def test_an_array_of_nodes_is_a_placement_without_replicas() -> None:
    assert Placement([2, 0]).node_ER.tolist() == [[2], [0]]


def test_a_placement_keeps_what_it_was_made_of() -> None:
    nodes = np.array([[0, 1], [1, 2]])
    placement = Placement(nodes)
    nodes[0] = 7
    assert placement.node_ER.tolist() == [[0, 1], [1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        placement.node_ER[0, 0] = 5


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ([0, -1], r"placement\[1\] is -1; expected at least one node"),
        ([[0, 1], [-1, -1]], r"placement\[1\] is \[-1, -1\]; expected at least one node"),
        ([[0, 0]], r"placement\[0\] is \[0, 0\]; expected each node of an expert once"),
        ([], r"shape of placement is \(0,\); expected \(E,\) or \(E, R\)"),
        ([[[0]]], r"shape of placement is \(1, 1, 1\); expected \(E,\) or \(E, R\)"),
        ([-2], r"placement\[0\] is -2"),
        ([0.5], "placement is 'float64'; expected an array of integers"),
        (np.ma.array([0, 1], mask=[False, True]), "placement is 'a masked array'"),
    ],
)
def test_what_is_no_placement_is_refused(nodes: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Placement(nodes)


def test_what_cannot_be_reached_takes_for_ever_even_if_no_airtime_is_given() -> None:
    assert Cost([[INF, 1.0]]).airtime_s_TE.tolist() == [[INF, 0.0]]


@pytest.mark.parametrize(
    ("energy", "airtime", "named"),
    [
        ([1.0], None, r"shape of energy_j_TE is \(1,\); expected \(T, E\)"),
        ([[-1.0]], None, r"energy_j_TE\[0, 0\] is -1.0"),
        ([[1e300]], None, r"energy_j_TE\[0, 0\] is 1e\+300; expected 0 to 1e\+250 J"),
        ([[1.0]], [[np.nan]], r"airtime_s_TE\[0, 0\] is nan"),
        ([[1.0]], [[1.0, 2.0]], r"shape of airtime_s_TE is \(1, 2\); expected \(T, E\) = \(1, 1\)"),
    ],
)
def test_what_is_no_cost_is_refused(energy: Any, airtime: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Cost(energy, airtime)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"bits_T": [-1.0]}, r"bits_T\[0\] is -1.0; expected a finite number >= 0"),
        ({"bits_T": [np.nan]}, r"bits_T\[0\] is nan"),
        ({"node_TE": [[1, 1]]}, r"node_TE\[0, 0\] is 1; expected a node that holds the expert"),
        ({"node_TE": [[0, 1, 2]]}, r"shape of node_TE is \(1, 3\)"),
        ({"node_TE": [[0.0, 1.0]]}, "node_TE is 'float64'; expected an array of integers"),
        ({"snr": np.zeros((1, 2))}, "snr is 'ndarray'; expected a LinkSnr, or None"),
        ({"links": "links"}, "links is 'str'; expected Links, or None"),
    ],
)
def test_what_is_no_slot_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Slot([0], [0, 1], **options)


def test_a_slot_of_replicas_has_the_first_node_of_each_until_told_otherwise() -> None:
    links = Links.from_snr(np.array([[0, 3, 6], [3, 0, 3], [6, 3, 0.0]]), Ofdma(subcarriers=6))
    slot = Slot([0], Placement.of([[1, 2]]), links)
    assert slot.node_TE.tolist() == [[1]]
    assert slot.observed_snr_db_TE == pytest.approx(np.array([[3.0]]))
    elsewhere = Slot([0], Placement.of([[1, 2]]), links, node_TE=[[2]])
    assert elsewhere.observed_snr_db_TE == pytest.approx(np.array([[6.0]]))


def test_computing_costs_every_expert_what_it_says() -> None:
    assert Placement([0, 1]).compute_j_E.tolist() == [0.0, 0.0]
    assert Placement([0, 1], compute_j=2e-4).compute_j_E.tolist() == [2e-4, 2e-4]
    assert Placement([[0, 1], [1, -1]], compute_j=[1e-4, 2e-4]).compute_j_E.tolist() == [1e-4, 2e-4]


@pytest.mark.parametrize(
    ("compute_j", "named"),
    [
        (-1e-4, r"compute_j is -0.0001; expected 0 to 1e\+250 J"),
        (1e300, r"compute_j is 1e\+300"),
        ([1e-4, np.inf], r"compute_j\[1\] is inf"),
        ([1e-4], r"shape of compute_j is \(1,\); expected \(\) or \(E,\) = \(2,\)"),
    ],
)
def test_joules_that_no_expert_spends_are_refused(compute_j: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Placement([0, 1], compute_j)
