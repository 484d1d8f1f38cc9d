"""A message comes back from its bytes as it was; bytes that are none of ours are refused."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import FrameError
from airmoe.federated import Message
from airmoe.federated.flower.frame import Frame, packed, unpacked

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64]
NAMES = st.text(min_size=1, max_size=5)
TENSORS = st.builds(
    lambda dtype, shape: torch.randint(0, 2, shape).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
)
STATES = st.dictionaries(NAMES, TENSORS, max_size=3)
NUMBERS = st.dictionaries(NAMES, st.integers(-(2**60), 2**60) | st.floats(allow_nan=False), max_size=3)
MESSAGES = st.builds(Message, STATES, NUMBERS, st.dictionaries(st.integers(0, 9), STATES, max_size=3))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        for a, b in zip(left.values(), right.values(), strict=True)
    )


@given(MESSAGES)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    about, back = unpacked(packed({"stage": "gate", "round": 3}, message))
    assert about == {"stage": "gate", "round": 3}
    assert back.numbers == message.numbers
    assert same(dict(back.tensors), dict(message.tensors))
    assert back.letters.keys() == message.letters.keys()
    assert all(same(dict(back.letters[c]), dict(letter)) for c, letter in message.letters.items())


def test_floats_and_bits_that_are_not_finite_travel_exactly() -> None:
    weights = torch.tensor([float("nan"), float("inf"), 0.1], dtype=torch.float64)
    _, back = unpacked(packed({}, Message({"w": weights}, {"x": 0.1 + 0.2})))
    assert back.tensors["w"].view(torch.int64).equal(weights.view(torch.int64))
    assert back.numbers["x"] == 0.1 + 0.2


def test_a_view_travels_as_what_it_shows() -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    _, back = unpacked(packed({}, Message({"column": whole[:, 1], "turned": whole.T})))
    assert back.tensors["column"].tolist() == [1.0, 4.0]
    assert torch.equal(back.tensors["turned"], whole.T)


def test_what_comes_back_shares_no_memory() -> None:
    frame = packed({}, Message({"a": torch.zeros(2), "b": torch.zeros(2)}))
    _, back = unpacked(frame)
    back.tensors["a"][0] = 1.0
    assert back.tensors["b"][0] == 0.0
    assert unpacked(frame)[1].tensors["a"][0] == 0.0


def test_equal_weights_for_two_clients_are_equal_bytes() -> None:
    message = Message({"w": torch.ones(3)})
    one, other = packed({"client": 1}, message), packed({"client": 2}, message)
    assert one.tensors == other.tensors
    assert one.header != other.header


def test_a_larger_message_is_refused_unread() -> None:
    frame = packed({}, Message({"w": torch.zeros(100)}))
    with pytest.raises(FrameError, match=r"larger than the 400 that are allowed"):
        unpacked(frame, largest_bytes=400)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tensors": [["w", "float32", [3]]]}, "fewer than its arrays have"),
        ({"tensors": [["w", "float32", [1]]]}, "more than its arrays have"),
        ({"tensors": [["w", "object", [2]]]}, "object"),
        ({"tensors": [["w", "float32", [-1]]]}, "the shape of w"),
        ({"tensors": [["w", "float32", [1 << 50]]]}, "the shape of w"),
        ({"tensors": [["w", "float32", [True]]]}, "the shape of w"),
        ({"tensors": [["w", "float32", [0] * 99]]}, "the shape of w"),
        ({"tensors": [["w", "bool", [8]]]}, "a boolean that is neither"),
        ({"tensors": [["w", "float32", [1]], ["w", "float32", [1]]]}, "listed twice"),
        ({"tensors": [[7, "float32", [2]]]}, "a name"),
        ({"letters": [[-1, []]]}, "a letter of client -1"),
        ({"letters": [["x", []]]}, "a letter of client x"),
        ({"numbers": {"x": "text"}}, "its numbers"),
        ({"about": {"round": 1.5}}, "what it is about"),
        ({"about": None}, "NoneType"),
    ],
)
def test_a_header_that_lies_is_refused(changed: dict[str, object], said: str) -> None:
    frame = packed({}, Message({"w": torch.full((2,), 3.0)}))
    header = json.dumps(json.loads(frame.header) | changed).encode()
    with pytest.raises(FrameError, match=said):
        unpacked(Frame(header, frame.tensors, frame.letters))


@given(st.binary(max_size=40))
def test_any_other_bytes_are_refused_as_no_frame(noise: bytes) -> None:
    with pytest.raises(FrameError):
        unpacked(Frame(noise, b"", b""))


def test_a_tensor_of_a_type_that_no_frame_holds_is_named() -> None:
    with pytest.raises(FrameError, match=r"q is of type torch\.uint16"):
        packed({}, Message({"q": torch.zeros(2, dtype=torch.uint16)}))
