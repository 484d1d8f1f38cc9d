"""What a study is: its figures, the scales at which they are measured, and what it tells in the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from airmoe.errors import InvalidInputError, one_of
from airmoe.studies.curves.figure import Curves, Figure, FigureKind, Heading
from airmoe.studies.curves.figure_file import read_figure, read_heading
from airmoe.studies.curves.rows import Rows
from airmoe.studies.curves.settings import USUAL_SCALES, Scale

Told = Callable[[Mapping[str, Curves], Mapping[str, Rows]], list[str]]
"""(curves by figure, rows by figure) to lines of text."""


Inputs = Callable[[Mapping[str, Curves], Mapping[str, str]], dict[str, str]]
"""(curves by figure, the study's own options) to a digest of each thing that is read, by name."""


@dataclass(frozen=True)
class Study:
    """A study: ``airmoe study NAME``.

    Attributes:
        name: name of its command.
        title: heading of its tables.
        kinds: kinds of figures, by the name in files.
        folder: holds a TOML file per figure.
        packages: packages whose versions are recorded; a run is resumed only with the same versions.
        told: returns what to tell at the end about the figures that were made.
        scales: how much may be measured; the first is the default.
        inputs: returns what is read besides settings; a run is resumed only with the same inputs.
        keeps: folders of the workspace that become part of the run folder; all else there is removed.
        threads: how many threads a curve is measured on; None is up to one for each core.
    """

    name: str
    title: str
    kinds: Mapping[str, FigureKind]
    folder: Path
    packages: tuple[str, ...]
    told: Told = lambda curves, rows: []
    scales: tuple[Scale, ...] = USUAL_SCALES
    inputs: Inputs = lambda curves, options: {}
    keeps: tuple[str, ...] = ()
    threads: int | None = None

    @cached_property
    def figures(self) -> dict[str, Heading]:
        """The headings of the figures that are built in, by name, in the order in which they are measured."""
        return self._headings(self.folder)

    def figures_in(self, folder: Path) -> dict[str, Heading]:
        """Return the headings of the figures that a folder describes instead.

        Raises:
            InvalidInputError: it is no folder, holds no figure, or one that the study does not have.
        """
        files = sorted(folder.glob("*.toml")) if folder.is_dir() else []
        if not files:
            raise InvalidInputError("settings", str(folder), "a folder with a TOML file per figure")
        for path in files:
            if path.stem not in self.figures:
                raise InvalidInputError(f"{folder}: figure", path.stem, one_of(path.stem, self.figures))
        return self._headings(folder)

    def read(self, figure: str, scale: Scale | None = None, folder: Path | None = None) -> Figure:
        """Return a figure at a scale, by default its first.

        Args:
            figure: its name.
            scale: one of the figure's.
            folder: holds its file; left out, the figure that is built in.

        Raises:
            InvalidInputError: as of `read_figure`.
        """
        path = (folder or self.folder) / f"{figure}.toml"
        return read_figure(path, self.kinds, self.scales, scale)

    def is_of_one_size(self, figure: str, folder: Path) -> bool:
        """Return whether a figure of a folder is measured alike at its several scales."""
        path = folder / f"{figure}.toml"
        scales = read_heading(path, self.kinds, self.scales).scales
        first, *others = (self.read(figure, scale, folder) for scale in scales)
        return bool(others) and all(other == first for other in others)

    def kind_of(self, figure: Figure) -> FigureKind:
        """Return how a figure is measured and shown."""
        return self.kinds[figure.heading.kind]

    def _headings(self, folder: Path) -> dict[str, Heading]:
        found = {path.stem: read_heading(path, self.kinds, self.scales) for path in folder.glob("*.toml")}
        return dict(sorted(found.items(), key=lambda item: (item[1].number, item[0])))
