"""The SNR of links as it is, and as a gate observes it: late and with errors.

Shape suffixes: S slots, L links, T items, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import integer_at_least, number_within, real_array, refuse_shape, refuse_where
from airmoe.links.processes import SnrProcess
from airmoe.showing import OneLine

MOST_ERROR_DB = 100.0


@dataclass(frozen=True, eq=False, repr=False)
class LinkSnr(OneLine):
    """The SNR of every item's link to every expert.

    Args:
        true_db_TE: float64, dB, the SNR at which items are transmitted; -inf for a link without gain, inf for
            one without noise.
        observed_db_TE: float64, dB, the SNR that gates and policies see; left out, they see the truth.

    Raises:
        InvalidInputError: a value is NaN, or the arrays are not both (T, E).

    Examples:
        >>> import numpy as np
        >>> from airmoe.links import LinkSnr, UniformSnr
        >>> process, random = UniformSnr(-5, 20), np.random.default_rng(0)
        >>> snr = LinkSnr.drawn(process, items=4, experts=2, random=random, delay_slots=1)
        >>> bool((snr.observed_db_TE[1:] == snr.true_db_TE[:-1]).all())
        True
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
            process: draws the SNR of the links; expert e is reached over link e.
            items: T.
            experts: E.
            random: the generator that the process and the errors draw from.
            delay_slots: how many slots old the observed SNR is (outdated CSI).
            error_db: standard deviation of the observation's error, dB (noisy CSI).

        Raises:
            InvalidInputError: a number is out of range, or the process draws another shape.
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

    def of_items(self, item_I: NDArray[np.int64]) -> LinkSnr:
        """Return the SNR of these items only."""
        return LinkSnr(self.true_db_TE[item_I], self.observed_db_TE[item_I])
