"""What a figure of a study is: its heading, its curves, and how its kind is measured, drawn and tabulated."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from airmoe.progress import Progress
from airmoe.records import Record
from airmoe.report.drawing import Drawing
from airmoe.report.table import Table
from airmoe.studies.curves.rows import Row, Rows
from airmoe.studies.curves.settings import USUAL_SCALES, CurveSettings, Drawable, Scale

Curves = Mapping[str, Any]
"""Curves of one figure by name. Their settings are of one class, that of the figure's kind."""


class Axis(Record):
    """An axis of a figure.

    Attributes:
        label: text with the unit; left out, it follows from the curves.
        log: whether it is logarithmic.
        range: from and to; left out, what the curves need.
    """

    label: Annotated[str, Field(max_length=100), Drawable] = ""
    log: bool = False
    # A TOML has arrays, not tuples.
    range: Annotated[tuple[float, float], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("a range as [least, most]")
        if self.range is not None and self.log and self.range[0] <= 0:
            raise ValueError("a range above 0, for the axis is logarithmic")
        return self


class Heading(Record):
    """The keys of a figure's file that are about the whole figure.

    Attributes:
        title: what it shows.
        kind: how it is measured and drawn, one of the study's kinds.
        number: its place among the figures of the study.
        scales: the scales at which it is measured.
        x_axis: axis of what is swept.
        y_axis: axis of what is measured.
    """

    title: Annotated[str, Field(min_length=1, max_length=200)]
    kind: str
    number: Annotated[int, Field(ge=0, le=10_000)]
    scales: Annotated[tuple[Scale, ...], Field(strict=False, min_length=1)] = USUAL_SCALES
    x_axis: Axis = Axis()
    y_axis: Axis = Axis()


@dataclass(frozen=True)
class Figure:
    """A figure of a study at one scale, as its file describes it.

    Attributes:
        name: name of its file, without the suffix.
        heading: see `Heading`.
        curves: its curves, in the order of the file.
    """

    name: str
    heading: Heading
    curves: Curves

    def label(self, curve: str) -> str:
        """Return the name of a curve in legends and tables."""
        return str(self.curves[curve].label or curve)

    def x_label(self, otherwise: str) -> str:
        """Return what is swept, for an axis or the head of a column, if its file does not say it."""
        return self.heading.x_axis.label or otherwise

    def over_seeds(self) -> str:
        """Return a sentence on the seeds that its tables are means over."""
        of = {self.label(name): curve.seeds for name, curve in self.curves.items()}
        if set(of.values()) == {1}:
            return "One seed, so there are no deviations."
        fewest, most = min(of.values()), max(of.values())
        if fewest == most:
            return f"Means ± standard deviations over {most} seeds."
        others = ", ".join(f"{seeds} of {label}" for label, seeds in of.items() if seeds < most)
        return f"Means ± standard deviations over {most} seeds, but {others}."


@dataclass(frozen=True)
class Workspace:
    """The place where curves of a study keep and share what is costly to make, such as trained models.

    Attributes:
        folder: an existing folder. Later curves of all figures and a resumed run find what lies there. So
            write each file whole (`airmoe.files.replaced_file`), under a name that says what it was made of.
        progress: told about what is made on the way.
        options: the study's own options of the command, such as the folder of the data, by name.
    """

    folder: Path
    progress: Progress
    options: Mapping[str, str]

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock of ``name`` within the block: one process at a time makes what is called so.

        The lock ends with the process that holds it, however it ends.
        """
        from filelock import FileLock

        path = self.folder / "locks" / f"{name}.lock"
        path.parent.mkdir(exist_ok=True)
        with FileLock(path):
            yield


Measure = Callable[[Any, int, Workspace], Iterator[Row]]
"""Yields the rows of one curve (its settings) and one seed, a row per abscissa. It is a function of a module,
since worker processes import it by its name."""


@dataclass(frozen=True)
class FigureKind:
    """How figures of one kind are measured and shown.

    Attributes:
        settings: class of the curves' settings.
        columns: names of what is measured, with units.
        measure: see `Measure`.
        draw: returns drawings by name.
        tables: returns tables.
        timed: whether its rows are times; then nothing else runs while it is measured.
    """

    settings: type[CurveSettings]
    columns: tuple[str, ...]
    measure: Measure
    draw: Callable[[Figure, Rows], dict[str, Drawing]]
    tables: Callable[[Figure, Rows], Sequence[Table]]
    timed: bool = False


@dataclass(frozen=True)
class WithoutWorkspace:
    """A kind's ``measure`` that needs settings and seed alone.

    Attributes:
        of: yields the rows of one curve and one seed.
    """

    of: Callable[[Any, int], Iterator[Row]]

    def __call__(self, settings: CurveSettings, seed: int, work: Workspace) -> Iterator[Row]:
        """Yield the rows of one curve and one seed."""
        return self.of(settings, seed)
