"""How many threads PyTorch uses: for small networks more threads cost more than they bring."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread within the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def training_threads(backbone: str) -> Iterator[None]:
    """Let PyTorch use as many threads within the block as a training of this backbone uses."""
    if backbone == "lenet5":
        with one_thread():
            yield
    else:
        yield
