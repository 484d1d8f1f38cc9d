"""An object in a process of its own, whose methods are called from here."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")
_HANGS_AFTER_S = 900.0


class Elsewhere:
    """An object that another process makes; it lives until `close`, or as long as this process.

    Args:
        make: a class of a module that can be imported; what it makes has ``close()``.
        arguments: for it.
    """

    def __init__(self, make: Callable[..., Any], *arguments: object) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_live, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, method: str, *arguments: object) -> None:
        """Have it do something; `result` waits for what comes of it."""
        self._pipe.send((method, arguments))

    def result(self) -> Any:
        """What came of what was begun; first of all, that it was made."""
        if not self._pipe.poll(_HANGS_AFTER_S):
            raise AssertionError("a process hangs")
        returned, error = self._pipe.recv()
        if error is not None:
            raise AssertionError(f"in another process: {error}")
        return returned

    def close(self) -> None:
        """End it in order."""
        try:
            self._pipe.send(("close", ()))
            self._process.join(10)
        finally:
            self._process.kill()
            self._process.join()
            self._pipe.close()


@contextmanager
def elsewhere(make: Callable[..., Any], each: Sequence[Sequence[object]]) -> Iterator[list[Elsewhere]]:
    """Make an object of each of these arguments, all at once, in a process each."""
    with ExitStack() as open_:
        made = []
        for arguments in each:
            made.append(Elsewhere(make, *arguments))
            open_.callback(made[-1].close)
        for one in made:
            one.result()
        yield made


def together(objects: Sequence[Elsewhere], method: str, *arguments: object) -> list[Any]:
    """What comes of all doing the same at the same time."""
    for one in objects:
        one.begin(method, *arguments)
    return [one.result() for one in objects]


def _live(pipe: Connection, make: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    try:
        made = make(*arguments)
        pipe.send((None, None))
        while True:
            method, given = pipe.recv()
            if method == "close":
                made.close()
                return
            pipe.send((getattr(made, method)(*given), None))
    except EOFError:  # whoever made it is gone
        return
    except BaseException as error:
        pipe.send((None, f"{type(error).__name__}: {error}"))
        raise
