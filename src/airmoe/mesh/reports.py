"""What nodes and clients tell of themselves to whoever watches the mesh: JSON, checked as it comes."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError

from airmoe.errors import FrameError
from airmoe.manifest import Index, Manifest, ShortHash
from airmoe.mesh.condition import Condition
from airmoe.mesh.counts import MOST_ASKERS
from airmoe.mesh.link_meter import LinkMeasure
from airmoe.mesh.log import PEER_NAME_LENGTH, printable
from airmoe.records import Record, refusal

REPORT_BYTES = 64 << 10
"""The most bytes of a report; a longer one is not read."""

MOST_CLASSES = 16
"""How many of its classes a node names."""

MOST_LINKS = 256
"""Of how many links a client tells, those with the lowest numbers."""

NAME_LENGTH = 40
"""How much of a class's name is told."""

Total = Annotated[int, Field(ge=0, lt=1 << 53)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Time = Annotated[float, Field(ge=0, le=1e11)]
PeerName = Annotated[str, Field(max_length=PEER_NAME_LENGTH), AfterValidator(printable)]
Line = Annotated[str, Field(max_length=200), AfterValidator(printable)]


class NodeReport(Record):
    """How a node is.

    Attributes:
        node: its number.
        model_hash: of what it serves.
        classes: names of classes in its own data, at most `MOST_CLASSES`.
        classes_held: how many classes there are in its own data.
        since_s: when it began to count, Unix time.
        answered: requests that it answered, by asker.
        items: that these had.
        refused: requests that it refused, by reason.
        busy_s: seconds that it spent on requests.
        waiting: requests that wait.
        roster: number of the roster that it goes by; None without an identity.
        certificate_ends_s: when its certificate is over, Unix time; None without an identity.
        ill: why it answers nobody; None if it is well.
    """

    kind: Literal["node"] = "node"
    node: Index
    model_hash: ShortHash
    classes: Annotated[list[Line], Field(max_length=MOST_CLASSES)]
    classes_held: Total
    since_s: Time
    answered: Annotated[dict[PeerName, Total], Field(max_length=MOST_ASKERS + 1)]
    items: Total
    refused: Annotated[dict[PeerName, Total], Field(max_length=16)]
    busy_s: Amount
    waiting: Total
    roster: Total | None
    certificate_ends_s: Time | None
    ill: Line | None

    @classmethod
    def of(cls, condition: Condition, manifest: Manifest) -> Self:
        """Return what a node in some condition reports."""
        counted, ends = condition.counted, condition.certificate_ends
        return cls(
            node=condition.node,
            model_hash=condition.model_hash,
            classes=[manifest.classes[held][:NAME_LENGTH] for held in manifest.holds[:MOST_CLASSES]],
            classes_held=len(manifest.holds),
            since_s=counted.since_s,
            answered=dict(counted.answered),
            items=counted.items,
            refused={str(why): count for why, count in counted.refused.items()},
            busy_s=counted.busy_s,
            waiting=condition.waiting,
            roster=condition.roster,
            certificate_ends_s=None if ends is None else ends.timestamp(),
            ill=condition.why_ill(datetime.now(UTC)),
        )


class LinkReport(Record):
    """What a client knows of its link to a node; see `airmoe.mesh.link_meter.LinkMeasure`.

    Attributes:
        node: the other end.
        latency_s: None where nothing is known of late.
        rate_bps: None where nothing is known of late.
        messages: how many were sent.
        unanswered: to how many nothing came back.
    """

    node: Index
    latency_s: Amount | None
    rate_bps: Amount | None
    messages: Total
    unanswered: Total

    @classmethod
    def of(cls, measures: Iterable[LinkMeasure]) -> list[Self]:
        """Return what is told of links that were measured."""
        return [
            cls(
                node=each.node,
                latency_s=each.latency_s,
                rate_bps=each.rate_bps,
                messages=each.messages,
                unanswered=each.unanswered,
            )
            for each in measures
        ]


class AskedReport(Record):
    """What a client asked about images, and what became of it.

    Attributes:
        batches: that were answered.
        failed: batches that were not: too few experts answered.
        items: images in the batches that were answered.
        degraded: images without an expert that the policy would have asked, had all been alive.
        energy_j: joules that these took, as the links price them.
        elapsed_s: seconds from images to answers.
    """

    batches: Total = 0
    failed: Total = 0
    items: Total = 0
    degraded: Total = 0
    energy_j: Amount = 0.0
    elapsed_s: Amount = 0.0


class ClientReport(Record):
    """What a client did.

    Attributes:
        node: where it is.
        model_hash: of what it asks.
        name: what it calls itself when it asks.
        since_s: when it began to count, Unix time.
        asked: about images; None for a source of texts, which does not count.
        links: to the nodes.
    """

    kind: Literal["client"] = "client"
    node: Index
    model_hash: ShortHash
    name: PeerName
    since_s: Time
    asked: AskedReport | None
    links: Annotated[list[LinkReport], Field(max_length=MOST_LINKS)]


Report = NodeReport | ClientReport


def encoded(report: Report) -> bytes:
    """Return a report as it is sent."""
    return report.model_dump_json().encode()


def decoded(data: bytes) -> Report:
    """Return a report as it came.

    Raises:
        FrameError: it is too long, no JSON, or says something that cannot be.
    """
    refuse_length(len(data))
    try:
        told = json.loads(data)
        kind = told.get("kind") if isinstance(told, dict) else None
        form = NodeReport if kind == "node" else ClientReport
        return form.model_validate(told)
    except (ValueError, RecursionError) as error:
        why = refusal(error) if isinstance(error, ValidationError) else error
        raise FrameError(f"the report is wrong: {why}") from None


def refuse_length(length: int) -> None:
    """Refuse a report by its bytes.

    Raises:
        FrameError: there are too many.
    """
    if length > REPORT_BYTES:
        raise FrameError(f"the report has {length} bytes; expected at most {REPORT_BYTES}")
