"""The wire format: what is encoded comes back, to the bit, and the bytes are the ones written down here."""

import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from airmoe.errors import FrameError, InvalidInputError
from airmoe.mesh.frame import MAX_ARRAYS, MAX_BODY_BYTES, MAX_NAME, Frame, Kind, WireType, decode, encode

Floats = NDArray[np.float32]

shapes = hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3)
arrays = hnp.arrays(np.float32, shapes, elements=st.floats(width=32))


def frame_of(arrays: Mapping[str, NDArray[Any]], wire_type: WireType = "float32") -> Frame:
    return Frame(Kind.PAYLOADS, arrays, 7, "0123456789abcdef", 0, 3, 1500, wire_type)


def request(array: Floats, wire_type: WireType = "float32") -> Frame:
    return frame_of({"payload": array}, wire_type)


def over_the_wire(array: Floats, wire_type: WireType) -> Floats:
    return decode(encode(request(array, wire_type))).arrays["payload"]


def bits(array: Floats) -> NDArray[np.uint32]:
    return np.ascontiguousarray(array).view(np.uint32)


@settings(deadline=None)  # a busy machine is no failure
@given(arrays)
def test_float32_comes_back_to_the_bit(array: Floats) -> None:
    returned = over_the_wire(array, "float32")
    assert returned.shape == array.shape
    assert returned.dtype == np.float32
    np.testing.assert_array_equal(bits(returned), bits(array))


@settings(deadline=None)  # a busy machine is no failure
@given(arrays, st.sampled_from(["float16", "bfloat16"]))
def test_a_narrow_type_keeps_what_it_has_rounded_once(array: Floats, wire_type: WireType) -> None:
    once = over_the_wire(array, wire_type)
    assert once.shape == array.shape
    np.testing.assert_array_equal(bits(over_the_wire(once, wire_type)), bits(once))


TYPES = ["float32", "float64", "int64", "int32", "uint8", "bool"]
any_arrays = st.sampled_from(TYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
names = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True)


@settings(deadline=None)
@given(st.dictionaries(names, any_arrays, max_size=4))
def test_arrays_of_any_type_come_back_by_name_in_their_order(arrays: dict[str, NDArray[Any]]) -> None:
    back = decode(encode(frame_of(arrays))).arrays
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()


def test_a_narrow_wire_narrows_float32_alone() -> None:
    score = np.array([1 / 3], np.float64)
    back = decode(encode(frame_of({"payload": np.array([1 / 3], np.float32), "scores": score}, "float16")))
    assert back.wire_type == "float16"
    np.testing.assert_array_equal(back.arrays["scores"], score)
    assert back.arrays["payload"].dtype == np.float32
    assert back.arrays["payload"][0] == np.float16(1 / 3)


@settings(deadline=None)
@given(
    st.sampled_from(Kind),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 2**16 - 1),
    st.none() | st.integers(0, 2**32 - 2),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.binary(min_size=8, max_size=8),
)
def test_every_header_field_comes_back(
    kind: Kind,
    request_id: int,
    model: bytes,
    layer: int,
    expert: int | None,
    remaining_ms: int,
    wire_type: WireType,
    expert_hash: bytes,
) -> None:
    arrays = {"payload": np.zeros((2, 3), np.float32)}
    frame = Frame(
        kind, arrays, request_id, model.hex(), layer, expert, remaining_ms, wire_type, expert_hash.hex()
    )
    back = decode(encode(frame))
    assert (back.kind, back.request_id, back.model_hash) == (kind, request_id, model.hex())
    assert (back.layer, back.expert, back.remaining_ms) == (layer, expert, remaining_ms)
    assert (back.wire_type, back.expert_hash) == (wire_type, expert_hash.hex())


GOLDEN_HEX = (
    "414d6f45"  # magic "AMoE"
    "03 02 02"  # version 3, outputs, 2 arrays
    "0807060504030201"  # request id
    "00112233445566aa"  # model hash
    "0302"  # layer
    "07060504"  # expert
    "fedcba9876543210"  # its hash
    "dc050000"  # 1500 ms remain
    "06 01 02"  # a name of 6 bytes, float16, 2 dimensions
    "6f7574707574"  # "output"
    "01000000 03000000"  # shape (1, 3)
    "04 07 01"  # a name of 4 bytes, bool, 1 dimension
    "6b657074"  # "kept"
    "02000000"  # shape (2,)
    "003c 00c0 ff7b"  # 1, -2, 65504
    "01 00"  # True, False
)
GOLDEN = bytes.fromhex(GOLDEN_HEX)


