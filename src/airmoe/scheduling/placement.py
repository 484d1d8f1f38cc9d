"""Which nodes hold each expert of a layer.

Shape suffixes: E experts, R replicas.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import indices, read_only, real_array, refuse_where
from airmoe.errors import InvalidInputError
from airmoe.scheduling.cost import MOST_J
from airmoe.showing import OneLine

NOWHERE = -1


@dataclass(frozen=True, eq=False, repr=False)
class Placement(OneLine):
    """The node, or the nodes, of each expert; an expert that several nodes hold has replicas.

    Args:
        nodes: integer (E,), the node of each expert; or (E, R), its nodes, filled up with -1.
        compute_j: a_j, J that each expert spends on an item wherever it runs, one number or (E,), from 0 to
            1e250.

    Raises:
        InvalidInputError: another shape, a node below -1, an expert that is nowhere or twice at one node, or
            joules out of range.

    Examples:
        >>> from airmoe.scheduling import Placement
        >>> placement = Placement.of([[0], [1], [0, 1]])  # expert 2 lives on both nodes
        >>> placement.node_ER.tolist()
        [[0, -1], [1, -1], [0, 1]]
    """

    node_ER: NDArray[np.int64]
    compute_j_E: NDArray[np.float64]

    def __init__(self, nodes: ArrayLike, compute_j: ArrayLike = 0.0) -> None:
        given = indices("placement", nodes, NOWHERE, np.iinfo(np.int64).max)
        if given.ndim not in (1, 2) or not given.size:
            raise InvalidInputError("shape of placement", given.shape, "(E,) or (E, R), E at least 1")
        node_ER = given[:, np.newaxis] if given.ndim == 1 else given
        object.__setattr__(self, "node_ER", read_only(node_ER.copy()))
        for expert in np.flatnonzero(~np.any(self.exists_ER, axis=1)).tolist():
            raise InvalidInputError(f"placement[{expert}]", given[expert].tolist(), "at least one node")
        for expert in range(self.experts if self.replicas > 1 else 0):
            held = self.nodes_of(expert)
            if len(set(held)) < len(held):
                raise InvalidInputError(f"placement[{expert}]", held, "each node of an expert once")
        joules = real_array("compute_j", compute_j)
        refuse_where("compute_j", joules, ~((joules >= 0) & (joules <= MOST_J)), f"0 to {MOST_J:g} J")
        if joules.shape not in ((), (self.experts,)):
            raise InvalidInputError("shape of compute_j", joules.shape, f"() or (E,) = ({self.experts},)")
        object.__setattr__(self, "compute_j_E", np.broadcast_to(joules.copy(), self.experts))

    @classmethod
    def of(cls, nodes: Iterable[Iterable[int]]) -> Placement:
        """Return the placement of experts whose nodes are listed one after another."""
        lists = [list(held) for held in nodes]
        most = max(map(len, lists), default=1)
        return cls([[*held, *[NOWHERE] * (most - len(held))] for held in lists])

    @property
    def experts(self) -> int:
        """The number of experts, E."""
        return len(self.node_ER)

    @property
    def replicas(self) -> int:
        """The largest number of nodes that hold one expert, R."""
        return int(self.node_ER.shape[1])

    @cached_property
    def exists_ER(self) -> NDArray[np.bool_]:
        """True where an expert has a replica of this number."""
        return np.asarray(self.node_ER != NOWHERE)

    @cached_property
    def first_E(self) -> NDArray[np.int64]:
        """The first node of each expert."""
        return np.asarray(self.node_ER[np.arange(self.experts), self.exists_ER.argmax(axis=1)])

    def nodes_of(self, expert: int) -> list[int]:
        """Return the nodes that hold an expert."""
        return [node for node in self.node_ER[expert].tolist() if node != NOWHERE]

    def experts_at(self, node: int) -> list[int]:
        """Return the experts that a node holds."""
        return np.flatnonzero((self.node_ER == node).any(axis=1)).tolist()
