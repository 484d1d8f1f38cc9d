"""Digital transmission: quantiser, channel code, Gray QPSK or 16-QAM, and back (ours).

Shape suffixes: P (item, expert) pairs, D values of a payload.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from airmoe.checks import integer_at_least
from airmoe.dispatch import NORM_BITS, side_uses
from airmoe.errors import InvalidInputError, one_of
from airmoe.radio import fast_chain, sionna_chain
from airmoe.radio.coding import BITS_PER_SYMBOL, CODE_RATE, symbols
from airmoe.radio.quantiser import CLIP_RANGES, clip_range, dequantise, quantise
from airmoe.radio.transmission import checked_snr, rms
from airmoe.spec_text import SpecText

MOST_BITS = len(CLIP_RANGES)
MEAN_BITS = 32
"""The bits of a payload's mean. The mean travels beside it, free of errors and charged like its norm."""

CHAINS = {"fast": fast_chain.transmit, "full": sionna_chain.transmit}


@dataclass(frozen=True)
class Digital(SpecText, rule="digital", needed=3):
    """Digital transmission: values are centred, scaled, clipped, quantised, coded and modulated.

    A payload loses its mean and is scaled to unit power, so the quantiser's range fits whatever the mean is.
    The receiver decodes, maps levels to values, undoes the norm and adds the mean. Over a link whose SNR is
    inf only the error of the quantiser is left. The gradient is straight-through: at unit power the error
    counts as a constant, and a clipped value passes no gradient.

    Its text is e.g. "digital:4:qpsk:conv", or "digital:4:qpsk:conv:full" over the full chain.

    Args:
        bits: bits of each value, 1 to 8.
        modulation: "qpsk" or "16qam".
        code: "none", "conv" or "ldpc"; see `airmoe.radio.coding`.
        chain: "fast" draws errors from rates and tables; "full" sends every bit through Sionna, which
            takes milliseconds for each LDPC block.

    Raises:
        InvalidInputError: `bits` is out of range, or a name is not known.

    Examples:
        >>> import torch
        >>> from airmoe.radio import Digital
        >>> digital = Digital(bits=8, modulation="16qam", code="conv")
        >>> payload_P = torch.linspace(-1, 1, 64).reshape(1, 64)
        >>> received_P = digital(payload_P, torch.tensor([float("inf")]))
        >>> bool((received_P - payload_P).abs().max() < 0.01)
        True
        >>> digital.channel_uses(64, [0.0, -5.0])  # 1,024 coded bits, 4 to a symbol, and norm and mean
        array([320., 418.])
    """

    bits: int
    modulation: str = "qpsk"
    code: str = "none"
    chain: Literal["fast", "full"] = "fast"

    def __post_init__(self) -> None:
        if integer_at_least("bits", self.bits, 1) > MOST_BITS:
            raise InvalidInputError("bits", self.bits, f"at most {MOST_BITS}")
        for name, known in (("modulation", BITS_PER_SYMBOL), ("code", CODE_RATE), ("chain", CHAINS)):
            if getattr(self, name) not in known:
                raise InvalidInputError(name, getattr(self, name), one_of(getattr(self, name), known))

    def channel_uses(self, values: int, snr_db: ArrayLike) -> NDArray[np.float64]:
        """Return D b / (bits per symbol x code rate) symbols, plus those of norm and mean at each SNR.

        With "ldpc", D b is rounded up to whole blocks of 512.
        """
        payload = symbols(values * self.bits, self.modulation, self.code)
        return payload + side_uses(NORM_BITS + MEAN_BITS, snr_db)

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        """Return the received payloads, shaped as ``payload_P``; see `Transmission`.

        Raises:
            MissingExtraError: the chain is "full", and Sionna is not installed.
        """
        snr_db_P = checked_snr(snr_db_P, payload_P)
        received_PD: Tensor = _StraightThrough.apply(payload_P.flatten(1), snr_db_P, self)  # type: ignore[no-untyped-call]
        return received_PD.reshape(payload_P.shape)


class _StraightThrough(torch.autograd.Function):
    """y = (c + error) norm + mean with c = clip((x - mean) / norm), the error held fixed.

    Written by hand: autograd through the scaling would cost more than the chain itself.
    """

    @staticmethod
    def forward(ctx: Any, value_PD: Tensor, snr_db_P: Tensor, digital: Digital) -> Tensor:
        mean_P1 = value_PD.mean(dim=1, keepdim=True)
        centred_PD = value_PD - mean_P1
        norm_P1 = rms(centred_PD)
        unit_PD = centred_PD.div_(norm_P1)
        clipped_PD = unit_PD.clamp(-clip_range(digital.bits), clip_range(digital.bits))
        level_PD = quantise(clipped_PD, digital.bits)
        chain = CHAINS[digital.chain]
        level_PD = chain(level_PD, digital.bits, digital.modulation, digital.code, snr_db_P)
        received_PD = dequantise(level_PD, digital.bits, value_PD.dtype)
        ctx.save_for_backward(unit_PD, clipped_PD, received_PD)
        return received_PD * norm_P1 + mean_P1

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient_PD,) = gradients
        unit_PD, clipped_PD, received_PD = ctx.saved_tensors
        inside_PD = unit_PD == clipped_PD
        passed_PD = gradient_PD * inside_PD
        # Inside, y = x + error norm; where a value was clipped, y = received norm + mean.
        by_norm_PD = torch.where(inside_PD, received_PD - clipped_PD, received_PD)
        of_norm_P1 = torch.linalg.vecdot(gradient_PD, by_norm_PD).unsqueeze(1)
        of_mean_P1 = (gradient_PD - passed_PD).sum(dim=1, keepdim=True)
        values = unit_PD.shape[1]
        # The norm is ||x - mean|| / sqrt(D), so its slope is (x - mean) / (D norm).
        through_norm_PD = unit_PD * (of_norm_P1 / values)
        return passed_PD.add_(through_norm_PD).add_(of_mean_P1 / values), None, None
