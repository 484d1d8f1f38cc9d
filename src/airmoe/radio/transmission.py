"""What a radio does to a payload on its way to an expert.

A payload is scaled to unit power per real dimension, s = sqrt(d) u / (||u|| + 1e-8); its norm travels beside
it, free of errors, and the receiver undoes the scaling: over an ideal link nothing changes.

Shape suffixes: P (item, expert) pairs, D values of a payload.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
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

    def channel_uses(self, values: int) -> float:
        """Return the complex symbols that a payload of so many values takes, side information included."""
        ...

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        """Return what is received, shaped as ``payload_P``, over a link of that SNR for each pair.

        Noise is drawn from PyTorch's default generator of the device.

        Raises:
            InvalidInputError: an SNR that is NaN, or not one for each pair.
        """
        ...


@dataclass(frozen=True)
class Analog(SpecText, rule="analog"):
    """The values themselves, two to a complex symbol: r = s + n with n ~ N(0, 10^(-snr_db/10)) per value.

    Its text is "analog" or e.g. "analog:2".

    Args:
        repeats: how often everything is sent; the receiver averages, which is worth 10 log10(repeats) dB.

    Raises:
        InvalidInputError: `repeats` is no integer from 1 to 10^6.
    """

    repeats: int = 1

    def __post_init__(self) -> None:
        integer_at_least("repeats", self.repeats, 1)
        number_within("repeats", self.repeats, 1, MOST_REPEATS)

    def channel_uses(self, values: int) -> float:
        """Return D / 2 symbols for each repetition, and those of the norm."""
        return analog_channel_uses(values, self.repeats)

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        """Return the payload and noise; see `Transmission`."""
        # Noise of the right power is added to the payload as it is: the same as to scale, add and undo.
        noise_rms_P1 = amplitude(snr_db_P, payload_P) * rms(payload_P) / math.sqrt(self.repeats)
        shape = [-1, *[1] * (payload_P.ndim - 1)]
        return payload_P + noise_rms_P1.reshape(shape) * torch.randn_like(payload_P)


def rms(payload_P: Tensor) -> Tensor:
    """Return (P, 1): the root mean square of each payload's values, ||u|| / sqrt(D)."""
    values_PD = payload_P.flatten(1)
    norm_P1: Tensor = torch.linalg.vector_norm(values_PD, dim=1, keepdim=True) + SMALLEST_NORM
    return norm_P1 / math.sqrt(values_PD.shape[1])


def amplitude(snr_db_P: Tensor, payload_P: Tensor) -> Tensor:
    """Return (P, 1), 10^(-snr_db / 20), like the payload in type and device: 0 where the SNR is inf.

    Raises:
        InvalidInputError: an SNR that is NaN, or not one for each pair.
    """
    snr_db_P1 = checked_snr(snr_db_P, payload_P).clamp_min(LOWEST_SNR_DB).unsqueeze(1)
    return torch.pow(10.0, -snr_db_P1 / 20)


def checked_snr(snr_db_P: Tensor, payload_P: Tensor) -> Tensor:
    """Return an SNR for each pair, like the payload in type and device; raises as `amplitude`."""
    if not payload_P.is_floating_point() or not payload_P.shape[1:].numel():
        given = f"{payload_P.dtype} of shape {tuple(payload_P.shape)}"
        raise InvalidInputError("payload", given, "floating-point values, at least one for each pair")
    if snr_db_P.shape != payload_P.shape[:1]:
        raise InvalidInputError("shape of snr_db", tuple(snr_db_P.shape), f"(P,) = ({len(payload_P)},)")
    if bool(snr_db_P.isnan().any()):
        place = int(snr_db_P.isnan().nonzero()[0])
        raise InvalidInputError(f"snr_db[{place}]", float("nan"), "a number of dB, -inf or inf")
    return snr_db_P.to(payload_P)
