"""Owners who leave an answer."""

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
