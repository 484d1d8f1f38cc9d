"""Folders of clients in the making: written aside, moved into the run folder when all are whole."""

import contextlib
import operator
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from airmoe.errors import InvalidInputError

_ASIDE = ".export"


@contextlib.contextmanager
def written_aside(folder: Path, *parts: str) -> Iterator[Path]:
    """Yield a folder with empty parts; afterwards move them into ``folder``, or leave nothing on an error.

    Raises:
        InvalidInputError: ``folder`` holds a part already.
    """
    for part in parts:
        if (folder / part).exists():
            raise InvalidInputError("folder", str(folder), f"one without {part}/ in it")
    is_new, aside = not folder.exists(), folder / _ASIDE
    shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed
    try:
        for part in parts:
            (aside / part).mkdir(parents=True)
        yield aside
        for part in parts:
            (aside / part).rename(folder / part)
        aside.rmdir()
    except BaseException:
        shutil.rmtree(folder if is_new else aside, ignore_errors=True)
        raise


def share(source: Path, target: Path) -> None:
    """Make ``target`` the same file, or a copy where the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy(source, target)  # with its mode


def nodes_of_experts(
    placement: Sequence[Sequence[int]] | None, experts: int, clients: int, server: bool
) -> list[list[int]]:
    """Return the nodes of each expert, ascending; without a placement expert e is at node e.

    Raises:
        InvalidInputError: an expert at no client or at one that is none, or a client that neither serves nor
            asks.
    """
    nodes_of = [[expert] for expert in range(experts)]
    if placement is not None:
        try:
            nodes_of = [sorted({operator.index(node) for node in nodes}) for nodes in placement]
        except TypeError:
            expected = "for each expert a list of the nodes that serve it"
            raise InvalidInputError("placement", placement, expected) from None
    used = {node for nodes in nodes_of for node in nodes}
    if len(nodes_of) != experts or not all(nodes_of) or not used <= set(range(clients)):
        expected = f"for each of {experts} experts one or more of the {clients} clients"
        raise InvalidInputError("placement", nodes_of, expected)
    if server and len(used) < clients:
        expected = f"an expert at each of the {clients} clients, of which none asks"
        raise InvalidInputError("placement", nodes_of, expected)
    return nodes_of
