"""The metrics of a training as TensorBoard events."""

from pathlib import Path
from types import TracebackType
from typing import Self

from airmoe.runs.checkpoint import MetricsRow


class Events:
    """TensorBoard event files of metrics rows, for `tensorboard --logdir`.

    Args:
        folder: where the files lie; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, row: MetricsRow) -> None:
        """Write the numbers of a metrics row under the name of its stage."""
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['stage']}/{name}", value, row["round"])
