"""What a policy is told of the price of a transfer: joules, and seconds on the air.

Shape suffixes: T items, I some of them, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import read_only, real_array, refuse_shape, refuse_where
from airmoe.errors import InvalidInputError
from airmoe.showing import OneLine

MOST_J = 1e250
"""Larger energies would overflow where they are added up."""


@dataclass(frozen=True, eq=False, repr=False)
class Cost(OneLine):
    """What it takes to have each item served by each expert.

    Args:
        energy_j_TE: J, from 0 to 1e250; inf for an expert that cannot be reached, which no policy chooses.
        airtime_s_TE: s that the payload is on the air, >= 0; 0 at the item's own node, inf where the expert
            cannot be reached. Left out, every reachable expert takes 0 s.

    Raises:
        InvalidInputError: an array that is not (T, E), or a value that is not allowed, named with its index.

    Examples:
        >>> from airmoe.scheduling import Cost
        >>> Cost([[0.0, 2e-5, float("inf")]], [[0.0, 2e-3, float("inf")]]).reachable_TE
        array([[ True,  True, False]])
    """

    energy_j_TE: NDArray[np.float64]
    airtime_s_TE: NDArray[np.float64]

    def __init__(self, energy_j_TE: ArrayLike, airtime_s_TE: ArrayLike | None = None) -> None:
        energy = check_energies("energy_j_TE", energy_j_TE)
        if airtime_s_TE is None:
            airtime = np.where(np.isfinite(energy), 0.0, np.inf)
        else:
            airtime = real_array("airtime_s_TE", airtime_s_TE)
            refuse_shape("airtime_s_TE", airtime, energy.shape, "(T, E)")
            refuse_where("airtime_s_TE", airtime, ~(airtime >= 0), "a number of seconds >= 0, or inf")
        object.__setattr__(self, "energy_j_TE", read_only(energy))
        object.__setattr__(self, "airtime_s_TE", read_only(airtime))

    @property
    def reachable_TE(self) -> NDArray[np.bool_]:
        """True where the expert can be reached."""
        return np.isfinite(self.energy_j_TE)

    def of_items(self, item_I: NDArray[np.int64]) -> Cost:
        """Return the cost of these items only."""
        return unchecked(self.energy_j_TE[item_I], self.airtime_s_TE[item_I])

    def where(self, allowed_TE: NDArray[np.bool_]) -> Cost:
        """Return the same cost, inf where it is not allowed."""
        return unchecked(
            np.where(allowed_TE, self.energy_j_TE, np.inf), np.where(allowed_TE, self.airtime_s_TE, np.inf)
        )

    def free_where(self, arrived_TE: NDArray[np.bool_]) -> Cost:
        """Return the same cost, 0 where an output has arrived already."""
        return unchecked(
            np.where(arrived_TE, 0.0, self.energy_j_TE), np.where(arrived_TE, 0.0, self.airtime_s_TE)
        )

    def plus_energy(self, energy_j_E: NDArray[np.float64]) -> Cost:
        """Return the same cost with J added for each expert."""
        return unchecked(self.energy_j_TE + energy_j_E, self.airtime_s_TE)

    def plus(self, other: Cost, added_TE: NDArray[np.bool_]) -> Cost:
        """Return the sum of two costs where the other one is added."""
        return unchecked(
            self.energy_j_TE + np.where(added_TE, other.energy_j_TE, 0.0),
            self.airtime_s_TE + np.where(added_TE, other.airtime_s_TE, 0.0),
        )


def unchecked(energy_j_TE: NDArray[np.float64], airtime_s_TE: NDArray[np.float64]) -> Cost:
    """Return the cost of arrays that are known to be right: a query has no time to check them again."""
    cost = object.__new__(Cost)
    object.__setattr__(cost, "energy_j_TE", read_only(energy_j_TE))
    object.__setattr__(cost, "airtime_s_TE", read_only(airtime_s_TE))
    return cost


def check_energies(
    name: str, energies: ArrayLike, shape: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """Return energies (T, E) as float64; refuse another shape and what is not 0 to `MOST_J` or inf."""
    energy_TE = real_array(name, energies)
    if shape is not None:
        refuse_shape(name, energy_TE, shape, "(T, E)")
    elif energy_TE.ndim != 2:
        raise InvalidInputError(f"shape of {name}", energy_TE.shape, "(T, E)")
    allowed_TE = (energy_TE >= 0) & (energy_TE <= MOST_J) | (energy_TE == np.inf)
    refuse_where(name, energy_TE, ~allowed_TE, f"0 to {MOST_J:g} J, or inf for an unreachable expert")
    return energy_TE
