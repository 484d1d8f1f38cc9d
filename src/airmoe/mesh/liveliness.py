"""The members of a mesh that are alive: they have a liveliness token."""

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import zenoh

Member = TypeVar("Member", bound=int | tuple[int, ...])


class Liveliness(Generic[Member]):
    """The members of a mesh that are alive, watched until closed.

    ``alive`` says which they are: a set that is replaced, never changed.

    Args:
        session: an open Zenoh session.
        prefix: a member's token is ``prefix/`` and its numbers, ``prefix/3`` or ``prefix/3/1``.
        members: all possible members; other tokens are ignored.
        came: told which member is alive now, on the network's own thread.
        admits: whether a member may be alive at all.
    """

    def __init__(
        self,
        session: zenoh.Session,
        prefix: str,
        members: Iterable[Member],
        came: Callable[[Member], None] = lambda member: None,
        admits: Callable[[Member], bool] = lambda member: True,
    ) -> None:
        self._came, self._admits = came, admits
        self.alive: frozenset[Member] = frozenset()
        self._member_of = {f"{prefix}/{_name(member)}": member for member in members}
        self._changed = threading.Condition()
        self._watching = True
        self._subscriber = session.liveliness().declare_subscriber(
            f"{prefix}/**", zenoh.handlers.Callback(self._on_liveliness, indirect=False), history=True
        )

    def close(self) -> None:
        """Stop watching; the session stays open."""
        if self._watching:
            self._subscriber.undeclare()
        self._watching = False

    def forget_strangers(self) -> None:
        """Forget members that are no longer admitted: that they left may never be told."""
        with self._changed:
            self.alive = frozenset(member for member in self.alive if self._admits(member))
            self._changed.notify_all()

    def wait_until(self, enough: Callable[[frozenset[Member]], bool], timeout_s: float) -> bool:
        """Wait until enough members are alive, or the time is over; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(self.alive), timeout_s)

    def _on_liveliness(self, sample: zenoh.Sample) -> None:
        member = self._member_of.get(str(sample.key_expr))
        if member is None:
            return
        with self._changed:
            if sample.kind == zenoh.SampleKind.PUT:
                if not self._admits(member):
                    return
                self.alive |= {member}
                self._came(member)
            else:
                self.alive -= {member}
            self._changed.notify_all()


def _name(member: int | tuple[int, ...]) -> str:
    return str(member) if isinstance(member, int) else "/".join(str(number) for number in member)
