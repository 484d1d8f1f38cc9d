"""Transmissions by name: every name is read back as itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.radio import Analog, Digital, Transmission, make_transmission
from airmoe.radio.coding import BITS_PER_SYMBOL, CODE_RATE

TRANSMISSIONS = st.one_of(
    st.builds(Analog, st.integers(1, 99)),
    st.builds(
        Digital,
        st.integers(1, 8),
        st.sampled_from(list(BITS_PER_SYMBOL)),
        st.sampled_from(list(CODE_RATE)),
        st.sampled_from(["fast", "full"]),
    ),
)


@given(TRANSMISSIONS)
def test_a_transmission_is_made_again_from_its_name(transmission: Transmission) -> None:
    assert make_transmission(transmission.name) == transmission


@pytest.mark.parametrize(
    ("spec", "made"),
    [
        ("analog", Analog()),
        ("analog:2", Analog(2)),
        ("digital:4:qpsk:conv", Digital(4, "qpsk", "conv")),
        ("digital:1:16qam:none:full", Digital(1, "16qam", "none", "full")),
    ],
)
def test_forms(spec: str, made: Transmission) -> None:
    assert make_transmission(spec) == made
    assert made.name == spec


@pytest.mark.parametrize(
    "spec",
    [
        *["", "analogue", "analog:", "analog:x", "analog:1:2", "digital", "digital:4", "digital:4:qpsk"],
        *["digital:x:qpsk:conv", "digital:4:qpsk:conv:fast", "digital:4:qpsk:conv:full:full"],
    ],
)
def test_another_form_is_refused_with_the_known_ones(spec: str) -> None:
    with pytest.raises(InvalidInputError, match=r"analog\[:REPEATS\] or digital:BITS:MODULATION:CODE"):
        make_transmission(spec)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("analog:0", "repeats is 0"),
        ("digital:0:qpsk:conv", "bits is 0"),
        ("digital:9:qpsk:conv", "bits is 9"),
        ("digital:4:8psk:conv", "modulation is '8psk'; expected one of qpsk, 16qam"),
        ("digital:4:qpsk:turbo", "code is 'turbo'; expected one of none, conv, ldpc"),
    ],
)
def test_a_wrong_value_is_named(spec: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make_transmission(spec)
