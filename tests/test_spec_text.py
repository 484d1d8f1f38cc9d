"""Texts from the fields of dataclasses: written as short as can be, read back as the same, or refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.spec_text import Form, SpecText, SpecTexts


@dataclass(frozen=True)
class Siren(SpecText, rule="siren"):
    loudness_db: float
    tones: int = 2
    shape: Literal["saw", "sine", "square"] = "sine"


@dataclass(frozen=True)
class Light(SpecText, rule="light"):
    colour: Literal["red", "green"] = "red"
    flashes: int = 1


@dataclass(frozen=True)
class Sign(SpecText, rule="sign", needed=1):
    words: str = "stop"
    heights_m: float | tuple[float, ...] = 2.0


@dataclass(frozen=True)
class Film(SpecText, rule="film", written=("path",)):
    path: Path
    title: str = "untitled"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InvalidInputError("seed", self.seed, "at least 0")

    @property
    def name(self) -> str:
        return (self.form if self.title == "untitled" else NAMED_FILM).text_of(self)


@dataclass(frozen=True)
class Silence(SpecText, rule="silence"):
    pass


NAMED_FILM = Form("named-film", Film, needed=2, written=("title", "path"))
NUMBERS = st.floats(allow_nan=False)
SIGNALS = SpecTexts[Any]("signal", (Siren, Light, Sign, Film, NAMED_FILM, Silence))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Siren(3.0), "siren:3"),
        (Siren(0.25, 5), "siren:0.25:5"),
        (Siren(1e-7, 2, "saw"), "siren:1e-07:2:saw"),
        (Siren(float("-inf")), "siren:-inf"),
        (Light(), "light"),
        (Light("green"), "light:green"),
        (Light("red", 2), "light:red:2"),
        (Sign(), "sign:stop"),
        (Sign("50%: go"), "sign:50%25%3A go"),
        (Sign("go", 3.5), "sign:go:3.5"),
        (Sign("go", (1.0, 2.5)), "sign:go:1,2.5"),
        (Sign("go", (1.0,)), "sign:go:1,"),
        (Film(Path("a:b/c.mp4")), "film:a:b/c.mp4"),
        (Film(Path("a:b"), "M: %"), "named-film:M%3A %25:a:b"),
        (Silence(), "silence"),
    ],
)
def test_a_value_is_written_in_its_shortest_form_and_made_again_from_it(value: SpecText, text: str) -> None:
    assert value.name == text
    assert SIGNALS.read(text) == value


@given(
    st.one_of(
        st.builds(Siren, NUMBERS, st.integers(), st.sampled_from(["saw", "sine", "square"])),
        st.builds(Light, st.sampled_from(["red", "green"]), st.integers()),
        st.builds(Sign, st.text(min_size=1), NUMBERS | st.lists(NUMBERS, min_size=1).map(tuple)),
        st.builds(Film, st.text(min_size=1).map(Path), st.text(min_size=1)),
    )
)
def test_whatever_a_value_holds_it_is_made_again_from_its_text(value: SpecText) -> None:
    again = SIGNALS.read(value.name)
    assert again == value
    assert again.name == value.name


def test_last_fields_may_be_written_although_they_have_their_defaults() -> None:
    assert SIGNALS.read("siren:3:2") == Siren(3.0)
    assert SIGNALS.read("sign:stop:2.0") == Sign()


def test_forms_are_made_from_the_fields() -> None:
    assert str(SIGNALS) == (
        "siren:LOUDNESS_DB[:TONES[:saw|square]], light[:red|green[:FLASHES]], "
        "sign:WORDS[:HEIGHTS_M[,HEIGHTS_M...]], film:PATH, named-film:TITLE:PATH or silence"
    )
    assert str(SpecTexts[Siren]("signal", (Siren,))) == "siren:LOUDNESS_DB[:TONES[:saw|square]]"


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "horn", "horn:3", "Siren:3", "siren", "siren:", "siren:loud", "siren:3:2.5"),
        *("siren:3:two", "siren:3:2:sine", "siren:3:2:round", "siren:3:2:saw:1", "siren:3::saw"),
        *("light:blue", "light:green:", "sign", "sign:", "sign:a:b"),
        *("sign:a:1,,2", "sign:a:,", "film", "film:", "named-film:a", "named-film:a:", "named-film::a"),
        *("silence:", "silence:1", " silence"),
    ],
)
def test_what_does_not_fit_is_refused_with_every_form(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        SIGNALS.read(text)
    assert str(refused.value).partition("; did you mean")[0] == f"signal is {text!r}; expected {SIGNALS}"


@pytest.mark.parametrize(
    ("text", "near"),
    [("sirn:3", "siren"), ("Siren:3", "siren"), ("flim:a", "film"), ("horn:3", None), ("siren:loud", None)],
)
def test_the_rule_that_was_probably_meant_is_named(text: str, near: str | None) -> None:
    with pytest.raises(InvalidInputError) as refused:
        SIGNALS.read(text)
    meant = "" if near is None else f"; did you mean {near}?"
    assert str(refused.value) == f"signal is {text!r}; expected {SIGNALS}{meant}"


def test_what_the_class_refuses_is_told_in_its_own_words() -> None:
    with pytest.raises(InvalidInputError, match=r"^seed is -1; expected at least 0$"):
        SIGNALS.read("film:a", seed=-1)


def test_what_texts_leave_out_is_given_where_a_class_has_it() -> None:
    assert SIGNALS.read("film:a", seed=3) == Film(Path("a"), seed=3)
    assert SIGNALS.read("siren:3", seed=-1) == Siren(3.0)


def test_a_field_without_a_text_is_the_authors_mistake() -> None:
    @dataclass(frozen=True)
    class Odd(SpecText, rule="odd"):
        parts: list[int]

    with pytest.raises(TypeError, match=r"parts is annotated with list\[int\], for which there is no text"):
        str(Odd.form)