def test_the_bytes_of_a_frame_are_these() -> None:
    frame = Frame(
        Kind.OUTPUTS,
        {"output": np.array([[1.0, -2.0, 65504.0]], np.float32), "kept": np.array([True, False])},
        request_id=0x0102030405060708,
        model_hash="00112233445566aa",
        layer=0x0203,
        expert=0x04050607,
        remaining_ms=1500,
        wire_type="float16",
        expert_hash="fedcba9876543210",
    )
    assert encode(frame).hex(" ") == GOLDEN.hex(" ")


def test_these_bytes_are_this_frame() -> None:
    frame = decode(GOLDEN)
    np.testing.assert_array_equal(frame.arrays["output"], [[1.0, -2.0, 65504.0]])
    np.testing.assert_array_equal(frame.arrays["kept"], [True, False])
    assert (frame.kind, frame.request_id, frame.model_hash) == (2, 0x0102030405060708, "00112233445566aa")
    assert (frame.layer, frame.expert, frame.remaining_ms) == (0x0203, 0x04050607, 1500)
    assert frame.wire_type == "float16"


@pytest.mark.parametrize(
    ("wire_type", "code", "body"),
    [("float32", 0, "0000c03f"), ("float16", 1, "003e"), ("bfloat16", 2, "c03f")],
)
def test_each_type_has_its_code_and_its_bytes(wire_type: WireType, code: int, body: str) -> None:
    data = encode(request(np.array([1.5], np.float32), wire_type))
    assert data[42] == code
    assert data[55:].hex() == body


@pytest.mark.parametrize(
    ("array", "code", "body"),
    [
        (np.array([1.5]), 3, "000000000000f83f"),
        (np.array([-2]), 4, "feffffffffffffff"),
        (np.array([-2], np.int32), 5, "feffffff"),
        (np.array([200], np.uint8), 6, "c8"),
        (np.array([True]), 7, "01"),
    ],
)
def test_each_other_type_has_its_code_and_its_bytes(array: NDArray[Any], code: int, body: str) -> None:
    data = encode(frame_of({"payload": array}))
    assert data[42] == code
    assert data[55:].hex() == body


@settings(deadline=None)  # a busy machine is no failure
@given(arrays)
def test_bfloat16_rounds_as_pytorch_does(array: Floats) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(array.copy()).bfloat16().float().numpy()
    np.testing.assert_array_equal(over_the_wire(array, "bfloat16"), expected)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0x3F80_0000, 0x3F80_0000),  # 1 stays
        (0x3F80_7FFF, 0x3F80_0000),  # just below half: down
        (0x3F80_8000, 0x3F80_0000),  # half: to even, down
        (0x3F81_8000, 0x3F82_0000),  # half: to even, up
        (0x3F80_8001, 0x3F81_0000),  # just above half: up
        (0x7F7F_FFFF, 0x7F80_0000),  # the largest float32 becomes infinite
        (0x8000_0000, 0x8000_0000),  # minus zero stays
        (0x0000_8001, 0x0001_0000),  # subnormal numbers round too
    ],
)
def test_bfloat16_rounds_to_nearest_even(value: int, rounded: int) -> None:
    array = np.array([value], np.uint32).view(np.float32)
    assert bits(over_the_wire(array, "bfloat16"))[0] == rounded


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(-60000, 60000, width=32), min_size=1, max_size=8))
def test_float16_rounds_as_the_standard_library_does(values: list[float]) -> None:
    expected = [struct.unpack("<e", struct.pack("<e", value))[0] for value in values]
    np.testing.assert_array_equal(over_the_wire(np.array(values, np.float32), "float16"), expected)


