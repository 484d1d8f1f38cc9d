"""Metrics as TensorBoard event files: ``tensorboard --logdir RUN/tensorboard``."""

import shutil
import time
from collections.abc import Iterable, Mapping

from airmoe.errors import require
from airmoe.files import AnyPath, as_path

EVENTS = "tensorboard"
"""The folder of a run's events."""

_FILE = "events.out.tfevents.0.airmoe"  # TensorBoard's own name would tell the name of the machine
_FORMAT = "brain.Event:2"


def write_events(folder: AnyPath, rows: Iterable[Mapping[str, str | int | float]]) -> None:
    """Append the numbers of metrics rows to the event file of a folder; make both where they are missing.

    Args:
        folder: a run in TensorBoard's sense.
        rows: each with "stage" and "round"; every other number becomes the scalar "stage/name" at that round.

    Raises:
        MissingExtraError: TensorBoard is missing, which the extras `airmoe[study]` and `airmoe[train]` bring.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from airmoe.monitor import write_events
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_events(Path(folder), [{"stage": "features", "round": 5, "macro_f1": 0.91}])
        ...     [path.name for path in Path(folder).iterdir()]
        ['events.out.tfevents.0.airmoe']
    """
    require("study", "tensorboard", by="a run that is written")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _FILE).open("ab") as file:
        writer = RecordWriter(file)
        if not file.tell():
            writer.write(Event(wall_time=time.time(), file_version=_FORMAT).SerializeToString())
        for row in rows:
            scalars = [
                Summary.Value(tag=f"{row['stage']}/{name}", simple_value=value)
                for name, value in row.items()
                if name != "round" and not isinstance(value, str)
            ]
            event = Event(wall_time=time.time(), step=int(row["round"]), summary=Summary(value=scalars))
            writer.write(event.SerializeToString())


def forget_events(run: AnyPath) -> None:
    """Remove the events of a run in the making; its checkpoints hold the rows, and they are written anew."""
    shutil.rmtree(as_path(run) / EVENTS, ignore_errors=True)
