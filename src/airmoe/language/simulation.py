"""Experts in this process, with or without links to pay for, for texts that rest at one node."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from torch import Tensor

from airmoe.checks import integer_at_least
from airmoe.dispatch import Carrier, WithoutNodes
from airmoe.language.calls import Calls, LayerCall, left_out
from airmoe.language.transformer import MoeTransformer
from airmoe.links import Links
from airmoe.nn import IdealRadioCarrier, LocalCarrier
from airmoe.scheduling import Placement, Policy
from airmoe.scheduling.parsing import as_policy


class Simulated:
    """Experts in this process, as a mesh would serve them.

    Args:
        model: whose experts they are.
        links_at: the links between the nodes at a slot; every batch in every layer takes the next slot.
            Without it, transfers cost nothing.
        node: where texts rest.
    """

    def __init__(
        self, model: MoeTransformer, links_at: Callable[[int], Links] | None = None, node: int = 0
    ) -> None:
        self.node = integer_at_least("node", node, 0)
        self.placements: list[Placement] = [block.moe.placement for block in model.blocks]  # type: ignore[misc, union-attr]
        self._links_at = links_at

    def calls(
        self,
        policy: Policy | str | None = None,
        *,
        deadline_s: float = math.inf,
        without: Collection[int] = (),
    ) -> Calls:
        """Return how the batches of one text are served, from slot 0 on.

        Args:
            policy: who chooses experts, or its text; default what the model has.
            deadline_s: seconds for each batch in each layer.
            without: nodes whose experts are left out; not the one where the text rests.

        Raises:
            InvalidInputError: a node that holds no expert, or where the text rests.
        """
        chosen = None if policy is None else as_policy(policy)
        last = max(int(placement.node_ER.max()) for placement in self.placements)
        nodes, slots = left_out(without, last, self.node), itertools.count()

        @contextmanager
        def call(number: int) -> Iterator[LayerCall]:
            carrier: Carrier[Tensor, Tensor] = LocalCarrier()
            if self._links_at is not None:
                carrier = IdealRadioCarrier(self._links_at(next(slots)))
            if nodes:
                carrier = WithoutNodes(carrier, nodes)
            yield LayerCall(chosen, carrier, deadline_s)

        return call
