"""How well a language model predicts a text: bits per byte.

Shape suffixes: B sequences, S positions, V bytes, W windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from airmoe.errors import DataError
from airmoe.language.texts import Texts, joined


def windows_of(text: NDArray[np.uint8], context: int, windows: int) -> Tensor:
    """Return int64 (W, context + 1): windows that tell one another nothing, evenly spread over a text.

    There are at most ``windows``; each begins with a byte that is not predicted.
    """
    steps = context + 1
    whole = len(text) // steps
    first_W = np.unique(np.linspace(0, whole - 1, min(windows, whole)).astype(np.int64)) * steps
    return torch.from_numpy(text[first_W[:, np.newaxis] + np.arange(steps)].astype(np.int64))


def questions(texts: Texts, context: int, windows: int) -> list[Tensor]:
    """Return windows of each domain's held-out documents, (W, context + 1), none of which was learnt.

    A window that also stands in a document of training, such as a licence, is left out.

    Raises:
        DataError: a domain's held-out text is shorter than a window, or all of its windows were learnt.
    """
    learnt = b"\0".join(document for domain in texts.domains for document in domain.train)
    found = []
    for domain in texts.domains:
        windows_WS = windows_of(joined(domain.test), context, windows)
        if not len(windows_WS):
            told = f"{len(joined(domain.test))} bytes of held-out text; expected {context + 1}, a window"
            raise DataError(f"domain {domain.name}: {told}")
        new_W = [window_S.numpy().astype(np.uint8).tobytes() not in learnt for window_S in windows_WS]
        if not any(new_W):
            raise DataError(f"domain {domain.name}: every held-out window also stands in training texts")
        found.append(windows_WS[torch.tensor(new_W)])
    return found


def bits_per_byte(logits_of: Callable[[Tensor], Tensor], windows_WS: Tensor, at_once: int = 16) -> float:
    """Return the mean of -log2 of the probability that each byte of the windows but the first was given.

    Args:
        logits_of: bytes (B, S) to logits (B, S, V) of the next byte.
        windows_WS: int64; a byte is predicted from those before it in its window.
        at_once: windows of a batch.
    """
    total = 0.0
    with torch.no_grad():
        for windows_BS in windows_WS.split(at_once):
            logits_BSV = logits_of(windows_BS[:, :-1])
            total += float(
                functional.cross_entropy(
                    logits_BSV.flatten(0, 1).double(), windows_BS[:, 1:].flatten(), reduction="sum"
                )
            )
    return total / math.log(2) / windows_WS[:, 1:].numel()