def test_what_is_too_large_for_float16_becomes_infinite() -> None:
    array = np.array([65519.0, 65520.0, -1e9], np.float32)
    np.testing.assert_array_equal(over_the_wire(array, "float16"), [65504.0, np.inf, -np.inf])


@pytest.mark.parametrize("wire_type", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [0x7FC0_0000, 0xFFFF_FFFF, 0x7F80_0001, 0x7F80_FFFF], ids=hex)
def test_every_nan_stays_nan(value: int, wire_type: WireType) -> None:
    array = np.array([value], np.uint32).view(np.float32)
    assert np.isnan(over_the_wire(array, wire_type)).all()


@pytest.mark.parametrize("wire_type", ["float32", "float16", "bfloat16"])
def test_infinities_keep_their_sign(wire_type: WireType) -> None:
    array = np.array([np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(over_the_wire(array, wire_type), array)


def test_an_array_that_is_not_contiguous_is_sent_in_its_own_order() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(over_the_wire(array, "float32"), array)


def test_the_decoded_array_is_memory_of_its_own() -> None:
    data = bytearray(encode(request(np.ones(2, np.float32))))
    array = decode(bytes(data)).arrays["payload"]
    array += 1  # writable
    np.testing.assert_array_equal(array, [2, 2])


def test_an_unknown_wire_type_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidInputError, match="wire_type is 'int8'; expected one of float32, float16"):
        encode(request(np.ones(2, np.float32), "int8"))  # type: ignore[arg-type]


def test_nine_dimensions_are_too_many_to_send() -> None:
    with pytest.raises(FrameError, match="9 dimensions; expected at most 8"):
        encode(request(np.zeros((1,) * 9, np.float32)))


def test_a_body_above_the_limit_is_not_sent() -> None:
    array = np.broadcast_to(np.float32(0), (MAX_BODY_BYTES // 4 + 1,))
    with pytest.raises(FrameError, match=f"expected at most {MAX_BODY_BYTES}"):
        encode(request(array))


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({f"a{number}": ONE for number in range(MAX_ARRAYS + 1)}, "17 arrays; expected at most 16"),
        ({"x" * (MAX_NAME + 1): ONE}, "expected up to 32 of a-z, 0-9 and _"),
        ({"Payload": ONE}, "an array is named 'Payload'"),
        ({"": ONE}, "an array is named ''"),
        ({"payload": ONE.astype(np.float16)}, "array 'payload' is float16; expected float32"),
        ({"payload": ONE.astype(np.complex64)}, "array 'payload' is complex64; expected"),
        ({"payload": ONE.astype(object)}, "array 'payload' is object; expected"),
    ],
)
def test_arrays_that_no_frame_holds_are_not_sent(arrays: dict[str, NDArray[Any]], said: str) -> None:
    with pytest.raises(FrameError, match=re.escape(said)):
        encode(frame_of(arrays))


@pytest.mark.parametrize(
    "field",
    [{"layer": 1 << 16}, {"expert": -1}, {"remaining_ms": 1 << 32}, {"model_hash": "no hex"}],
    ids=lambda field: next(iter(field)),
)
def test_a_header_field_out_of_range_is_not_sent(field: dict[str, object]) -> None:
    fields = {"request_id": 1, "model_hash": "00" * 8, "layer": 0, "expert": 0, "remaining_ms": 0} | field
    with pytest.raises(FrameError, match="header"):
        encode(Frame(Kind.PAYLOADS, {"payload": ONE}, **fields))  # type: ignore[arg-type]


def test_an_array_is_taken_by_name_type_and_shape() -> None:
    frame = decode(GOLDEN)
    assert frame.array("output", np.float32, (None, 3)).shape == (1, 3)
    for name, dtype, shape, said in (
        ("mask", np.bool_, (2,), "no array 'mask'; it has output, kept"),
        ("kept", np.int64, (2,), "array 'kept' is bool; expected int64"),
        ("kept", np.bool_, (None, 2), r"has shape \(2,\); expected \(T, 2\)"),
        ("output", np.float32, (None, 4), r"has shape \(1, 3\); expected \(T, 4\)"),
        ("output", np.float32, (1,), r"expected \(1,\)"),
    ):
        with pytest.raises(FrameError, match=said):
            frame.array(name, dtype, shape)
