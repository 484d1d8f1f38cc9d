"""Error rates of digital links: closed forms without a code, tables made with the full chain for the codes.

`python -m airmoe.nn.error_tables` makes the tables. Between the SNRs of a table the logarithm of a rate is
interpolated linearly in dB; below the first SNR the first rate holds; above the last SNR at which errors were
seen the rate is exactly 0.

Shape suffixes: P pairs, G SNRs of a table, C classes of bits that fare differently.
"""

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

TABLES_FILE = "error_tables.json"

EDGE_BITS = 32
"""So many bits at either end of a convolutional codeword are counted apart: their error rates are others."""


class RateCurve:
    """An error rate against SNR.

    Args:
        snr_db_G: ascending.
        rate_G: as counted; what comes after a first 0 counts as 0.
    """

    def __init__(self, snr_db_G: Sequence[float], rate_G: Sequence[float]) -> None:
        seen = (*rate_G, 0.0).index(0.0)
        self._first_db, self._last_db = snr_db_G[0], snr_db_G[seen - 1]
        self._snr_db_G = torch.tensor(snr_db_G[:seen])
        self._log_rate_G = torch.tensor(rate_G[:seen]).log()

    def __call__(self, snr_db_P: Tensor) -> Tensor:
        """Return the rate at each SNR, float32 like it in shape."""
        grid_G, log_G = self._snr_db_G.to(snr_db_P.device), self._log_rate_G.to(snr_db_P.device)
        clamped_P = snr_db_P.float().clamp(self._first_db, self._last_db)
        right_P = torch.searchsorted(grid_G, clamped_P).clamp_min(1)
        left_db_P, right_db_P = grid_G[right_P - 1], grid_G[right_P]
        share_P = (clamped_P - left_db_P) / (right_db_P - left_db_P)
        rate_P: Tensor = torch.lerp(log_G[right_P - 1], log_G[right_P], share_P).exp()
        return rate_P.masked_fill(snr_db_P > self._last_db, 0.0)


def uncoded(snr_db_P: Tensor, modulation: str) -> Tensor:
    """Return the bit-error rates (P, C) of nearest-point decisions, float32.

    QPSK has one class of bits, Q(sqrt(snr)). 16-QAM has two, the first two bits of a symbol (signs) and the
    last two (inner or outer): with x = sqrt(snr / 5), (Q(x) + Q(3x)) / 2 and (2 Q(x) + Q(3x) - Q(5x)) / 2.
    """
    amplitude_P = torch.pow(10.0, snr_db_P.float() / 20)
    if modulation == "qpsk":
        return torch.special.ndtr(-amplitude_P.unsqueeze(1))
    x_P = amplitude_P / math.sqrt(5)
    one_P, three_P, five_P = (torch.special.ndtr(-factor * x_P) for factor in (1, 3, 5))
    return torch.stack([(one_P + three_P) / 2, (2 * one_P + three_P - five_P) / 2], dim=1)


@lru_cache(maxsize=64)
def convolutional(modulation: str, payload_bits: int) -> RateCurve:
    """Return the bit-error rate after decoding, the mean over a codeword of so many bits before coding."""
    table = tables()["conv"][modulation]
    edge = min(EDGE_BITS, payload_bits / 2)
    rate_G = [
        (edge * (first + last) + (payload_bits - 2 * edge) * middle) / payload_bits
        for first, middle, last in zip(table["first"], table["middle"], table["last"], strict=True)
    ]
    return RateCurve(table["snr_db"], rate_G)


@lru_cache
def ldpc(modulation: str) -> tuple[RateCurve, RateCurve]:
    """Return the block-error rate, and the bit-error rate of a block that has an error."""
    table = tables()["ldpc"][modulation]
    return RateCurve(table["snr_db"], table["block"]), RateCurve(table["snr_db"], table["bit_if_block"])


@lru_cache
def tables() -> dict[str, Any]:
    """Return the tables as `airmoe.nn.error_tables.make_tables` made them."""
    content = files("airmoe.nn").joinpath(TABLES_FILE).read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(content)
    return loaded
