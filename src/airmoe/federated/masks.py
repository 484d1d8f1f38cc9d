"""Masks that hide what one client sends and vanish in the sum over clients (Bonawitz et al., CCS 2017).

Every client makes a key pair (X25519) and tells its public key. Each two clients derive a secret that nobody
else knows; of that, a stream of random integers (HKDF-SHA256, then ChaCha20). The one with the lower number
adds the stream to what it sends, the other one subtracts it, modulo 2^64:

    sent_i = values_i + sum_{j > i} stream_ij - sum_{j < i} stream_ij

So what one client sends looks uniformly random as long as one of the others keeps its secrets, and the
streams cancel when all are added. There are no secret shares, by which the paper recovers a sum that lacks a
client: when one drops out, the others send anew, under other masks.

Shape suffixes: V values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError

LEAST_CLIENTS = 3
"""Of two clients, each could subtract its own values from the sum and see the other one's."""

KEY_BYTES = 32
"""Length of a public key."""

_A_KEY = f"{KEY_BYTES} bytes that are a public key of X25519"

_BLOCK = bytes(1 << 20)
"""Zeros, of which a stream cipher makes a block of its stream."""


class MaskKey:
    """A client's key pair.

    Args:
        private: made for one run of one stage, and never saved. Masks stay secret as long as it does.

    Examples:
        Three clients; what each sends is noise, and the noise vanishes in the sum:

        >>> import numpy as np
        >>> from airmoe.federated.masks import MaskKey
        >>> pairs = [MaskKey.fresh() for _ in range(3)]
        >>> keys = {client: pair.public for client, pair in enumerate(pairs)}
        >>> sent = [np.array([1, 2], dtype=np.uint64) for _ in pairs]
        >>> for client, pair in enumerate(pairs):
        ...     pair.mask(sent[client], client, keys, ("features", 0, "train", 0))
        >>> sum(sent)
        array([3, 6], dtype=uint64)
    """

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self._shared = dict[bytes, bytes]()
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def fresh(cls) -> MaskKey:
        """Return a new one, from the system's source of randomness."""
        return cls(X25519PrivateKey.generate())

    def mask(
        self,
        values_V: NDArray[np.uint64],
        client: int,
        keys: Mapping[int, bytes],
        purpose: tuple[str | int, ...],
    ) -> None:
        """Add this client's masks to its values, in place.

        Args:
            values_V: uint64.
            client: this client's number.
            keys: the public keys of all clients that are added up, by number, this one's included.
            purpose: what is added up, such as stage, round, exchange and attempt. A mask must never hide two
                things, so no purpose may come twice with the same keys.

        Raises:
            InvalidInputError: fewer than `LEAST_CLIENTS`, a key that is none or that two clients have, or
                another key of this client.
        """
        refuse_few_clients(len(keys))
        if len(set(keys.values())) < len(keys):
            raise InvalidInputError("public keys", sorted(keys), "clients whose keys all differ")
        if keys.get(client) != self.public:
            raise InvalidInputError(f"public key of client {client}", keys.get(client), "its own")
        context = ["airmoe secure sums", purpose, [(each, keys[each].hex()) for each in sorted(keys)]]
        info = hashlib.sha256(json.dumps(context).encode()).digest()
        secrets = {other: self._secret(other, keys[other]) for other in sorted(keys.keys() - {client})}
        for other, secret in secrets.items():
            derived = HKDF(SHA256(), length=32, salt=None, info=info).derive(secret)
            _add_stream(values_V, derived, subtract=other < client)

    def _secret(self, client: int, public: bytes) -> bytes:
        """Return what this client and another one alone can compute."""
        if public not in self._shared:
            try:
                self._shared[public] = self._private.exchange(X25519PublicKey.from_public_bytes(public))
            except ValueError:  # another length, or a point of small order: its secret is 0 for everybody
                raise InvalidInputError(f"public key of client {client}", public, _A_KEY) from None
        return self._shared[public]


def fault_of_key(public: bytes, others: Iterable[bytes]) -> str:
    """Return why a public key cannot be added to others; empty if it can."""
    if public in others:
        return "the public key is another client's; expected one of its own"
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return f"the public key is {public!r}; expected {_A_KEY}"
    return ""


def refuse_few_clients(clients: int) -> None:
    """Raise unless there are enough clients for a secure sum."""
    if clients < LEAST_CLIENTS:
        expected = f"at least {LEAST_CLIENTS}: of two, each knows the other's part of the sum"
        raise InvalidInputError("clients of a secure sum", clients, expected)


def _add_stream(values_V: NDArray[np.uint64], key: bytes, *, subtract: bool) -> None:
    """Add the stream of a key to values modulo 2^64, in place; a key serves one stream, so the nonce is 0."""
    zeros, values_per_block = memoryview(_BLOCK), len(_BLOCK) // 8
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    for start in range(0, len(values_V), values_per_block):
        block_V = values_V[start : start + values_per_block]
        mask_V = np.frombuffer(stream.update(zeros[: block_V.nbytes]), "<u8")
        if subtract:
            block_V -= mask_V
        else:
            block_V += mask_V
