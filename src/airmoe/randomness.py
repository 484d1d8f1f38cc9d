"""One seed, many independent streams: each is derived from (seed, purpose, indices), so none has to be saved.

A resumed run, another engine, or another order of clients draws the same numbers for the same purpose.
"""

import zlib

import numpy as np


def stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return the generator of one purpose, for example ``stream(0, "fedce batches", round_, client)``.

    Args:
        seed: the run's seed, >= 0.
        purpose: what the numbers are for; different purposes are independent.
        indices: further coordinates, each >= 0: stage, round, client, slot; as many for every stream of a
            purpose, since trailing zeros make no difference.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])


def torch_seed(seed: int, purpose: str, *indices: int) -> int:
    """Return a 63-bit seed for ``torch.manual_seed`` from the same coordinates as `stream`."""
    return int(stream(seed, purpose, *indices).integers(2**63))
