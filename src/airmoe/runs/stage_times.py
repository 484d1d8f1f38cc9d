"""How long each stage of a training took, over all processes that worked at it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from airmoe.errors import RunFolderError
from airmoe.files import replaced_file
from airmoe.newfolder import CHECKPOINTS
from airmoe.progress import Progress

SECONDS = "seconds.json"
"""Beside the checkpoints. Rows of metrics hold no times, for a resumed run has the same rows."""


class StageTimes:
    """Counts the seconds between reports of progress, by activity; they are kept beside the checkpoints.

    What an interruption undid is counted, too: it took its time.

    Args:
        partial: the run folder in the making.
        clock: seconds that pass.

    Raises:
        RunFolderError: the seconds of the run that is taken up are damaged.
    """

    def __init__(self, partial: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = partial / CHECKPOINTS / SECONDS, clock
        self._last_s = clock()
        self.seconds: dict[str, float] = {}
        if self._path.exists():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                self.seconds = {str(stage): float(seconds) for stage, seconds in kept.items()}
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise RunFolderError(f"{self._path} is damaged ({error}); remove it") from None

    def counting(self, progress: Progress) -> Progress:
        """Return a callback that counts the time of each activity, and passes on what it is told."""

        def counted(activity: str, done: int, total: int, note: str = "", /) -> None:
            now_s = self._clock()
            self.seconds[activity] = self.seconds.get(activity, 0.0) + now_s - self._last_s
            self._last_s = now_s
            if self._path.parent.exists():  # there is something to resume
                with replaced_file(self._path) as temporary:
                    temporary.write_text(json.dumps(self.seconds), encoding="utf-8")
            progress(activity, done, total, note)

        return counted
