"""What is seen of a mesh at a moment."""

from dataclasses import dataclass
from typing import Literal

State = Literal["well", "partly", "ill", "gone"]
Level = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class NodeNow:
    """A node.

    Attributes:
        node: its number.
        state: "well"; "partly", where some of its experts are not alive; "ill", where it answers nobody; or
            "gone".
        why: what is wrong; None where nothing is.
        experts: that it holds, in words.
        classes, classes_held: some classes in its own data, and how many there are; None where it does not
            report.
        requests_s, items_s, refused_s: a second, since the look before; None where that is not known.
        busy: share of the time that it computed; None where that is not known.
        waiting: requests that wait; None where that is not known.
        roster: number of the roster that it goes by; None without an identity.
        certificate_ends_s: Unix time; None without an identity.
    """

    node: int
    state: State
    why: str | None
    experts: str
    classes: list[str] | None = None
    classes_held: int | None = None
    requests_s: float | None = None
    items_s: float | None = None
    refused_s: float | None = None
    busy: float | None = None
    waiting: int | None = None
    roster: int | None = None
    certificate_ends_s: float | None = None


@dataclass(frozen=True)
class LinkNow:
    """The link from the clients at a node to another node.

    Attributes:
        source, target: the nodes.
        requests_s: that the target answered, a second.
        rate_bps, latency_s: as a client measured them; None where nothing is known of late.
    """

    source: int
    target: int
    requests_s: float
    rate_bps: float | None
    latency_s: float | None


@dataclass(frozen=True)
class Totals:
    """What was asked since the look before.

    Attributes:
        requests_s: that nodes answered, a second, whoever asked.
        items_s: images a second, of the clients that report.
        energy_j: joules an image, as the links price them; None where there was no image.
        elapsed_s: seconds a batch; None where there was none.
        degraded: share of images; None where there was none.
    """

    requests_s: float
    items_s: float
    energy_j: float | None
    elapsed_s: float | None
    degraded: float | None


@dataclass(frozen=True)
class Event:
    """Something that happened: when (Unix time), what, and whether that is good."""

    at_s: float
    what: str
    level: Level


@dataclass(frozen=True)
class Look:
    """A mesh.

    Attributes:
        at_s: when, Unix time.
        nodes: that hold experts.
        clients: the nodes at which clients are; one that only watches is none.
        links: between clients' nodes and nodes, those with most requests first.
        links_left_out: how many links there are beside these.
        unplaced_s: requests a second of clients whose node their name does not tell.
        history: totals, those of this look last.
        events: the latest first.
    """

    at_s: float
    nodes: list[NodeNow]
    clients: list[int]
    links: list[LinkNow]
    links_left_out: int
    unplaced_s: float
    history: list[Totals]
    events: list[Event]
