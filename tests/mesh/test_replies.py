"""What a reply must be before it counts: about the request, of the right weights, and an expert's output."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.errors import FrameError
from airmoe.manifest import LayerSpec, OutputKind, OutputSpec
from airmoe.mesh.frame import Frame, Kind, WireType, encode
from airmoe.mesh.replies import LARGEST, read_output
from tests.mesh.impostor import reply_to

REQUEST = Frame(
    Kind.PAYLOADS,
    {"payload": np.zeros((2, 4), np.float32)},
    7,
    "0123456789abcdef",
    1,
    3,
    1000,
    expert_hash="fedcba9876543210",
)


def layer(kind: OutputKind) -> LayerSpec:
    return LayerSpec(
        layer=1,
        payload=[4],
        output=OutputSpec(kind=kind, shape=[3]),
        placement=[[node] for node in range(4)],
        hashes=["fedcba9876543210"] * 4,
    )


def read(output_I: Any, kind: OutputKind = "probabilities", **changes: Any) -> NDArray[np.float32]:
    return read_output(
        encode(reply_to(REQUEST, np.array(output_I, np.float32), **changes)), REQUEST, layer(kind)
    )


def test_probabilities_are_read() -> None:
    np.testing.assert_array_equal(read([[0.5, 0.25, 0.25], [1, 0, 0]])[0], [0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([1.2, -0.2, 0.0], "a probability is -0.2; expected at least 0"),
        ([0.9, 0.9, 0.9], "probabilities sum to 2.7; expected 1 within 0.001"),
        ([0.0, 0.0, 0.0], "probabilities sum to 0; expected 1"),
        ([1e6, 0.0, 0.0], "probabilities sum to 1e"),
        ([np.nan, 0.5, 0.5], "it is not finite"),
    ],
)
def test_what_is_no_probability_is_refused(row: list[float], why: str) -> None:
    with pytest.raises(FrameError, match=why):
        read([[0.5, 0.25, 0.25], row])


@pytest.mark.parametrize("kind", LARGEST)
def test_an_output_that_would_outvote_all_others_is_refused(kind: OutputKind) -> None:
    largest = LARGEST[kind]
    read([[largest, -largest, 0.0], [0.0, 0.0, 0.0]], kind)
    with pytest.raises(FrameError, match="its largest absolute value is"):
        read([[0.0, 0.0, 0.0], [0.0, -1.01 * largest, 0.0]], kind)


@pytest.mark.parametrize("wire_type", ["float16", "bfloat16"])
def test_probabilities_that_were_rounded_on_the_wire_are_read(wire_type: WireType) -> None:
    thirds = np.full((2, 3), 1 / 3, np.float32)
    read(thirds, wire_type=wire_type)


def test_a_reply_from_other_weights_is_refused_and_names_both() -> None:
    with pytest.raises(FrameError, match="its expert has hash 0000000000000001; expected fedcba9876543210"):
        read([[1, 0, 0], [1, 0, 0]], expert_hash="0000000000000001")


@pytest.mark.parametrize(
    "changes", [{"request_id": 8}, {"expert": 2}, {"layer": 2}, {"model_hash": "f" * 16}], ids=str
)
def test_a_reply_to_another_request_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FrameError, match="it answers another request"):
        read([[1, 0, 0], [1, 0, 0]], **changes)


def test_no_items_get_no_outputs() -> None:
    nothing = replace(REQUEST, arrays={"payload": np.zeros((0, 4), np.float32)})
    reply = reply_to(nothing, np.zeros((0, 3), np.float32))
    assert read_output(encode(reply), nothing, layer("probabilities")).shape == (0, 3)
