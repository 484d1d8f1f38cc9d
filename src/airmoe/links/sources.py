"""Sources of links: each call returns a snapshot, and the next call a later one."""

import itertools
from collections.abc import Sequence
from typing import Protocol

from airmoe.errors import InvalidInputError
from airmoe.links.snapshot import Links


class LinkSource(Protocol):
    """Gives the links of this moment. A client of the mesh asks it once per query, from any thread."""

    def current(self) -> Links:
        """Return the links of this moment."""
        ...


class Fading(Protocol):
    """Links by slot: `airmoe.links.RayleighFading`, `airmoe.links.MultipathFading`, or one of your own."""

    def at(self, slot: int) -> Links:
        """Return the links in this slot, an integer >= 0."""
        ...


class SimulatedLinks:
    """The links of consecutive slots of a fading process, beginning with slot 0; each call is a slot.

    Args:
        fading: draws the links of each slot.
    """

    def __init__(self, fading: Fading) -> None:
        self._fading, self._slots = fading, itertools.count()

    def current(self) -> Links:
        """Return the links of the next slot."""
        return self._fading.at(next(self._slots))


class RecordedLinks:
    """Given links, one snapshot after another; after the last the first comes again.

    `link_sequence` makes such snapshots from any SNR process, e.g. a measured trace (`TraceSnr`).

    Args:
        links: at least one snapshot, all of the same number of nodes.

    Raises:
        InvalidInputError: no links, or links between different numbers of nodes.
    """

    def __init__(self, links: Sequence[Links]) -> None:
        refuse_mixed("recorded", links)
        self._links, self._turns = list(links), itertools.count()

    def current(self) -> Links:
        """Return the next links."""
        return self._links[next(self._turns) % len(self._links)]


def refuse_mixed(what: str, links: Sequence[Links]) -> None:
    """Refuse snapshots that are none at all, or between different numbers of nodes."""
    nodes = sorted({each.nodes for each in links})
    if len(nodes) != 1:
        expected = "one or more snapshots of the same number of nodes"
        raise InvalidInputError(f"nodes of the {what} links", nodes, expected)
