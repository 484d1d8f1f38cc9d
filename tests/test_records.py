"""Every field of every record refuses a wrong value in our words, and takes NumPy's scalars."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError
from pydantic_core.core_schema import ErrorType

import airmoe
from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.errors import InvalidInputError
from airmoe.manifest import RadioSettings, RadioSpec
from airmoe.networked.config import DataSettings, NetworkedConfig
from airmoe.records import EXPECTED, Record, refusal
from airmoe.studies.gating.settings import GatingSettings

PYDANTIC = re.compile(
    r"Input should|should be|a valid|greater than|less than or|Field required|Extra inputs|Value error|"
    r"pydantic|validation error|dictionary|instance of",
)
WRONG: tuple[object, ...] = (
    *(None, True, -(2**70), 2**70, -1, 1.5, -1e308, float("nan"), float("inf"), "", "\0 wrong", "x" * 5000),
    *([], [None], ["x"] * 3000, {}, {"surprise": 1}, object, (1, 2), b"x"),
)


def records() -> Iterator[type[Record]]:
    source = Path(airmoe.__path__[0])
    for path in source.rglob("*.py"):
        if "from pydantic import" in path.read_text(encoding="utf-8"):  # fields have bounds
            module = path.relative_to(source).with_suffix("").parts
            importlib.import_module(".".join(("airmoe", *module)))
    left: list[type[Record]] = [Record]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if kind.__module__.startswith("airmoe.") and kind is not Record:
            yield kind


FIELDS = [(kind, name) for kind in records() for name in kind.model_fields]


def test_there_are_all_settings_and_the_manifest() -> None:
    names = {kind.__name__ for kind, _ in FIELDS}
    assert names >= {"NetworkedConfig", "ChannelAwareConfig", "GatingSettings", "Heading", "Manifest"}


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_a_wrong_value_is_refused_in_our_words(kind: type[Record], field: str) -> None:
    refused = 0
    for value in WRONG:
        with pytest.raises(ValidationError) as raised:
            kind.model_validate({"surprise": 0, field: value})  # the key that is unknown comes last
        error = raised.value
        first = error.errors()[0]
        if first["loc"][:1] != (field,):
            continue  # this value is right, or another field is missing
        refused += 1
        said = str(refusal(error))
        assert not PYDANTIC.search(said)
        assert said.count("\n") == 0
        assert len(said) < 900
        assert re.match(rf"(?s){re.escape(field)}[.\w]* is .+; expected .+", said), said
        assert not said.endswith("another value"), f"no words for {first['type']}"
    required = [name for name, info in kind.model_fields.items() if info.is_required()]
    assert refused > 5 or field not in required[:1]


def test_our_words_are_for_errors_that_there_are() -> None:
    assert EXPECTED.keys() <= set(get_args(ErrorType))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([NetworkedConfig, ChannelAwareConfig, RadioSpec, GatingSettings]), st.data())
def test_what_is_made_of_anything_is_right_or_refused_in_our_words(
    kind: type[Record], data: st.DataObject
) -> None:
    values = data.draw(st.dictionaries(st.sampled_from(list(kind.model_fields)), ANYTHING, max_size=3))
    said = ""
    try:
        kind(**values)
    except InvalidInputError as error:
        said = str(error).replace(repr(error.value), "")
    assert not PYDANTIC.search(said)


def test_a_field_of_a_section_is_named_in_full() -> None:
    wrong: Any = {"clients": 0}
    with pytest.raises(InvalidInputError, match=r"^data\.clients is 0; expected at least 1$"):
        NetworkedConfig(data=wrong)


class Numbers(Record):
    """Fields of the types that settings have."""

    count: Annotated[int, Field(ge=0)] = 0
    share: float = 0.0
    flag: bool = False
    text: str = ""
    counts: tuple[int, ...] = ()


NUMPY_INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("kind", NUMPY_INTEGERS)
def test_an_integer_of_numpy_counts(kind: type[np.integer[Any]]) -> None:
    made = Numbers(count=kind(3), share=kind(3), counts=(kind(1), kind(2)))  # type: ignore[arg-type]
    assert made == Numbers(count=3, share=3, counts=(1, 2))
    assert type(made.count) is int
    assert made.model_dump_json() == Numbers(count=3, share=3, counts=(1, 2)).model_dump_json()
    assert DataSettings(clients=kind(3)).clients == 3  # type: ignore[arg-type]
    assert NetworkedConfig(seed=kind(0)) == NetworkedConfig(seed=0)  # type: ignore[arg-type]
    assert RadioSpec(seed=kind(7), subcarriers=kind(9)).seed == 7  # type: ignore[arg-type]


def test_a_scalar_of_numpy_is_like_one_of_python() -> None:
    made = Numbers(share=np.float32(0.5), flag=np.bool_(True), text=np.str_("a"))  # type: ignore[arg-type]
    assert made == Numbers(share=0.5, flag=True, text="a")
    assert RadioSettings(mean_snr_db=np.float32(2)).mean_snr_db == 2.0  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, np.bool_(True), np.float64(1.0), np.float32(1.0), 1.0, "1"])
def test_what_is_no_integer_is_no_count(value: Any) -> None:
    for make in (Numbers, DataSettings):
        field = "count" if make is Numbers else "clients"
        with pytest.raises(InvalidInputError, match=f"^{field} is .*; expected an integer$"):
            make(**{field: value})


class Lamp(Record):
    watts: int = 0
    colour: Literal["red", "green"] = "red"


class Room(Record):
    lamps: tuple[Lamp, ...] = ()
    ceiling: Lamp | None = None


@pytest.mark.parametrize(
    ("room", "said"),
    [
        ({"lamp": 1}, "lamp is 1; expected a known key; did you mean lamps?"),
        ({"door": 1}, "door is 1; expected a known key"),
        ({"lamps": ({"wats": 5},)}, "lamps.0.wats is 5; expected a known key; did you mean watts?"),
        ({"ceiling": {"color": "red"}}, "ceiling.color is 'red'; expected a known key; did you mean colour?"),
        (
            {"ceiling": {"colour": "gren"}},
            "ceiling.colour is 'gren'; expected 'red' or 'green'; did you mean green?",
        ),
    ],
)
def test_a_key_or_a_choice_that_is_near_a_wrong_one_is_named(room: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Room(**room)
    assert str(refused.value) == said
