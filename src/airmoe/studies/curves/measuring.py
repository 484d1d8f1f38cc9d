"""Measuring of curves, a seed at a time, in this process or by the workers of an executor."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed
from dataclasses import dataclass, replace

from airmoe.errors import AirmoeError, telling
from airmoe.plugins import Plugin, load_plugins, loaded_plugins, plugin_digests
from airmoe.progress import silent
from airmoe.studies.curves.figure import FigureKind, Measure, Workspace
from airmoe.studies.curves.rows import Row
from airmoe.studies.curves.settings import CurveSettings
from airmoe.trouble import line_about

_ONE_AT_A_TIME = threading.Lock()
"""Threads of a process share its random state: an executor of threads measures one curve after the other."""


@dataclass(frozen=True)
class Piece:
    """One seed of one curve.

    Attributes:
        figure: name of the figure.
        curve: name of the curve.
        kind: kind of the figure.
        settings: settings of the curve.
        seed: one of the curve's seeds.
    """

    figure: str
    curve: str
    kind: FigureKind
    settings: CurveSettings
    seed: int

    def __str__(self) -> str:
        return f"{self.activity}, seed {self.seed}"

    @property
    def activity(self) -> str:
        """What progress calls the curve."""
        return f"{self.figure}: {self.curve}"

    @property
    def rows_of_curve(self) -> int:
        """How many rows the curve has with all of its seeds."""
        return self.settings.seeds * len(self.settings.x_values)


@dataclass(frozen=True)
class Measured:
    """The rows of a piece, and the seconds that they took."""

    rows: list[Row]
    seconds: float


def measure_here(
    pieces: Sequence[Piece], work: Workspace, note: str = ""
) -> Iterator[tuple[Piece, Measured]]:
    """Measure one piece after the other in this process; ``note`` is shown beside the progress.

    Raises:
        AirmoeError: as of `measure_piece`.
    """
    done = Counter[str]()
    for piece in pieces:

        def row_done(piece: Piece = piece) -> None:
            done[piece.activity] += 1
            work.progress(piece.activity, done[piece.activity], piece.rows_of_curve, note)

        if not done[piece.activity]:
            work.progress(piece.activity, 0, piece.rows_of_curve, note)
        kind, settings = piece.kind, piece.settings
        yield piece, measure_piece(str(piece), kind.measure, settings, piece.seed, work, row_done)


def measure_elsewhere(
    pieces: Sequence[Piece], work: Workspace, executor: Executor
) -> Iterator[tuple[Piece, Measured]]:
    """Measure pieces with an executor; yield each when it is done. Workers have to reach the workspace.

    Raises:
        AirmoeError: as of `measure_piece`, or a worker ended. Pieces that were not begun are cancelled.
        RuntimeError: a piece fails with an error that is not airmoe's; it names the piece.
    """
    done, seconds = Counter[str](), defaultdict[str, float](float)
    there = replace(work, folder=work.folder.resolve(), progress=silent)
    asked = dict[Future[Measured], Piece]()
    try:
        for piece in pieces:
            what = (str(piece), piece.kind.measure, piece.settings, piece.seed, there, loaded_plugins())
            asked[executor.submit(_measure_for_another, *what)] = piece
        for future in as_completed(asked):
            piece, measured = asked[future], _result_of(future)
            done[piece.activity] += len(measured.rows)
            seconds[piece.activity] += measured.seconds
            note = f"({seconds[piece.activity]:.1f} s in workers)"
            work.progress(piece.activity, done[piece.activity], piece.rows_of_curve, note)
            yield piece, measured
    finally:
        for future in asked:
            future.cancel()


def _result_of(future: Future[Measured]) -> Measured:
    """Return what a worker measured; any error but those of `_measure_for_another` is the executor's."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        cause: Exception = error
    except (AirmoeError, RuntimeError):
        raise
    except Exception as error:
        cause = error
    why = f" ({cause})" if str(cause) else ""
    raise AirmoeError(f"a worker ended before its work was done{why}; resume the run") from cause


def measure_piece(
    named: str,
    measure: Measure,
    settings: CurveSettings,
    seed: int,
    work: Workspace,
    row_done: Callable[[], None] = lambda: None,
) -> Measured:
    """Return the rows of one curve and one seed.

    Args:
        named: figure, curve and seed, for errors.
        measure: function of the figure's kind.
        settings: settings of the curve.
        seed: one of the curve's seeds.
        work: holds what is shared with other curves.
        row_done: called after each row.

    Raises:
        AirmoeError: measuring fails; ``named`` stands in front. Other errors have it as a note.
    """
    rows: list[Row] = []
    with _ONE_AT_A_TIME, telling(named):
        begin = time.monotonic()
        for row in measure(settings, seed, work):
            rows.append(row)
            row_done()
        return Measured(rows, time.monotonic() - begin)


def _measure_for_another(
    named: str,
    measure: Measure,
    settings: CurveSettings,
    seed: int,
    work: Workspace,
    plugins: Sequence[Plugin],
) -> Measured:
    """Measure a piece with the plugins of the process that asked.

    Errors become ones that can travel to that process, whatever they hold.
    """
    try:
        with telling("a worker"):
            load_plugins(plugin.path for plugin in plugins)
            for plugin in plugins:
                if plugin_digests()[plugin.file] != plugin.sha256:
                    raise AirmoeError(f"{plugin.path} has changed since the run began")
        return measure_piece(named, measure, settings, seed, work)
    except AirmoeError as error:
        raise AirmoeError(str(error)) from error
    except Exception as error:
        if line := line_about(error):
            raise AirmoeError(f"{named}: a worker: {line}") from error
        raise RuntimeError(f"{named}: {type(error).__name__}: {error}") from error
