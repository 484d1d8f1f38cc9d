"""Settings of a curve, with defaults and bounds; unknown keys are errors."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from airmoe.records import Record
from airmoe.report.drawing import math_fault

Scale = str
"""Name of how much is measured."""

USUAL_SCALES: tuple[Scale, ...] = ("full", "quick", "smoke")
"""Full is all of it; quick shows each curve's shape; smoke shows only that everything runs."""

Count = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Experts = Annotated[int, Field(ge=1, le=64)]
Decibels = Annotated[float, Field(ge=-100, le=100)]
Seeds = Annotated[int, Field(ge=1, le=1000)]
# A TOML has arrays, not tuples.
Values = Annotated[tuple[int | float, ...], Field(strict=False, min_length=1, max_length=1000)]


def _drawable(label: str) -> str:
    if fault := math_fault(label):
        raise ValueError(f"mathematics between dollar signs that Matplotlib reads ({fault})")
    return label


Drawable = AfterValidator(_drawable)
"""A label is tried before its figure is measured."""


def none_is(word: str) -> tuple[BeforeValidator, PlainSerializer]:
    """Return what makes a word of a file stand for None: TOML has no null, and defaults may be numbers."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        if value != word:
            raise ValueError(f'an integer of at least 1, or "{word}"')
        return None

    return BeforeValidator(read), PlainSerializer(lambda value: word if value is None else value)


class CurveSettings(Record):
    """One curve: one parameter is swept over values, and each value is measured with several seeds.

    Attributes:
        SCALES: defaults of this kind of figure by scale, where they differ.
        SWEPT_IS_X: whether what is swept is the abscissa of the figure, so that all of its curves sweep it.
        label: its name in legends and tables; left out, the name of its table in the file.
        seeds: how many seeds, counted from the one that the command is given.
        swept: the setting that is swept.
        values: what it is set to.
    """

    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    SWEPT_IS_X: ClassVar[bool] = False

    label: Annotated[str, Field(max_length=60), Drawable] = ""
    seeds: Seeds = 5
    swept: str = ""
    values: Values = (0,)

    def at(self, value: float) -> Self:
        """Return the same curve at one value of what is swept; `ValidationError` if it does not fit."""
        return self.model_validate(self.model_dump() | {self.swept: value})

    @property
    def x_values(self) -> Sequence[float]:
        """The abscissae; every seed has one row of results at each."""
        return self.values
