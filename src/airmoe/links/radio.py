"""The OFDMA radio: the rate of a channel gain in bit/s, and the energy of a bit in J."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, positive_number, real_array, refuse_type


@dataclass(frozen=True)
class Ofdma:
    """An OFDMA radio in which a link transmits with a fixed power on one subcarrier (arXiv 2503.13421).

    The defaults are ours: the noise is -174 dBm/Hz over 1 MHz.

    Args:
        subcarriers: M, how many subcarriers (resource blocks in practice) there are.
        subcarrier_hz: B0, the bandwidth of one subcarrier, Hz.
        power_w: P0, the transmit power per subcarrier, W.
        noise_w: N0, the noise power on one subcarrier (a density times B0), W.
        charge_return: whether an expert's output travels back over the reverse link, for the price of its
            payload. False counts the way there alone, as the paper does.
        shared: whether a subcarrier carries one link at a time, as the paper has it. False: every link has
            all subcarriers to itself, as where the rates of links are measured.

    Raises:
        InvalidInputError: a value is not a finite number above 0, `subcarriers` is not an integer, or
            `charge_return` or `shared` is no boolean.

    Examples:
        >>> from airmoe.links import Ofdma
        >>> radio = Ofdma(subcarriers=4, subcarrier_hz=1e6, power_w=1e-2, noise_w=1e-14)
        >>> float(radio.rate_bps(3e-12))  # an SNR of 3 carries 2 bit/s per Hz
        2000000.0
        >>> float(radio.energy_per_bit_j(3e-12))
        5e-09
    """

    subcarriers: int = 128
    subcarrier_hz: float = 1e6
    power_w: float = 1e-2
    noise_w: float = 3.98e-15
    charge_return: bool = False
    shared: bool = True

    def __post_init__(self) -> None:
        integer_at_least("subcarriers", self.subcarriers, 1)
        for name in ("subcarrier_hz", "power_w", "noise_w"):
            positive_number(name, getattr(self, name))
        refuse_type("charge_return", self.charge_return, bool)
        refuse_type("shared", self.shared, bool)

    @property
    def snr_per_gain(self) -> float:
        """P0 / N0, the linear SNR of a link whose power gain is 1."""
        return self.power_w / self.noise_w

    def rate_bps(self, gain: ArrayLike) -> NDArray[np.float64]:
        """Return the Shannon rate r = B0 log2(1 + H P0 / N0) at each gain.

        Args:
            gain: H >= 0, channel power gain on one subcarrier, linear, any shape.

        Returns:
            float64 of the same shape, bit/s.
        """
        snr = real_array("gain", gain) * self.snr_per_gain
        return np.asarray(self.subcarrier_hz / np.log(2) * np.log1p(snr))

    def energy_per_bit_j(self, gain: ArrayLike) -> NDArray[np.float64]:
        """Return P0 / r, the energy of one bit at each gain; inf where the gain is 0.

        Args:
            gain: H >= 0, channel power gain on one subcarrier, linear, any shape.

        Returns:
            float64 of the same shape, J per bit.
        """
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(self.power_w / self.rate_bps(gain))
