"""How a node is at a moment: what it did, what waits, and whether it is well."""

import datetime
from dataclasses import dataclass

from airmoe.mesh.counts import Counted

STUCK_S = 30.0
"""A node that has computed one request for longer than this is taken to be stuck."""


@dataclass(frozen=True)
class Condition:
    """How a node is at a moment.

    Attributes:
        node: its number.
        mesh: name of the mesh.
        model_hash: of what it serves.
        counted: what it did.
        waiting: requests that wait.
        waiting_bytes: bytes that these have.
        links: sessions that are linked with it: nodes and clients.
        roster: number of the roster that it goes by; None without an identity.
        certificate_ends: when its certificate is over; None without an identity.
        is_closing: whether it takes no further request.
        has_worker: whether the thread that computes lives.
    """

    node: int
    mesh: str
    model_hash: str
    counted: Counted
    waiting: int
    waiting_bytes: int
    links: int
    roster: int | None
    certificate_ends: datetime.datetime | None
    is_closing: bool
    has_worker: bool

    @property
    def why_idle(self) -> str | None:
        """Why the node answers nobody, and would not before it is started anew; None if it works."""
        if self.is_closing:
            return "the node is closing"
        if not self.has_worker:
            return "the thread that computes has ended"
        if (at_hand_s := self.counted.at_hand_s) > STUCK_S:
            return f"one request has been computed for {at_hand_s:.0f} s; expected at most {STUCK_S:g} s"
        return None

    def why_ill(self, now: datetime.datetime) -> str | None:
        """Return why the node is of no use to others at this time; None if it is well."""
        if self.why_idle is not None:
            return self.why_idle
        if self.certificate_ends is not None and self.certificate_ends <= now:
            return f"the certificate held until {self.certificate_ends:%Y-%m-%d %H:%M} UTC: nobody is linked"
        return None
