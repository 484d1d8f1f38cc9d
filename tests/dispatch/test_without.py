"""Owners who leave an answer."""

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.dispatch import LossyCarrier, WithoutNodes, dispatch
from airmoe.errors import NoExpertReachedError
from airmoe.links import Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier, LocalCarrier
from airmoe.scheduling import Placement, Slot

EXPERTS = [torch.nn.Identity()] * 4
PAYLOAD_T = torch.ones(5, 3)
REPLICAS = Placement.of([[0, 3], [0, 1], [1, 2], [2, 3]])


def scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(4), 5)


@given(st.sets(st.integers(1, 3), max_size=2), st.sampled_from(["topk:2", "des:0.6:2", "jesa:0.6:2", "all"]))
def test_an_answer_without_nodes_is_that_of_a_model_without_their_experts(
    nodes: set[int], policy: str
) -> None:
    """As where their scores are nothing and nobody reaches them; and it is whole."""
    links = RayleighFading(4, Ofdma(subcarriers=16), seed=1).at(0)
    slot = Slot(np.zeros(5, np.int64), Placement(np.arange(4)), links, 1)
    carrier = WithoutNodes(IdealRadioCarrier(links), nodes)
    done = dispatch(PAYLOAD_T, scores(), policy, carrier, slot, EXPERTS)
    assert not done.requested_TE[:, sorted(nodes)].any()
    assert not done.degraded_T.any()
    assert (done.reached_T == 1).all()
    if policy == "topk:2":
        left_TE = np.where(np.isin(np.arange(4), list(nodes)), -1.0, scores())
        np.testing.assert_array_equal(np.argsort(-left_TE)[:, :2].T[0] >= 0, True)
        for row, asked in zip(left_TE, done.requested_TE, strict=True):
            assert set(np.flatnonzero(asked)) == set(np.argsort(-row)[:2])


def test_a_replica_is_asked_at_its_other_node() -> None:
    slot = Slot(np.zeros(5, np.int64), REPLICAS, None, 1)
    done = dispatch(PAYLOAD_T, scores(), "all", WithoutNodes(LocalCarrier(), {1}), slot, EXPERTS)
    assert done.arrived_TE.all()
    assert 1 not in done.node_TE
    assert set(done.node_TE[:, 2]) == {2}


def test_a_lost_node_is_no_owner_who_left() -> None:
    slot = Slot(np.zeros(5, np.int64), Placement(np.arange(4)), None, 1)
    carrier = WithoutNodes(LossyCarrier(LocalCarrier(), lost={2}), {1})
    done = dispatch(PAYLOAD_T, scores(), "all", carrier, slot, EXPERTS)
    assert done.degraded_T.all()
    assert not done.intended_TE[:, 1].any()
    assert done.intended_TE[:, 2].all()


def test_without_every_expert_there_is_no_answer() -> None:
    slot = Slot(np.full(5, 4), Placement(np.arange(4)), None, 1)
    with pytest.raises(NoExpertReachedError):
        dispatch(PAYLOAD_T, scores(), "topk:1", WithoutNodes(LocalCarrier(), range(4)), slot, EXPERTS)


def test_what_it_wraps_says_what_travels() -> None:
    links = RayleighFading(4, Ofdma(subcarriers=16), seed=1).at(0)
    inner = IdealRadioCarrier(links)
    carrier = WithoutNodes(inner, {1})
    assert carrier.links is links
    assert carrier.payload_bits(PAYLOAD_T) == inner.payload_bits(PAYLOAD_T)


def test_a_slot_that_stands_forgets_neither_prices_nor_who_can_be_asked() -> None:
    """One slot, asked about again and again: each answer is that of a slot of its own."""
    first, second = (RayleighFading(4, Ofdma(subcarriers=16), seed=seed).at(0) for seed in (1, 2))
    standing = Slot(np.zeros(5, np.int64), REPLICAS, first, 1)
    standing = standing.with_bits(IdealRadioCarrier(first).payload_bits(PAYLOAD_T))
    inner = IdealRadioCarrier(first)
    carriers = [
        inner,
        IdealRadioCarrier(second),
        WithoutNodes(inner, {1}),
        WithoutNodes(inner, {2}),
        LossyCarrier(inner, dead={3}),
        inner,
    ]
    for carrier in carriers:
        fresh = Slot(np.zeros(5, np.int64), REPLICAS, first, 1)
        ours = dispatch(PAYLOAD_T, scores(), "topk:2", carrier, standing, EXPERTS)
        theirs = dispatch(PAYLOAD_T, scores(), "topk:2", carrier, fresh, EXPERTS)
        np.testing.assert_array_equal(ours.node_TE, theirs.node_TE)
        np.testing.assert_array_equal(ours.energy_j_T, theirs.energy_j_T)


def test_what_was_chosen_does_not_outlive_its_slot() -> None:
    links = RayleighFading(4, Ofdma(subcarriers=16), seed=1).at(0)
    slot = Slot(np.zeros(5, np.int64), Placement(np.arange(4)), links, 1)
    dispatch(PAYLOAD_T, scores(), "topk:2", WithoutNodes(IdealRadioCarrier(links), {1}), slot, EXPERTS)
    gone = weakref.ref(slot)
    del slot
    gc.collect()
    assert gone() is None


def test_a_node_that_was_lost_is_named_and_its_bits_are_counted_though_a_replica_answered() -> None:
    links = RayleighFading(4, Ofdma(subcarriers=16), seed=1).at(0)
    slot = Slot(np.zeros(5, np.int64), REPLICAS, links, 1)
    carrier = IdealRadioCarrier(links)
    whole = dispatch(PAYLOAD_T, scores(), "all", carrier, slot, EXPERTS)
    lost = int(whole.node_TE[0, 2])
    done = dispatch(PAYLOAD_T, scores(), "all", LossyCarrier(carrier, lost={lost}), slot, EXPERTS)
    assert done.arrived_TE.all()
    assert done.missed_nodes == {lost}
    assert whole.missed_nodes == frozenset()
    again = int((whole.node_TE == lost).sum())
    assert whole.sent == int((whole.node_TE != 0).sum())
    assert done.sent == whole.sent + again - int(((done.node_TE == 0) & (whole.node_TE == lost)).sum())
