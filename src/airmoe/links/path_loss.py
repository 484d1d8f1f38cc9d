"""SNR by distance: where devices stand, and what stands between.

Shape suffixes: S slots, L links.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import number_within, positive_number
from airmoe.errors import InvalidInputError
from airmoe.links.fading_processes import first_order
from airmoe.links.processes import HIGHEST_DB, LOWEST_DB, draw_shape
from airmoe.spec_text import SpecText

MOST_TIMES_REFERENCE = 1e9
"""Times the reference distance that a radius may be."""


@dataclass(frozen=True)
class ShadowedPathLossSnr(SpecText, rule="path-loss", needed=3):
    """Devices dropped uniformly on a disc around the other end of their links, with log-normal shadowing.

    snr_db = reference_snr_db - 10 exponent log10(d / reference_m) + shadowing_db x_t. The distance d of a
    link is drawn once and stays, uniform over the area from `reference_m` to `radius_m`. x_t ~ N(0, 1) is
    drawn for each link; over d slots it correlates as correlation^d, the exponential law of Gudmundson
    (Electronics Letters 27(23), 1991) for a device that covers exp(-step / decorrelation distance) =
    correlation in each slot. Fast fading is averaged out. The defaults are ours: about -0.5 dB at the rim, 7
    dB on average. Its text is e.g. "path-loss:80:3.5:200".

    Args:
        reference_snr_db: SNR at the reference distance.
        exponent: path loss exponent, 2 in free space.
        radius_m: radius of the disc, above the reference distance.
        shadowing_db: standard deviation of the shadowing.
        correlation: of the shadowing from slot to slot, from 0 (drawn anew) to 1 (stays).
        reference_m: the reference distance; no device is nearer.

    Raises:
        InvalidInputError: an SNR outside -300 to 300 dB, an exponent outside 0 to 20, a standard deviation
            outside 0 to 100 dB, a correlation outside 0 to 1, a distance that is not above 0, or a radius
            that is not above the reference distance or beyond 1e9 times that.
    """

    reference_snr_db: float = 80.0
    exponent: float = 3.5
    radius_m: float = 200.0
    shadowing_db: float = 8.0
    correlation: float = 0.9
    reference_m: float = 1.0

    def __post_init__(self) -> None:
        number_within("reference_snr_db", self.reference_snr_db, LOWEST_DB, HIGHEST_DB)
        number_within("exponent", self.exponent, 0, 20)
        number_within("shadowing_db", self.shadowing_db, 0, 100)
        number_within("correlation", self.correlation, 0, 1)
        reference_m = positive_number("reference_m", self.reference_m)
        if positive_number("radius_m", self.radius_m) <= reference_m:
            raise InvalidInputError("radius_m", self.radius_m, f"above reference_m, {reference_m}")
        number_within("radius_m", self.radius_m, reference_m, MOST_TIMES_REFERENCE * reference_m)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`."""
        shape_SL = draw_shape(slots, links)
        widest = self.radius_m / self.reference_m
        # Area, not distance, is uniform: the square of d from the reference distance's to the radius's.
        distance_L = np.sqrt(1 + random.random(links) * (widest**2 - 1))
        path_loss_db_L = 10 * self.exponent * np.log10(distance_L)
        shadowing_SL = first_order(random.standard_normal(shape_SL), self.correlation)
        snr_db_SL = self.reference_snr_db - path_loss_db_L + self.shadowing_db * shadowing_SL
        return np.clip(snr_db_SL, LOWEST_DB, HIGHEST_DB)
