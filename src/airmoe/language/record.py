"""What a byte took: who computed it, joules, bits, seconds on the air, subcarriers.

Shape suffixes: B sequences, T tokens, E experts, N nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from airmoe.dispatch import Dispatched
from airmoe.nn import MoeOutput


def dispatched_of(layers: Sequence[MoeOutput]) -> list[Dispatched[Tensor]]:
    """Return what became of a batch in each layer of a model in evaluation mode."""
    return [each.dispatched for each in layers if each.dispatched is not None]


def energy_j(layers: Sequence[MoeOutput]) -> float:
    """Return J of transfers and computing, of all tokens in all layers."""
    return sum(float(done.energy_j_T.sum()) for done in dispatched_of(layers))


def leading_expert(layers: Sequence[MoeOutput], row: int) -> int:
    """Return the expert with the largest weight in a token's mixture, added up over the layers."""
    weight_E = sum(each.weights_TE[row].double() for each in layers)
    assert isinstance(weight_E, Tensor)
    return int(weight_E.argmax())


def missed_nodes(layers: Sequence[MoeOutput]) -> list[int]:
    """Return the nodes that were asked and did not answer in time, in any layer."""
    return sorted(frozenset[int]().union(*(done.missed_nodes for done in dispatched_of(layers))))


def missed_experts(layers: Sequence[MoeOutput]) -> list[int]:
    """Return the experts that a token would have had, had all been alive, and lacks, in any layer."""
    experts = set[int]()
    for done in dispatched_of(layers):
        experts |= set(np.nonzero(done.intended_TE & ~done.arrived_TE)[1].tolist())
    return sorted(experts)


def is_degraded(layers: Sequence[MoeOutput]) -> bool:
    """Return whether a token lacks an expert in some layer that it would have had, had all been alive."""
    return any(bool(done.degraded_T.any()) for done in dispatched_of(layers))


@dataclass
class TextRecord:
    """What a text took so far, step by step.

    Attributes:
        energy_j: J of transfers and computing.
        degraded: steps in which a token lacks an expert that it would have had, had all been alive.
        missed_nodes: nodes that were asked and did not answer in time.
        missed_experts: experts that a degraded token lacks.
        decided_by: names of the policies that decided.
    """

    energy_j: float = 0.0
    degraded: int = 0
    missed_nodes: set[int] = field(default_factory=set)
    missed_experts: set[int] = field(default_factory=set)
    decided_by: set[str] = field(default_factory=set)

    def add(self, layers: Sequence[MoeOutput]) -> None:
        """Add a step."""
        self.energy_j += energy_j(layers)
        self.degraded += is_degraded(layers)
        self.missed_nodes |= set(missed_nodes(layers))
        self.missed_experts |= set(missed_experts(layers))
        self.decided_by |= {done.decided_by for done in dispatched_of(layers)}


def records_of(layers: Sequence[MoeOutput], node: int) -> list[dict[str, Any]]:
    """Return a record for each layer, as JSON takes it.

    ``answers`` counts, for each expert and the node that gave it, the tokens that it answered;
    ``bits`` are those of hidden states that went to other nodes, lost ones included. ``subcarriers`` are
    those that a joint policy decided on for the links in use: from, to, number.

    Args:
        layers: of one batch.
        node: where its tokens rest.
    """
    return [_record(number, done, node) for number, done in enumerate(dispatched_of(layers), start=1)]


def _record(number: int, done: Dispatched[Tensor], node: int) -> dict[str, Any]:
    away_TE = done.requested_TE & (done.node_TE != node)
    return {
        "layer": number,
        "tokens": len(done.requested_TE),
        "decided_by": done.decided_by,
        "answers": _answers(done),
        "degraded": int(done.degraded_T.sum()),
        "energy_j": float(done.energy_j_T.sum()),
        "airtime_s": float(done.airtime_s_T.sum()),
        "bits": int(done.sent * done.bits),
        "subcarriers": _subcarriers(done, np.unique(done.node_TE[away_TE]), node),
    }


def _answers(done: Dispatched[Tensor]) -> list[dict[str, int]]:
    token_P, expert_P = done.arrived_TE.nonzero()
    node_P = done.node_TE[token_P, expert_P]
    (expert_U, node_U), tokens_U = np.unique(np.stack([expert_P, node_P]), axis=1, return_counts=True)
    return [
        {"expert": expert, "node": at, "tokens": tokens}
        for expert, at, tokens in zip(expert_U.tolist(), node_U.tolist(), tokens_U.tolist(), strict=True)
    ]


def _subcarriers(done: Dispatched[Tensor], nodes_U: NDArray[np.int64], node: int) -> list[list[int]]:
    table_NN = done.subcarrier_NN
    if table_NN is None:
        return []
    ways = [way for other in nodes_U.tolist() for way in ((node, other), (other, node))]
    return [[*way, int(table_NN[way])] for way in ways if table_NN[way] >= 0]
