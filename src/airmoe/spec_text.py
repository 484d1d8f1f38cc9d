"""Texts such as "jesa:0.3:2": a rule, and the fields of the dataclass that it names.

A text is written in its shortest form: trailing fields that have their defaults are left out, and a number
has no more digits than it needs to be read back. Colons separate the parts. In a field of text a colon is
written %3A and a percent sign %25; a path comes last and may hold colons.
"""

import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from airmoe.errors import InvalidInputError
from airmoe.parts import Parts

Made = TypeVar("Made")


class SpecText:
    """A frozen dataclass that is written as a text, its ``name``; `SpecTexts` makes an equal one from it.

    Fields are annotated with int, float, str, Path, a Literal of texts, or a number or a tuple of numbers.

    Args:
        rule: the first word; left out by a class that only shares code with its subclasses.
        needed: how many fields are always written; left out, as many as have no default.
        written: the fields in their order; left out, all that the constructor takes.

    Examples:
        >>> from dataclasses import dataclass
        >>> from airmoe.spec_text import SpecText
        >>> @dataclass(frozen=True)
        ... class Beacon(SpecText, rule="beacon", needed=1):
        ...     power_w: float = 1.0
        ...     period_s: float = 60.0
        >>> Beacon(0.5).name
        'beacon:0.5'
    """

    form: ClassVar["Form"]

    def __init_subclass__(
        cls, rule: str | None = None, needed: int | None = None, written: tuple[str, ...] | None = None
    ) -> None:
        if rule is not None:
            cls.form = Form(rule, cls, needed, written)

    @cached_property
    def name(self) -> str:
        """The shortest text that an equal instance can be made from."""
        return self.form.text_of(self)


@dataclass(frozen=True)
class Form:
    """How instances of a dataclass are written; its arguments are those of `SpecText`."""

    rule: str
    made: type[Any]
    needed: int | None = None
    written: tuple[str, ...] | None = None

    @cached_property
    def _parts(self) -> list["_Part"]:
        own, kinds = _constructed(self.made), get_type_hints(self.made)
        names = self.written or tuple(own)
        return [_part(own[name], kinds[name], last=name == names[-1]) for name in names]

    @cached_property
    def _always(self) -> int:
        """How many parts are always written."""
        if self.needed is not None:
            return self.needed
        return sum(part.field.default is MISSING for part in self._parts)

    def __str__(self) -> str:
        """Return what a text looks like, e.g. "jesa:IMPORTANCE:MAX_EXPERTS[:Z]"."""
        named = [f":{part.placeholder}" for part in self._parts]
        always, optional = named[: self._always], named[self._always :]
        return "".join([self.rule, *always, *(f"[{each}" for each in optional), "]" * len(optional)])

    def text_of(self, value: object) -> str:
        """Return the shortest text that ``value`` can be made from."""
        parts = list(self._parts)
        while len(parts) > self._always and getattr(value, parts[-1].field.name) == parts[-1].field.default:
            parts.pop()
        return ":".join([self.rule, *(part.write(getattr(value, part.field.name)) for part in parts)])

    def values_in(self, rest: str | None) -> dict[str, Any]:
        """Return the values in a text by field; ``rest`` is what follows the rule's colon, if there is one.

        Raises:
            ValueError: the parts do not fit the form.
        """
        texts = [] if rest is None else rest.split(":", max(len(self._parts) - 1, 0))
        if not self._always <= len(texts) <= len(self._parts) or "" in texts:
            raise ValueError(f"expected {self}")
        return {part.field.name: part.read(text) for part, text in zip(self._parts, texts, strict=False)}


class SpecTexts(Generic[Made]):
    """All texts of one kind.

    Args:
        kind: what errors call a text, e.g. "policy". Plugins may bring more of it; see `airmoe.plugins`.
        known: the classes, and further forms of a class.
    """

    def __init__(self, kind: str, known: Sequence[type[Any] | Form]) -> None:
        self._kind = kind
        forms: list[Form] = [each if isinstance(each, Form) else each.form for each in known]
        self._forms = Parts(kind, {form.rule: form for form in forms})

    def __str__(self) -> str:
        """Return every form, as errors and help list them."""
        *others, last = map(str, (self._forms.built_in | self._forms.own).values())
        return f"{', '.join(others)} or {last}" if others else last

    def expected(self, text: str) -> str:
        """Return what is expected of a wrong text: all forms, and more where its rule is unknown."""
        rule = text.partition(":")[0]
        return str(self) if rule in self._forms else self._forms.expected(rule, self._forms, str(self))

    def read(self, text: str, **given: object) -> Made:
        """Return what a text describes.

        Args:
            text: in one of the forms.
            given: values for fields that texts leave out, where a class has such fields.

        Raises:
            InvalidInputError: an unknown rule, or parts that do not fit it (see `expected`); or the class
                refuses a value.
        """
        rule, colon, rest = text.partition(":")
        form = self._forms.get(rule)
        try:
            values = None if form is None else form.values_in(rest if colon else None)
        except ValueError:
            values = None
        if form is None or values is None:
            raise InvalidInputError(self._kind, text, self.expected(text))
        further = _constructed(form.made).keys() - values.keys()
        made: Made = form.made(**values, **{name: given[name] for name in further & given.keys()})
        return made


@dataclass(frozen=True)
class _Part:
    """One field in a text."""

    field: Field[Any]
    placeholder: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _constructed(made: type[Any]) -> dict[str, Field[Any]]:
    """Return the fields that the constructor takes, by name."""
    return {field.name: field for field in fields(made) if field.init}


def _part(field: Field[Any], kind: Any, *, last: bool) -> _Part:
    placeholder = field.name.upper()
    if kind == float | None:  # None has no text: only forms that always write the field have it
        kind = float
    if kind in _KINDS:
        return _Part(field, placeholder, *_KINDS[kind])
    if get_origin(kind) is Literal:
        # The default of the last field is never written, so it is no choice.
        choices = [choice for choice in get_args(kind) if not last or choice != field.default]
        return _Part(field, "|".join(choices), lambda text: choices[choices.index(text)], str)
    if get_origin(kind) in (Union, types.UnionType) and set(get_args(kind)) == {float, tuple[float, ...]}:
        return _Part(field, f"{placeholder}[,{placeholder}...]", _read_numbers, _write_numbers)
    raise TypeError(f"{field.name} is annotated with {kind}, for which there is no text")


def _shortest(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _read_numbers(text: str) -> float | tuple[float, ...]:
    if "," not in text:
        return float(text)
    return tuple(float(number) for number in text.removesuffix(",").split(","))


def _write_numbers(numbers: float | tuple[float, ...]) -> str:
    if not isinstance(numbers, tuple):
        return _shortest(numbers)
    return ",".join(map(_shortest, numbers)) + "," * (len(numbers) == 1)


def _read_text(text: str) -> str:
    if ":" in text:
        raise ValueError("a colon is written %3A")
    return unquote(text)


def _write_text(text: str) -> str:
    return text.replace("%", "%25").replace(":", "%3A")


_KINDS: dict[Any, tuple[Callable[[str], Any], Callable[[Any], str]]] = {
    int: (int, str),
    float: (float, _shortest),
    str: (_read_text, _write_text),
    Path: (Path, str),
}
"""For each type of a field, what reads it and what writes it."""
