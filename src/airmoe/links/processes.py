"""SNR processes: how the links between devices change from slot to slot.

Shape suffixes: S slots, L links.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import integer_at_least, number_within
from airmoe.errors import InvalidInputError
from airmoe.spec_text import SpecText

LOWEST_DB, HIGHEST_DB = -300.0, 300.0


class SnrProcess(Protocol):
    """Draws the SNR of links over consecutive slots."""

    @property
    def name(self) -> str:
        """What tables and figures call it; of ours, the text from which `make_process` makes an equal one."""
        ...

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB, finite: links behave alike and independently, unless the process says otherwise.

        Raises:
            InvalidInputError: `slots` is no integer >= 0, or `links` none >= 1.
        """
        ...


def draw_shape(slots: int, links: int) -> tuple[int, int]:
    """Return (S, L); raises `InvalidInputError` where `slots` is no integer >= 0 or `links` none >= 1."""
    return integer_at_least("slots", slots, 0), integer_at_least("links", links, 1)


@dataclass(frozen=True)
class FixedSnr(SpecText, rule="fixed"):
    """The same in every slot: one SNR for all links, or one for each.

    Its text is "fixed:10", "fixed:10,-5,20", or "fixed:10," for a tuple of one.

    Args:
        snr_db: a number, or a tuple with one number per link.

    Raises:
        InvalidInputError: a number outside -300 to 300 dB, or none at all.
    """

    snr_db: float | tuple[float, ...]

    def __post_init__(self) -> None:
        if isinstance(self.snr_db, tuple):
            if not self.snr_db:
                raise InvalidInputError("snr_db", self.snr_db, "a number, or one per link")
            for link, snr_db in enumerate(self.snr_db):
                number_within(f"snr_db[{link}]", snr_db, LOWEST_DB, HIGHEST_DB)
        else:
            number_within("snr_db", self.snr_db, LOWEST_DB, HIGHEST_DB)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`.

        Raises:
            InvalidInputError: the tuple has another number of links.
        """
        shape_SL = draw_shape(slots, links)
        if isinstance(self.snr_db, tuple) and len(self.snr_db) != links:
            raise InvalidInputError("links", links, f"{len(self.snr_db)}, as {self.name} has so many numbers")
        return np.broadcast_to(np.asarray(self.snr_db, dtype=np.float64), shape_SL).copy()


@dataclass(frozen=True)
class UniformSnr(SpecText, rule="uniform", needed=2):
    """Uniform in dB, drawn anew for every slot and link: the law under which channel-aware gates are trained.

    Its text is e.g. "uniform:-5:20".

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
        """Return (S, L), dB; see `SnrProcess.draw`."""
        return random.uniform(self.low_db, self.high_db, draw_shape(slots, links))


@dataclass(frozen=True)
class SpreadSnr(SpecText, rule="spread", needed=2):
    """Every slot has the same SNRs, mean + spread x linspace(-1, 1, L), in an order drawn anew.

    Its text is e.g. "spread:10:5".

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
        """Return (S, L), dB; a single link has the mean; see `SnrProcess.draw`."""
        shape_SL = draw_shape(slots, links)
        steps_L = np.linspace(-1.0, 1.0, links) if links > 1 else np.zeros(1)
        steps_SL = random.permuted(np.broadcast_to(steps_L, shape_SL), axis=1)
        return np.asarray(self.mean_db + self.spread_db * steps_SL)


@dataclass(frozen=True)
class OneBadSnr(SpecText, rule="one-bad", needed=2):
    """The same in every slot: one link is bad, all others are good.

    Its text is e.g. "one-bad:-10:20", or "one-bad:-10:20:3" where link 3 is bad.

    Args:
        bad_db: SNR of the bad link.
        good_db: SNR of the others.
        bad_link: which link is bad.

    Raises:
        InvalidInputError: an SNR outside -300 to 300 dB, or a negative link.
    """

    bad_db: float = -10.0
    good_db: float = 20.0
    bad_link: int = 0

    def __post_init__(self) -> None:
        number_within("bad_db", self.bad_db, LOWEST_DB, HIGHEST_DB)
        number_within("good_db", self.good_db, LOWEST_DB, HIGHEST_DB)
        integer_at_least("bad_link", self.bad_link, 0)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`.

        Raises:
            InvalidInputError: the bad link is none of these.
        """
        snr_db_SL = np.full(draw_shape(slots, links), float(self.good_db))
        if self.bad_link >= links:
            raise InvalidInputError("bad_link", self.bad_link, f"a link from 0 to {links - 1}")
        snr_db_SL[:, self.bad_link] = self.bad_db
        return snr_db_SL
