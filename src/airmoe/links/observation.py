"""What a gate may know of a link: its SNR as it is, and as it was seen, late and with errors.

Shape suffixes: S slots, L links, T items, E experts.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, number_within, real_array, refuse_shape, refuse_where
from airmoe.links.processes import SnrProcess

MOST_ERROR_DB = 100.0


@dataclass(frozen=True, eq=False)
class LinkSnr:
    """The SNR of every item's link to every expert.

    Args:
        true_db_TE: float64, dB, what the channel does to the item; -inf for a link without gain, inf for one
            without noise.
        observed_db_TE: float64, dB, what gates and policies see; left out, the truth.

    Raises:
        InvalidInputError: NaN, or arrays that are not both (T, E).
    """

    true_db_TE: NDArray[np.float64]
    observed_db_TE: NDArray[np.float64]

    def __init__(self, true_db_TE: ArrayLike, observed_db_TE: ArrayLike | None = None) -> None:
        true = real_array("true_db_TE", true_db_TE)
        observed = true if observed_db_TE is None else real_array("observed_db_TE", observed_db_TE)
        refuse_shape("true_db_TE", true, true.shape if true.ndim == 2 else (-1, -1), "(T, E)")
        refuse_shape("observed_db_TE", observed, true.shape, "(T, E)")
        for name, array in (("true_db_TE", true), ("observed_db_TE", observed)):
            refuse_where(name, array, np.isnan(array), "a number of dB, -inf or inf")
        object.__setattr__(self, "true_db_TE", true)
        object.__setattr__(self, "observed_db_TE", observed)

    @classmethod
    def drawn(
        cls,
        process: SnrProcess,
        items: int,
        experts: int,
        random: np.random.Generator,
        *,
        delay_slots: int = 0,
        error_db: float = 0.0,
    ) -> Self:
        """Return the SNR of consecutive items, one per slot of the process.

        Args:
            process: what the links do; expert e is reached over link e.
            items: T.
            experts: E.
            random: where draws come from.
            delay_slots: the gate sees the SNR of so many slots ago (outdated CSI).
            error_db: standard deviation of the error in dB of what it sees (noisy CSI).

        Raises:
            InvalidInputError: a number out of range, or a process that draws another shape.
        """
        items = integer_at_least("items", items, 0)
        experts = integer_at_least("experts", experts, 1)
        delay = integer_at_least("delay_slots", delay_slots, 0)
        error = number_within("error_db", error_db, 0, MOST_ERROR_DB)
        snr_db_SL = process.draw(items + delay, experts, random)
        refuse_shape(f"a draw of {process.name}", snr_db_SL, (items + delay, experts), "(S, L)")
        observed_db_TE = snr_db_SL[:items]
        if error:
            observed_db_TE = observed_db_TE + error * random.standard_normal(observed_db_TE.shape)
        return cls(snr_db_SL[delay:], observed_db_TE)

    def of_items(self, item_I: NDArray[np.int64]) -> "LinkSnr":
        """Return the SNR of these items only."""
        return LinkSnr(self.true_db_TE[item_I], self.observed_db_TE[item_I])
