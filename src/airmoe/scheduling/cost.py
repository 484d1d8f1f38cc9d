"""What a policy is told of the price of a transfer: joules, and seconds on the air.

Shape suffixes: T items, I some of them, E experts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import real_array, refuse_shape, refuse_where

MOST_J = 1e250
"""Larger energies would overflow where they are added up."""


@dataclass(frozen=True, eq=False)
class Cost:
    """What it takes to have each item served by each expert.

    Args:
        energy_j_TE: J, from 0 to 1e250; inf for an expert that cannot be reached, which no policy chooses.
        airtime_s_TE: s that the payload is on the air, >= 0; 0 at the item's own node, inf where it cannot be
            reached. Left out, nothing takes any time.

    Raises:
        InvalidInputError: an array that is not (T, E), or a value that is not allowed, named with its index.

    Example:
        >>> Cost([[0.0, 2e-5]], [[0.0, 2e-3]]).reachable_TE
        array([[ True,  True]])
    """

    energy_j_TE: NDArray[np.float64]
    airtime_s_TE: NDArray[np.float64]

    def __init__(self, energy_j_TE: ArrayLike, airtime_s_TE: ArrayLike | None = None) -> None:
        energy = real_array("energy_j_TE", energy_j_TE)
        refuse_shape("energy_j_TE", energy, energy.shape if energy.ndim == 2 else (-1, -1), "(T, E)")
        allowed_TE = (energy >= 0) & (energy <= MOST_J) | (energy == np.inf)
        refuse_where(
            "energy_j_TE", energy, ~allowed_TE, f"0 to {MOST_J:g} J, or inf for an unreachable expert"
        )
        if airtime_s_TE is None:
            airtime = np.zeros(energy.shape)
        else:
            airtime = real_array("airtime_s_TE", airtime_s_TE)
            refuse_shape("airtime_s_TE", airtime, energy.shape, "(T, E)")
            refuse_where("airtime_s_TE", airtime, ~(airtime >= 0), "a number of seconds >= 0, or inf")
        object.__setattr__(self, "energy_j_TE", energy)
        object.__setattr__(self, "airtime_s_TE", airtime)

    @property
    def reachable_TE(self) -> NDArray[np.bool_]:
        """True where the expert can be reached."""
        return np.isfinite(self.energy_j_TE)

    def of_items(self, item_I: NDArray[np.int64]) -> "Cost":
        """Return the cost of these items only."""
        return unchecked(self.energy_j_TE[item_I], self.airtime_s_TE[item_I])

    def where(self, allowed_TE: NDArray[np.bool_]) -> "Cost":
        """Return the same cost, inf where it is not allowed."""
        return unchecked(
            np.where(allowed_TE, self.energy_j_TE, np.inf), np.where(allowed_TE, self.airtime_s_TE, np.inf)
        )


def unchecked(energy_j_TE: NDArray[np.float64], airtime_s_TE: NDArray[np.float64]) -> Cost:
    """Return the cost of arrays that are known to be right: a query has no time to check them again."""
    cost = object.__new__(Cost)
    object.__setattr__(cost, "energy_j_TE", energy_j_TE)
    object.__setattr__(cost, "airtime_s_TE", airtime_s_TE)
    return cost


def check_energies(
    name: str, energies: ArrayLike, shape: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """Return energies (T, E) as float64; refuse another shape and what is not 0 to `MOST_J` or inf."""
    energy_TE = real_array(name, energies)
    if shape is None:
        shape = energy_TE.shape if energy_TE.ndim == 2 else (-1, -1)
    refuse_shape(name, energy_TE, shape, "(T, E)")
    allowed_TE = (energy_TE >= 0) & (energy_TE <= MOST_J) | (energy_TE == np.inf)
    refuse_where(name, energy_TE, ~allowed_TE, f"0 to {MOST_J:g} J, or inf for an unreachable expert")
    return energy_TE
