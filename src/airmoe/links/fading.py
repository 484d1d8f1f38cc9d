"""Fading processes: links that change from slot to slot.

Shape suffixes: N nodes, M subcarriers.
"""

from dataclasses import dataclass

from airmoe.links.checks import integer_at_least, number_within
from airmoe.links.radio import Ofdma
from airmoe.links.snapshot import Links
from airmoe.randomness import stream


@dataclass(frozen=True)
class RayleighFading:
    """Rayleigh block fading: in each slot every directed link and subcarrier draws a new, independent gain.

    A power gain is exponentially distributed (the square of a Rayleigh amplitude) and scaled to the mean
    SNR. A slot's draw depends on `seed` and the slot alone, so slots can be had in any order.

    Args:
        nodes: N.
        radio: the radio that uses the links.
        mean_snr_db: mean of the linear SNR of every link and subcarrier, in dB.
        seed: integer >= 0.

    Raises:
        InvalidInputError: `nodes` < 1, `seed` < 0, or a mean SNR outside -300 to 300 dB.
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
