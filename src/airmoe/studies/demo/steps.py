"""How long each step of the demonstration takes."""

import contextlib
import time
from collections.abc import Iterator

from airmoe.report.results import StepTime


class StepClock:
    """The seconds of each step, in order."""

    def __init__(self) -> None:
        self.times: list[StepTime] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block; the time counts only if the block succeeds."""
        begin = time.monotonic()
        yield
        self.times.append(StepTime(step=name, seconds=time.monotonic() - begin))
