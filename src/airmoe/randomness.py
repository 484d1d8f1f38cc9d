"""Many independent random streams from one seed, each derived from (seed, purpose, indices).

No generator state is saved: a resumed run, another engine, or another order of clients draws the same numbers
for the same purpose.
"""

import zlib

import numpy as np


def stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return the generator of one purpose.

    Args:
        seed: the run's seed, >= 0.
        purpose: what the numbers are for; different purposes are independent.
        indices: further coordinates, each >= 0: stage, round, client, slot. Trailing zeros make no
            difference, so all streams of a purpose need the same number of indices.

    Examples:
        >>> from airmoe.randomness import stream
        >>> round_, client = 3, 4
        >>> stream(0, "fedce batches", round_, client).permutation(6)
        array([0, 1, 4, 2, 3, 5])
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])


def torch_seed(seed: int, purpose: str, *indices: int) -> int:
    """Return a 63-bit seed for ``torch.manual_seed`` from the same coordinates as `stream`."""
    return int(stream(seed, purpose, *indices).integers(2**63))
