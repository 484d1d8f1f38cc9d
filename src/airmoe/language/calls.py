"""How a batch is served in one layer, asked for anew at every batch: a mesh has other deadlines each time."""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from airmoe.checks import indices
from airmoe.dispatch import Carrier
from airmoe.errors import InvalidInputError
from airmoe.scheduling import Placement, Policy


@dataclass(frozen=True)
class LayerCall:
    """Who decides and who carries.

    Attributes:
        policy: chooses experts; None for what the model has.
        carrier: brings hidden states to experts; None for what the model has.
        deadline_s: seconds for this batch in this layer.
    """

    policy: Policy | None = None
    carrier: Carrier[Tensor, Tensor] | None = None
    deadline_s: float = math.inf


Calls = Callable[[int], AbstractContextManager[LayerCall]]
"""From the number of a layer, from 1, to a context in which one batch is served."""


class Reach(Protocol):
    """The experts of a model, as texts at one node reach them: in a mesh, or simulated in this process."""

    @property
    def node(self) -> int:
        """Where the texts rest."""

    @property
    def placements(self) -> Sequence[Placement]:
        """Where the experts of each layer live."""

    def calls(
        self, policy: Policy | str | None = None, *, deadline_s: float = 2.0, without: Collection[int] = ()
    ) -> Calls:
        """Return how the batches of one text are served."""


def left_out(without: Collection[int], last: int, source: int) -> frozenset[int]:
    """Return the nodes that are left out.

    Raises:
        InvalidInputError: a node beyond the last one, or the source, whose experts answer in the end.
    """
    nodes = frozenset(indices("without", list(without), 0, last).tolist())
    if source in nodes:
        raise InvalidInputError("without", source, "other nodes than the one where the text rests")
    return nodes
