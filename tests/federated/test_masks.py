"""Masks: uniform to whoever sees one, nothing in the sum, and never the same one twice.

Keys are made of fixed bytes, so that what is random here is the same in every run.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from airmoe.errors import InvalidInputError
from airmoe.federated.fixed_point import decode, encode, fraction_bits
from airmoe.federated.masks import KEY_BYTES, LEAST_CLIENTS, MaskKey

Purpose = tuple[str | int, ...]
PURPOSE: Purpose = ("features", 0, "train", 0)


def pairs_of(clients: int) -> list[MaskKey]:
    return [MaskKey(X25519PrivateKey.from_private_bytes(bytes([i + 1]) * KEY_BYTES)) for i in range(clients)]


def keys_of(pairs: Sequence[MaskKey]) -> dict[int, bytes]:
    return {client: pair.public for client, pair in enumerate(pairs)}


def mask_of(pairs: Sequence[MaskKey], client: int, values: int, purpose: Purpose = PURPOSE) -> np.ndarray:
    mask_V = np.zeros(values, np.uint64)
    pairs[client].mask(mask_V, client, keys_of(pairs), purpose)
    return mask_V


PAIRS = pairs_of(12)


@settings(max_examples=25)
@given(
    clients=st.integers(3, 12),
    values=st.integers(0, 300),
    exponent=st.integers(-60, 30),
    order=st.randoms(use_true_random=False),
)
def test_masked_sums_equal_plain_ones_to_the_step_in_any_order(
    clients: int, values: int, exponent: int, order: random.Random
) -> None:
    numbers = np.random.default_rng([clients, values]).uniform(-1, 1, (clients, values)) * 2.0**exponent
    bound, pairs = 8 * -(-exponent // 8), PAIRS[:clients]
    sent = [encode("w", each, bound, clients) for each in numbers]
    for client, pair in enumerate(pairs):
        pair.mask(sent[client], client, keys_of(pairs), PURPOSE)
    order.shuffle(sent)
    total = np.zeros(values, np.uint64)
    for each in sent:
        total += each
    step = 2.0 ** -fraction_bits(bound, clients)
    exact_V = np.array([math.fsum(each) for each in numbers.T])
    error = np.abs(decode(total, bound, clients) - exact_V)
    assert (error <= clients * (step / 2 + 2.0 ** (exponent - 52))).all()


@pytest.mark.parametrize("clients", [3, 4, 12])
def test_masks_cancel_to_the_last_bit(clients: int) -> None:
    pairs, values = PAIRS[:clients], 200_000  # of several blocks
    masks = [mask_of(pairs, client, values) for client in range(clients)]
    assert not np.add.reduce(masks).any()
    assert all(mask.any() for mask in masks)
    assert np.add.reduce(masks[1:]).any()  # but only all of them together


def chi_squared_of_bytes(sent: np.ndarray) -> float:
    """How far the bytes are from all being equally frequent; its mean is 255 if they are uniform."""
    counts = np.bincount(sent.ravel().view(np.uint8), minlength=256)
    return float(((counts - counts.mean()) ** 2).sum() / counts.mean())


LIKELY = chi2.ppf([1e-6, 1 - 1e-6], df=255)
"""Outside of these lies what is not uniform. The keys are fixed, so what lies inside stays there."""


@pytest.mark.parametrize("what", ["small", "zero", "large"])
@pytest.mark.parametrize("client", [0, 1, 2])
def test_what_one_client_sends_looks_uniformly_random(client: int, what: str) -> None:
    values = {"zero": 0.0, "small": 1e-3, "large": 250.0}[what] * np.random.default_rng(0).normal(
        size=50_000
    ).clip(-1, 1)
    sent = encode("w", values, bound=8, clients=3)
    assert not LIKELY[0] < chi_squared_of_bytes(sent) < LIKELY[1]  # without its mask it does not
    PAIRS[client].mask(sent, client, keys_of(PAIRS[:3]), PURPOSE)
    assert LIKELY[0] < chi_squared_of_bytes(sent) < LIKELY[1]
    # Nor does a value go with the one before it.
    bits = np.unpackbits(sent.view(np.uint8)).astype(np.float64)
    assert abs(np.corrcoef(bits[:-64], bits[64:])[0, 1]) < 5 / np.sqrt(len(bits))


def test_what_one_client_sends_does_not_go_with_its_values() -> None:
    values = np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64)
    sent = values.copy()
    PAIRS[0].mask(sent, 0, keys_of(PAIRS[:3]), PURPOSE)
    # What differs is the mask, whatever the values are: it says nothing about them.
    np.testing.assert_array_equal(sent - values, mask_of(PAIRS[:3], 0, len(values)))
    assert LIKELY[0] < chi_squared_of_bytes(sent ^ values) < LIKELY[1]


OTHER_PURPOSES: list[Purpose] = [
    ("features", 0, "train", 1),
    ("features", 1, "train", 0),
    ("gate", 0, "train", 0),
    ("features", 0, "train: sum", 0),
]


@pytest.mark.parametrize("purpose", OTHER_PURPOSES, ids=["attempt", "round", "stage", "exchange"])
def test_nothing_of_a_mask_comes_back_in_another(purpose: Purpose) -> None:
    first, second = (mask_of(PAIRS[:3], 0, 5000, each) for each in (PURPOSE, purpose))
    assert not set(first.tolist()) & set(second.tolist())


def test_masks_among_some_clients_are_no_part_of_the_masks_among_more() -> None:
    everyone = mask_of(PAIRS[:4], 0, 5000)
    first, second, third = (
        mask_of([PAIRS[0], PAIRS[a], PAIRS[b]], 0, 5000) for a, b in ((1, 2), (1, 3), (2, 3))
    )
    # If two had the same stream whoever else is there, these would be three streams, each twice.
    assert np.count_nonzero(first + second + third - everyone - everyone) == 5000
    assert not set(everyone.tolist()) & set(first.tolist())


def test_each_pair_shares_a_mask_that_the_others_lack() -> None:
    masks = [mask_of(PAIRS[:3], client, 1000) for client in range(3)]
    assert not set(masks[0].tolist()) & set(masks[1].tolist())
    # All but one together still do not lay open what the last one sends: one mask of the pair is left.
    assert (masks[0] + masks[1]).any()


def test_fresh_keys_differ() -> None:
    assert MaskKey.fresh().public != MaskKey.fresh().public


@pytest.mark.parametrize("clients", [1, 2])
def test_fewer_than_three_clients_are_refused_with_the_reason(clients: int) -> None:
    said = f"clients of a secure sum is {clients}; expected at least {LEAST_CLIENTS}: of two, each knows"
    with pytest.raises(InvalidInputError, match=said):
        mask_of(PAIRS[:clients], 0, 1)


SMALL_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")


@pytest.mark.parametrize(
    "key",
    [b"", PAIRS[2].public[:-1], PAIRS[2].public + b"\0", bytes(KEY_BYTES), b"\1" + bytes(31), SMALL_ORDER],
    ids=["empty", "short", "longer", "zero", "one", "order 8"],
)
def test_what_is_no_public_key_is_refused_with_its_client(key: bytes) -> None:
    keys = {**keys_of(PAIRS[:3]), 2: key}
    with pytest.raises(InvalidInputError, match=r"public key of client 2 is .*; expected 32 bytes that are"):
        PAIRS[0].mask(np.zeros(1, np.uint64), 0, keys, PURPOSE)


def test_two_clients_with_one_key_are_refused() -> None:
    keys = {**keys_of(PAIRS[:3]), 3: PAIRS[2].public}
    with pytest.raises(InvalidInputError, match="expected clients whose keys all differ"):
        PAIRS[0].mask(np.zeros(1, np.uint64), 0, keys, PURPOSE)


def test_a_client_that_is_not_added_up_or_has_another_key_masks_nothing() -> None:
    for keys in (keys_of(PAIRS[1:4]), {1: PAIRS[1].public, 2: PAIRS[2].public, 3: PAIRS[3].public}):
        values = np.zeros(3, np.uint64)
        with pytest.raises(InvalidInputError, match=r"public key of client 0 is .*; expected its own"):
            PAIRS[0].mask(values, 0, keys, PURPOSE)
        assert not values.any()
