"""How clients' gates stay alike in stage 3, or do not.

The server may average them after every round (FedAvg); clients may average theirs with a neighbour's; or each
may keep its own. The paper calls FedGate personalised and partially synchronised and gives no exact rule:
`Partial` is a reading of it, in two forms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from airmoe.checks import number_within
from airmoe.spec_text import SpecText, SpecTexts


class Sync(Protocol):
    """Says whose gates are averaged; `airmoe.plugins` brings your own.

    Where the server averages nothing, every client ends with a gate of its own.
    """

    averages: bool
    """Whether the server sends its gate in every round and takes the mean of what comes back."""

    @property
    def name(self) -> str:
        """The text that `make_sync` reads."""

    def neighbours(self, client: int, clients: int, round_: int) -> Sequence[int]:
        """Return the clients to whom a client sends its gate after a round.

        A client takes the mean of its own gate and of those that it was sent.
        """
        ...


@dataclass(frozen=True)
class FedAvg(SpecText, rule="fedavg"):
    """The server averages the whole gate, weighted by images: all clients end with the same one."""

    averages: ClassVar[bool] = True

    def neighbours(self, client: int, clients: int, round_: int) -> Sequence[int]:
        """Return nobody."""
        return ()


@dataclass(frozen=True)
class Alone(SpecText, rule="none"):
    """Every client trains a gate of its own; only questions and answers travel."""

    averages: ClassVar[bool] = False

    def neighbours(self, client: int, clients: int, round_: int) -> Sequence[int]:
        """Return nobody."""
        return ()


@dataclass(frozen=True)
class Ring(SpecText, rule="ring"):
    """Client i sends its gate to the clients i - 1 and i + 1, modulo their number."""

    averages: ClassVar[bool] = False

    def neighbours(self, client: int, clients: int, round_: int) -> Sequence[int]:
        """Return both neighbours, of which there may be one or none."""
        return sorted({(client - 1) % clients, (client + 1) % clients} - {client})


@dataclass(frozen=True)
class Partial(SpecText, rule="partial"):
    """The server averages the gate; to its logits each client adds a bias per expert that it never sends.

    Without an anchor nothing holds a client back: its own expert is right about its own images, and where the
    features tell classes badly, the bias sends everything home. The anchor (ours) is the factor of a further
    term: about questions that others asked this client, its gate is to say what the averaged gate says.

    Args:
        anchor: the factor, at least 0.
    """

    anchor: float = 0.0

    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number_within("anchor", self.anchor, 0, 1e6)

    def neighbours(self, client: int, clients: int, round_: int) -> Sequence[int]:
        """Return nobody."""
        return ()


_SYNCS = SpecTexts[Sync]("sync", (FedAvg, Alone, Ring, Partial))


def make_sync(text: str) -> Sync:
    """Return the rule of this name.

    Args:
        text: "fedavg", "none", "ring", "partial[:ANCHOR]", or one that a plugin brings.

    Raises:
        InvalidInputError: none of these (the message lists them), or a parameter out of range.

    Examples:
        >>> from airmoe.networked.syncs import make_sync
        >>> make_sync("ring").neighbours(client=0, clients=5, round_=0)
        [1, 4]
    """
    return _SYNCS.read(text)


def gates_differ(sync: Sync) -> bool:
    """Return whether clients end with gates of their own."""
    return not sync.averages or isinstance(sync, Partial)
