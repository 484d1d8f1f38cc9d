"""SNR processes: how the links between devices change from slot to slot.

Shape suffixes: S slots, L links.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.links.checks import number_within

LOWEST_DB, HIGHEST_DB = -300.0, 300.0


class SnrProcess(Protocol):
    """Draws the SNR of links over consecutive slots."""

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB: links behave alike and independently, unless the process says otherwise."""
        ...


@dataclass(frozen=True)
class UniformSnr:
    """Uniform in dB, drawn anew for every slot and link: the law under which channel-aware gates are trained.

    Args:
        low_db: lower end.
        high_db: upper end.

    Raises:
        InvalidInputError: an end outside -300 to 300 dB, or a lower end above the upper.
    """

    low_db: float = -5.0
    high_db: float = 20.0

    def __post_init__(self) -> None:
        number_within("low_db", self.low_db, LOWEST_DB, HIGHEST_DB)
        number_within("high_db", self.high_db, LOWEST_DB, HIGHEST_DB)
        if self.low_db > self.high_db:
            raise InvalidInputError("low_db", self.low_db, f"at most high_db, {self.high_db}")

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB."""
        return random.uniform(self.low_db, self.high_db, (slots, links))


@dataclass(frozen=True)
class SpreadSnr:
    """Every slot has the same SNRs, mean + spread x linspace(-1, 1, L), in an order drawn anew.

    Args:
        mean_db: mean over the links.
        spread_db: half the distance between the best link and the worst, >= 0.

    Raises:
        InvalidInputError: a mean outside -300 to 300 dB, or a spread outside 0 to 300 dB.
    """

    mean_db: float = 10.0
    spread_db: float = 0.0

    def __post_init__(self) -> None:
        number_within("mean_db", self.mean_db, LOWEST_DB, HIGHEST_DB)
        number_within("spread_db", self.spread_db, 0, HIGHEST_DB)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; a single link has the mean."""
        steps_L = np.linspace(-1.0, 1.0, links) if links > 1 else np.zeros(1)
        steps_SL = random.permuted(np.broadcast_to(steps_L, (slots, links)), axis=1)
        return np.asarray(self.mean_db + self.spread_db * steps_SL)
