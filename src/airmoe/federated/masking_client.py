"""The client's side of secure sums: it takes its step, and masks what it replies where only sums are needed.

See `airmoe.federated.secure_sums` for what the server does.

Shape suffixes: N names of tensors, K bounds, V values of all tensors, C clients.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.errors import InvalidInputError, one_of
from airmoe.federated.exchange import Client, Message, State
from airmoe.federated.fixed_point import BOUNDS, encode, largest_of
from airmoe.federated.masks import KEY_BYTES, MaskKey

KEYS = "secure sums: keys"
"""The exchange in which clients make key pairs, and tell their public keys."""

AGAIN, SUM = ": bounds again", ": sum"
"""What is added to the name of an exchange: to ask for its bounds again, and for its sum."""

PREFIX = "secure sums/"
"""What stands before the names of all that server and clients tell each other about masks."""

FORM, FAULT = f"{PREFIX}form of ", f"{PREFIX}fault of "
"""What stands before the name of a tensor: to tell its type and shape, and that it is not finite."""


class MaskingClient:
    """A client whose tensors leave it masked in exchanges that are sums.

    The private key and the values that wait for their masks are in memory alone: they are no part of the
    state, which is saved.

    Args:
        client: the one whose steps are taken.
        number: its number.
        stage: the name of the stage.
        sums: the exchanges that are sums; what is replied in them never leaves unmasked.
        by_samples: whether its tensors count ``samples`` times in the sum.
        others: the exchanges of the stage that are none. All further ones are refused: a server could give a
            sum another name.
    """

    def __init__(
        self,
        client: Client,
        number: int,
        stage: str,
        sums: Sequence[str],
        *,
        by_samples: bool,
        others: Sequence[str] = (),
    ) -> None:
        self._client, self._number, self._stage = client, number, stage
        self._sums, self._by_samples, self._others = tuple(sums), by_samples, tuple(others)
        self._key: MaskKey | None = None
        self._last_mask = -1
        self._waiting = dict[str, NDArray[np.float64]]()
        self._among = set[int]()

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Take the step of an exchange; mask the reply if it belongs to a sum.

        In the exchange itself the client tells the form of its tensors, or which is not finite, and how large
        they are, masked; in the exchange that asks for the sum, its masked tensors. One that has no key of
        the server's list, because it was started anew, replies with nothing.

        Raises:
            InvalidInputError: there is no such exchange, the server told no keys or too few, asked twice for
                the same mask, or to add up with others than before; or the sum could overflow; or as
                `MaskKey.mask`.
        """
        if exchange == KEYS:
            self._key, self._last_mask = MaskKey.fresh(), -1
            key = torch.frombuffer(bytearray(self._key.public), dtype=torch.uint8)
            return state, Message({f"{PREFIX}key": key})
        name = exchange.removesuffix(AGAIN).removesuffix(SUM)
        if exchange in self._others:
            return self._client.client_step(exchange, state, message)
        if name not in self._sums:
            known = (KEYS, *self._sums, *self._others)
            raise InvalidInputError("exchange", exchange, one_of(exchange, known))
        keys = _keys_told(message)
        if self._key is None or keys.get(self._number) != self._key.public:
            return state, Message()
        told = Message()
        if exchange == name:
            state, told = self._step(name, state, message)
            self._among = set(keys)
        if any(each.startswith(FAULT) for each in told.tensors):
            return state, told  # not finite: nothing is masked
        if not keys.keys() <= self._among:
            before = f"some of those before: {sorted(self._among)}"
            raise InvalidInputError("clients of the sum", sorted(keys), before)
        self._among = set(keys)
        if exchange.endswith(SUM):
            values_V = self._encoded(message.tensors[f"{PREFIX}bounds"].tolist(), len(keys))
        else:
            values_V = _exceeded(self._waiting)
        self._mask(values_V, exchange, message, keys)
        sent = {**told.tensors, f"{PREFIX}masked": torch.from_numpy(values_V.view(np.int64))}
        return state, replace(told, tensors=sent)

    def _step(self, name: str, state: State, message: Message) -> tuple[State, Message]:
        """Let the client take its step; keep its tensors here, and return the rest, and their form."""
        own = {key: tensor for key, tensor in message.tensors.items() if not key.startswith(PREFIX)}
        numbers = {key: number for key, number in message.numbers.items() if not key.startswith(PREFIX)}
        state, reply = self._client.client_step(name, state, replace(message, tensors=own, numbers=numbers))
        self._waiting, told = {}, dict[str, Tensor]()
        weight = reply.numbers.get("samples", 0) if self._by_samples else 1
        for key, tensor in sorted(reply.tensors.items()):
            if tensor.is_complex():
                raise InvalidInputError(f"type of {key}", tensor.dtype, "real numbers in a secure sum")
            told[FORM + key] = tensor.new_empty((0, *tensor.shape))
            self._waiting[key] = tensor.detach().cpu().double().numpy() * weight
            if not np.isfinite(self._waiting[key]).all():
                told[FAULT + key] = torch.empty(0)
        return state, replace(reply, tensors=told)

    def _encoded(self, bounds: Sequence[int], clients: int) -> NDArray[np.uint64]:
        """Return all values as integers, one after another in the order of the tensors' names."""
        each = zip(self._waiting.items(), bounds, strict=True)
        encoded = [encode(name, values, bound, clients).ravel() for (name, values), bound in each]
        return np.concatenate([np.zeros(0, np.uint64), *encoded])

    def _mask(
        self, values_V: NDArray[np.uint64], exchange: str, message: Message, keys: Mapping[int, bytes]
    ) -> None:
        assert self._key is not None
        mask = int(message.numbers[f"{PREFIX}mask"])
        if mask <= self._last_mask:
            expected = f"a number above {self._last_mask}: a mask hides one sum"
            raise InvalidInputError("number of a mask", mask, expected)
        self._last_mask = mask
        purpose = (self._stage, int(message.numbers["round"]), exchange, mask)
        self._key.mask(values_V, self._number, keys, purpose)


def _keys_told(message: Message) -> dict[int, bytes]:
    """Return the public keys of the clients that are added up, by number."""
    numbers_C, keys = message.tensors.get(f"{PREFIX}clients"), message.tensors.get(f"{PREFIX}keys")
    if numbers_C is None or keys is None or len(numbers_C) * KEY_BYTES != keys.numel():
        expected = "the public keys of the clients that are added up: nothing leaves this one unmasked"
        raise InvalidInputError("keys in the server's message", keys, expected)
    parts = keys.reshape(len(numbers_C), KEY_BYTES).numpy()
    return {client: part.tobytes() for client, part in zip(numbers_C.tolist(), parts, strict=True)}


def _exceeded(values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.uint64]:
    """Return a random number for each bound that a tensor exceeds, and 0 for the others: (N * K,).

    The sum over clients is 0 where no client exceeds the bound. Where one does it is random, and tells
    neither who nor how many (and is 0 once in 2^64 times; then a client refuses the bound).
    """
    told_NK = np.zeros((len(values), len(BOUNDS)), np.uint64)
    for told_K, (name, tensor) in zip(told_NK, values.items(), strict=True):
        largest = largest_of(name, tensor)
        for k, bound in enumerate(BOUNDS):
            told_K[k] = secrets.randbits(64) if largest > 2.0**bound else 0
    return told_NK.ravel()
