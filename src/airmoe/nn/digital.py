"""Digital transmission: quantiser, channel code, Gray QPSK or 16-QAM, and back (ours).

Shape suffixes: P (item, expert) pairs, D values of a payload.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.links.checks import integer_at_least
from airmoe.nn import fast_chain, sionna_chain
from airmoe.nn.coding import BITS_PER_SYMBOL, CODE_RATE, symbols
from airmoe.nn.quantiser import CLIP, dequantise, quantise
from airmoe.nn.transmission import checked_snr, rms
from airmoe.scheduling.pricing import NORM_BITS, SIDE_BITS_PER_SYMBOL

MOST_BITS = 8
MEAN_BITS = 32
"""The payload's mean travels beside it like its norm, free of errors, and is charged."""

CHAINS = {"fast": fast_chain.transmit, "full": sionna_chain.transmit}


@dataclass(frozen=True)
class Digital:
    """The values in bits: at unit power they are centred, clipped to [-3, 3], quantised, coded and modulated.

    The receiver decodes, takes the values of the levels, adds the mean and undoes the norm. Over a link whose
    SNR is inf only the error of the quantiser is left. The gradient is straight-through: at unit power the
    error counts as a constant, and where a value is clipped nothing flows.

    Args:
        bits: of each value, 1 to 8.
        modulation: "qpsk" or "16qam".
        code: "none", "conv" or "ldpc"; see `airmoe.nn.coding`.
        chain: "fast" draws errors from rates and tables; "full" sends every bit through Sionna, which
            takes milliseconds for each LDPC block.

    Raises:
        InvalidInputError: `bits` out of range, or a name that is not known.
    """

    bits: int
    modulation: str = "qpsk"
    code: str = "none"
    chain: str = "fast"

    def __post_init__(self) -> None:
        if integer_at_least("bits", self.bits, 1) > MOST_BITS:
            raise InvalidInputError("bits", self.bits, f"at most {MOST_BITS}")
        for name, known in (("modulation", BITS_PER_SYMBOL), ("code", CODE_RATE), ("chain", CHAINS)):
            if getattr(self, name) not in known:
                raise InvalidInputError(name, getattr(self, name), f"one of {', '.join(known)}")

    @property
    def name(self) -> str:
        """E.g. "digital:4:qpsk:conv" or "digital:4:qpsk:conv:full"."""
        form = f"digital:{self.bits}:{self.modulation}:{self.code}"
        return form if self.chain == "fast" else f"{form}:{self.chain}"

    def channel_uses(self, values: int) -> float:
        """Return D b / (bits per symbol x code rate) symbols, and those of norm and mean.

        With "ldpc" D b counts in whole blocks of 512.
        """
        side_bits = NORM_BITS + MEAN_BITS
        return symbols(values * self.bits, self.modulation, self.code) + side_bits / SIDE_BITS_PER_SYMBOL

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        """Return what is received, shaped as the payload; see `Transmission`.

        Raises:
            MissingExtraError: the full chain, and Sionna is not installed.
        """
        snr_db_P = checked_snr(snr_db_P, payload_P)
        values_PD = payload_P.flatten(1)
        norm_P1, mean_P1 = rms(values_PD), values_PD.mean(dim=1, keepdim=True)
        clipped_PD = ((values_PD - mean_P1) / norm_P1).clamp(-CLIP, CLIP)
        with torch.no_grad():
            level_PD = CHAINS[self.chain](
                quantise(clipped_PD, self.bits), self.bits, self.modulation, self.code, snr_db_P
            )
            error_PD = dequantise(level_PD, self.bits, payload_P.dtype) - clipped_PD
        received_PD = (clipped_PD + error_PD) * norm_P1 + mean_P1
        return received_PD.reshape(payload_P.shape)
