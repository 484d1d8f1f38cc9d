"""Parts of a run that are known by name: those of airmoe, and those that plugins bring.

`airmoe.plugins` fills the table; whoever takes a name reads it through `Parts`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from airmoe.errors import InvalidInputError, did_you_mean

Kind = Literal["policy", "gate", "channel", "partition", "backbone", "aggregation", "query", "sync"]
"""What a plugin can bring."""

KINDS: tuple[str, ...] = get_args(Kind)

YOUR_OWN = "one of your own (--plugin FILE.py, or airmoe.plugins.register)"

Made = TypeVar("Made")


@dataclass(frozen=True)
class Part:
    """A part that is no part of airmoe.

    Attributes:
        kind: what it is.
        name: what texts and settings call it.
        made: makes it, or describes how it is made.
        origin: the file or module that it comes from.
    """

    kind: str
    name: str
    made: Any
    origin: str


_parts: dict[tuple[str, str], Part] = {}
_used: set[tuple[str, str]] = set()
_built_in: dict[str, set[str]] = {}


def add_part(part: Part) -> None:
    """Make a part known. One of the same origin and name is replaced: a notebook runs a cell again.

    Raises:
        InvalidInputError: the name is taken.
    """
    _refuse_built_in(part)
    other = _parts.get((part.kind, part.name))
    if other is not None and other.origin != part.origin:
        raise _taken(part, other.origin)
    _parts[part.kind, part.name] = part
    _used.discard((part.kind, part.name))


def remove_parts(origin: str) -> list[Part]:
    """Forget all parts of an origin, and return them."""
    found = [part for part in _parts.values() if part.origin == origin]
    for part in found:
        del _parts[part.kind, part.name]
    return found


def parts_from(origin: str) -> list[Part]:
    """Return all parts of an origin."""
    return [part for part in _parts.values() if part.origin == origin]


def is_used(part: Part) -> bool:
    """Return whether somebody has asked for a part by its name since it was added."""
    return (part.kind, part.name) in _used


class Parts(Mapping[str, Made]):
    """All parts of one kind by name: airmoe's own first, then those of plugins.

    Args:
        kind: a `Kind`, or another word for what plugins cannot bring.
        built_in: airmoe's own.
    """

    def __init__(self, kind: str, built_in: Mapping[str, Made]) -> None:
        self._kind, self.built_in = kind, dict(built_in)
        _built_in.setdefault(kind, set()).update(built_in)

    def __getitem__(self, name: str) -> Made:
        if name in self.built_in:
            return self.built_in[name]
        made = self.own[name]
        _used.add((self._kind, name))
        return made

    def __iter__(self) -> Iterator[str]:
        yield from (*self.built_in, *self.own)

    def __len__(self) -> int:
        return len(self.built_in) + len(self.own)

    @property
    def own(self) -> dict[str, Made]:
        """Those of plugins.

        Raises:
            InvalidInputError: one has the name of one of airmoe's.
        """
        found = [part for part in _parts.values() if part.kind == self._kind]
        for part in found:
            _refuse_built_in(part)
        return {part.name: part.made for part in found}

    def expected(self, name: str, known: Iterable[str], listed: str) -> str:
        """Return what is expected of a name: those that are listed, one of your own, and which is near.

        Args:
            name: a wrong one.
            known: the names that would do.
            listed: all of them, in words.
        """
        own = f", or {YOUR_OWN}" * (self._kind in KINDS)
        return f"{listed}{own}{did_you_mean(name, known)}"


def _refuse_built_in(part: Part) -> None:
    if part.name in _built_in.get(part.kind, ()):
        raise _taken(part, "airmoe")


def _taken(part: Part, by: str) -> InvalidInputError:
    return InvalidInputError(f"name of a {part.kind} in {part.origin}", part.name, f"another: {by} has it")
