"""Transmission of payloads over noisy links: the seam, and analog transmission.

The sender scales a payload to unit power per real dimension, s = sqrt(d) u / (||u|| + 1e-8). The norm travels
beside it, free of errors, and the receiver undoes the scaling. An ideal link changes nothing.

Shape suffixes: P (item, expert) pairs, D values of a payload.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from airmoe.checks import integer_at_least, number_within
from airmoe.dispatch import analog_channel_uses
from airmoe.errors import InvalidInputError
from airmoe.links.analog import LOWEST_SNR_DB, SMALLEST_NORM
from airmoe.spec_text import SpecText

MOST_REPEATS = 10**6


class Transmission(Protocol):
    """A way to send payloads over noisy links, differentiable in the payload."""

    @property
    def name(self) -> str:
        """A short name, for tables."""

    def channel_uses(self, values: int, snr_db: ArrayLike) -> NDArray[np.float64]:
        """Return the complex symbols that a payload of ``values`` values takes at each SNR.

        Side information is included; see `airmoe.dispatch.side_uses`. The result is shaped as ``snr_db``.
        """
        ...

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        """Return the received payloads, shaped as ``payload_P``; each pair has a link of its own SNR in dB.

        PyTorch's default generator of the device draws the noise.

        Raises:
            InvalidInputError: an SNR is NaN, or there is not one SNR for each pair.
        """
        ...


@dataclass(frozen=True)
class Analog(SpecText, rule="analog"):
    """Analog transmission: values are sent uncoded, two to a complex symbol.

    A value arrives as r = s + n with n ~ N(0, 10^(-snr_db/10)).

    Its text is "analog" or e.g. "analog:2".

    Args:
        repeats: how often everything is sent. The receiver averages, which gains 10 log10(repeats) dB.

    Raises:
        InvalidInputError: `repeats` is no integer from 1 to 10^6.

    Examples:
        >>> import torch
        >>> from airmoe.radio import Analog
        >>> payload_P = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> Analog()(payload_P, torch.tensor([float("inf"), float("inf")])).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
        >>> Analog(repeats=2).channel_uses(400, [0.0, -5.0])  # 200 symbols, twice, and the norm
        array([432., 481.])
    """

    repeats: int = 1

    def __post_init__(self) -> None:
        integer_at_least("repeats", self.repeats, 1)
        number_within("repeats", self.repeats, 1, MOST_REPEATS)

    def channel_uses(self, values: int, snr_db: ArrayLike) -> NDArray[np.float64]:
        """Return D / 2 symbols for each repetition, plus those of the norm at each SNR."""
        return analog_channel_uses(values, snr_db, self.repeats)

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        """Return the payload plus noise; see `Transmission`."""
        # Scaling, adding noise and undoing the scaling equals adding noise of the right power.
        noise_rms_P1 = amplitude(snr_db_P, payload_P) * rms(payload_P) / math.sqrt(self.repeats)
        shape = [-1, *[1] * (payload_P.ndim - 1)]
        return payload_P + noise_rms_P1.reshape(shape) * torch.randn_like(payload_P)


def rms(payload_P: Tensor) -> Tensor:
    """Return (P, 1), the root mean square of each payload's values, ||u|| / sqrt(D)."""
    values_PD = payload_P.flatten(1)
    norm_P1: Tensor = torch.linalg.vector_norm(values_PD, dim=1, keepdim=True) + SMALLEST_NORM
    return norm_P1 / math.sqrt(values_PD.shape[1])


def amplitude(snr_db_P: Tensor, payload_P: Tensor) -> Tensor:
    """Return (P, 1), 10^(-snr_db / 20), of the payload's type and on its device; 0 where the SNR is inf.

    Raises:
        InvalidInputError: an SNR is NaN, or there is not one SNR for each pair.
    """
    snr_db_P1 = checked_snr(snr_db_P, payload_P).clamp_min(LOWEST_SNR_DB).unsqueeze(1)
    return torch.pow(10.0, -snr_db_P1 / 20)


def checked_snr(snr_db_P: Tensor, payload_P: Tensor) -> Tensor:
    """Return the SNR of each pair, of the payload's type and on its device; raise as `amplitude`."""
    if not payload_P.is_floating_point() or not payload_P.shape[1:].numel():
        given = f"{payload_P.dtype} of shape {tuple(payload_P.shape)}"
        raise InvalidInputError("payload", given, "floating-point values, at least one for each pair")
    if snr_db_P.shape != payload_P.shape[:1]:
        raise InvalidInputError("shape of snr_db", tuple(snr_db_P.shape), f"(P,) = ({len(payload_P)},)")
    if bool(snr_db_P.isnan().any()):
        place = int(snr_db_P.isnan().nonzero()[0])
        raise InvalidInputError(f"snr_db[{place}]", float("nan"), "a number of dB, -inf or inf")
    return snr_db_P.to(payload_P)
