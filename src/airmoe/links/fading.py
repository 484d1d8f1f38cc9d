"""Block fading of a whole network: the gains of all links and subcarriers, slot by slot.

Shape suffixes: N nodes, M subcarriers, P paths.
"""

from dataclasses import dataclass

import numpy as np

from airmoe.checks import integer_at_least, number_within
from airmoe.errors import InvalidInputError
from airmoe.links.radio import Ofdma
from airmoe.links.snapshot import Links
from airmoe.randomness import stream


@dataclass(frozen=True)
class RayleighFading:
    """Rayleigh block fading: in each slot every directed link and subcarrier draws a new, independent gain.

    A power gain is exponentially distributed (the square of a Rayleigh amplitude) and scaled to the mean
    SNR. A draw depends on `seed` and the slot alone, so slots can be asked for in any order.

    Args:
        nodes: N.
        radio: the radio that uses the links.
        mean_snr_db: mean of the linear SNR of every link and subcarrier, in dB.
        seed: integer >= 0.

    Raises:
        InvalidInputError: `nodes` < 1, `seed` < 0, or a mean SNR outside -300 to 300 dB.

    Examples:
        >>> from airmoe.links import Ofdma, RayleighFading
        >>> fading = RayleighFading(nodes=3, radio=Ofdma(subcarriers=64), mean_snr_db=10.0, seed=1)
        >>> fading.at(slot=0).gain_NNM.shape
        (3, 3, 64)
        >>> bool((fading.at(5).gain_NNM == fading.at(5).gain_NNM).all())
        True
    """

    nodes: int
    radio: Ofdma
    mean_snr_db: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        integer_at_least("nodes", self.nodes, 1)
        number_within("mean_snr_db", self.mean_snr_db, -300, 300)
        integer_at_least("seed", self.seed, 0)

    def at(self, slot: int) -> Links:
        """Return the links in this slot, an integer >= 0."""
        slot = integer_at_least("slot", slot, 0)
        power_NNM = stream(self.seed, "rayleigh fading", slot).standard_exponential(
            (self.nodes, self.nodes, self.radio.subcarriers)
        )
        mean_gain = 10.0 ** (self.mean_snr_db / 10) / self.radio.snr_per_gain
        return Links.from_gain(power_NNM * mean_gain, self.radio)


@dataclass(frozen=True)
class MultipathFading:
    """Block fading over a few paths: neighbouring subcarriers of a link fade alike, as they do on the air.

    In each slot every directed link draws complex Gaussian taps a_p of equal power, one symbol apart (a
    uniform power delay profile). The gain on subcarrier m is |sum_p a_p exp(-2 pi i p m / M)|^2, scaled to
    the mean SNR. Each subcarrier alone fades as Rayleigh. The gains of two subcarriers d apart correlate as
    |sum_p exp(2 pi i p d / M) / P|^2. With one tap the band is flat; with M taps its subcarriers are
    independent. A draw depends on `seed` and the slot alone, so slots can be asked for in any order.

    Args:
        nodes: N.
        radio: the radio that uses the links.
        taps: P, the number of paths, from 1 to the number of subcarriers.
        mean_snr_db: mean of the linear SNR of every link and subcarrier, in dB.
        seed: integer >= 0.

    Raises:
        InvalidInputError: `nodes` < 1, `taps` out of range, `seed` < 0, or a mean SNR outside -300 to 300 dB.
    """

    nodes: int
    radio: Ofdma
    taps: int = 8
    mean_snr_db: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        integer_at_least("nodes", self.nodes, 1)
        if integer_at_least("taps", self.taps, 1) > self.radio.subcarriers:
            raise InvalidInputError("taps", self.taps, f"at most {self.radio.subcarriers}, the subcarriers")
        number_within("mean_snr_db", self.mean_snr_db, -300, 300)
        integer_at_least("seed", self.seed, 0)

    def at(self, slot: int) -> Links:
        """Return the links in this slot, an integer >= 0."""
        slot = integer_at_least("slot", slot, 0)
        noise = stream(self.seed, "multipath fading", slot)
        parts = noise.standard_normal((2, self.nodes, self.nodes, self.taps)) / np.sqrt(2 * self.taps)
        response_NNM = np.fft.fft(parts[0] + 1j * parts[1], n=self.radio.subcarriers, axis=2)
        power_NNM = response_NNM.real**2 + response_NNM.imag**2
        mean_gain = 10.0 ** (self.mean_snr_db / 10) / self.radio.snr_per_gain
        return Links.from_gain(power_NNM * mean_gain, self.radio)
