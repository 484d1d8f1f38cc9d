"""Seeding of PyTorch for a block of code, which leaves the caller's generators as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from airmoe.randomness import torch_seed


@contextmanager
def torch_seeded(seed: int, purpose: str, *indices: int) -> Iterator[None]:
    """Seed PyTorch's default generators for a block, from the same coordinates as `airmoe.randomness.stream`.

    Afterwards the generators of every device are as they were before.

    Examples:
        >>> import torch
        >>> from airmoe.seeding import torch_seeded
        >>> def draw():
        ...     with torch_seeded(0, "noise"):
        ...         return torch.randn(3)
        >>> torch.equal(draw(), draw())
        True
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(torch_seed(seed, purpose, *indices))
        yield
