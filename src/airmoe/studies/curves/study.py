"""What a study is: its figures, the scales at which they are measured, and what it tells in the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from airmoe.studies.curves.figure import Curves, Figure
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
        name: of the command.
        title: heading of its tables.
        figures: by name, in the order in which they are measured.
        folder: holds a folder of TOML files per figure, one per curve.
        packages: whose versions are recorded; a run is resumed with the same versions only.
        told: returns what to tell at the end, of the figures that were made.
        scales: how much may be measured; the first is what is measured unless another is asked for.
        inputs: returns what is read besides settings: a run is resumed with the same only.
        keeps: folders of the workspace that become part of the run folder; all else there is removed.
    """

    name: str
    title: str
    figures: Mapping[str, Figure]
    folder: Path
    packages: tuple[str, ...]
    told: Told = lambda curves, rows: []
    scales: tuple[Scale, ...] = USUAL_SCALES
    inputs: Inputs = lambda curves, options: {}
    keeps: tuple[str, ...] = ()

    def scales_of(self, figure: str) -> tuple[Scale, ...]:
        """Return at which scales a figure is measured."""
        return self.figures[figure].scales or self.scales

    def figures_at(self, scale: Scale) -> list[str]:
        """Return the names of the figures that are measured at a scale."""
        return [name for name in self.figures if scale in self.scales_of(name)]
