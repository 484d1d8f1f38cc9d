"""Error rates of digital links: closed forms for uncoded bits, tables for the codes.

`python -m airmoe.radio.error_tables` measures the tables with the full chain. Between two SNRs of a table the
logarithm of a value is linear in dB. Below the first SNR the first value holds. Above the last SNR with
errors a rate is exactly 0.

Shape suffixes: P pairs, G SNRs of a table, C classes of bits with error rates of their own.
"""

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from torch import Tensor

TABLES_FILE = "error_tables.json"

EDGE_BITS = 64
"""How many bits at each end of a convolutional codeword have error rates of their own."""


class Curve:
    """A column of a table as a function of SNR.

    Args:
        snr_db_G: dB, ascending.
        value_G: >= 0, and above 0 at the first SNR. All values after the first 0 count as 0.
    """

    def __init__(self, snr_db_G: Sequence[float], value_G: Sequence[float]) -> None:
        seen = (*value_G, 0.0).index(0.0)
        self._first_db, self._last_db = snr_db_G[0], snr_db_G[seen - 1]
        self._snr_db_G = torch.tensor(snr_db_G[:seen])
        self._log_value_G = torch.tensor(value_G[:seen]).log()

    def __call__(self, snr_db_P: Tensor) -> Tensor:
        """Return the value at each SNR, float32, shaped like it."""
        grid_G, log_G = self._snr_db_G.to(snr_db_P.device), self._log_value_G.to(snr_db_P.device)
        clamped_P = snr_db_P.float().clamp(self._first_db, self._last_db)
        right_P = torch.searchsorted(grid_G, clamped_P).clamp_min(1)
        left_db_P, right_db_P = grid_G[right_P - 1], grid_G[right_P]
        share_P = (clamped_P - left_db_P) / (right_db_P - left_db_P)
        value_P: Tensor = torch.lerp(log_G[right_P - 1], log_G[right_P], share_P).exp()
        return value_P.masked_fill(snr_db_P > self._last_db, 0.0)


def uncoded(snr_db_P: Tensor, modulation: str) -> Tensor:
    """Return the bit-error rates (P, C) of nearest-point decisions, float32.

    QPSK has one class of bits, with the rate Q(sqrt(snr)). 16-QAM has two classes: the first two bits of a
    symbol (signs) and the last two (inner or outer). With x = sqrt(snr / 5) their rates are
    (Q(x) + Q(3x)) / 2 and (2 Q(x) + Q(3x) - Q(5x)) / 2.
    """
    amplitude_P = torch.pow(10.0, snr_db_P.float() / 20)
    if modulation == "qpsk":
        error_P1: Tensor = torch.special.ndtr(-amplitude_P.unsqueeze(1))
        return error_P1
    x_P = amplitude_P / math.sqrt(5)
    one_P, three_P, five_P = (torch.special.ndtr(-factor * x_P) for factor in (1, 3, 5))
    return torch.stack([(one_P + three_P) / 2, (2 * one_P + three_P - five_P) / 2], dim=1)


class Convolutional(NamedTuple):
    """The errors of a codeword of the convolutional code.

    Attributes:
        bit: the bit-error rate, averaged over the codeword.
        burst: the mean number of hits of an error event; see `airmoe.radio.error_events`.
    """

    bit: Curve
    burst: Curve


class Ldpc(NamedTuple):
    """The errors of an LDPC block.

    Attributes:
        block: the block-error rate.
        events: the mean number of error events of a failed block; see `airmoe.radio.error_events`.
        burst: the mean number of hits of one of them.
    """

    block: Curve
    events: Curve
    burst: Curve


@lru_cache(maxsize=64)
def convolutional(modulation: str, payload_bits: int) -> Convolutional:
    """Return the curves of a codeword that codes ``payload_bits`` bits."""
    table = tables()["conv"][modulation]
    edge = min(EDGE_BITS, payload_bits / 2)
    rate_G = [
        (edge * (first + last) + (payload_bits - 2 * edge) * middle) / payload_bits
        for first, middle, last in zip(table["first"], table["middle"], table["last"], strict=True)
    ]
    return Convolutional(Curve(table["snr_db"], rate_G), Curve(table["snr_db"], table["burst"]))


@lru_cache
def ldpc(modulation: str) -> Ldpc:
    """Return the curves of a block that codes 512 bits in 1024."""
    table = tables()["ldpc"][modulation]
    return Ldpc(*(Curve(table["snr_db"], table[name]) for name in Ldpc._fields))


@lru_cache
def tables() -> dict[str, Any]:
    """Return the tables as `airmoe.radio.error_tables.make_tables` made them."""
    content = files("airmoe.radio").joinpath(TABLES_FILE).read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(content)
    return loaded
