"""Differential privacy of what clients release again and again with Gaussian noise, and what it adds up to.

A client that adds noise of standard deviation sigma to every value of a release, whose sensitivity is S in
Euclidean norm, spends rho = S^2 / (2 sigma^2) of zero-concentrated differential privacy. R releases of the
same data spend R times as much, which makes

    epsilon = rho + 2 sqrt(rho ln(1 / delta))

(Bun and Steinke, TCC 2016, propositions 1.3 and 1.6 and lemma 1.7). That is reported, never asserted: an
epsilon far above 1 promises next to nothing.
"""

import math
from collections.abc import Mapping

from airmoe.checks import integer_at_least, number_within, positive_number
from airmoe.errors import InvalidInputError

NO_PRIVACY = "none"
"""What a metrics row says of releases without noise."""


def composed_epsilon(sensitivity: float, noise_std: float, releases: int, delta: float) -> float:
    """Return the epsilon that a client has spent; infinity without noise.

    Args:
        sensitivity: by how much one image can change a release, in Euclidean norm; above 0.
        noise_std: of the Gaussian noise on every value, at least 0.
        releases: how many there were, at least 0.
        delta: the probability with which the promise may fail, above 0 and below 1.

    Raises:
        InvalidInputError: a number out of range.

    Examples:
        200 matrices of 5,000 images, with projections of squared norm 4 at most:

        >>> from airmoe.federated import composed_epsilon
        >>> round(composed_epsilon(4 / 5000, noise_std=0.00104, releases=200, delta=1e-5))
        111
    """
    sensitivity = positive_number("sensitivity", sensitivity)
    noise_std = number_within("noise_std", noise_std, 0, math.inf)
    releases = integer_at_least("releases", releases, 0)
    if not 0 < delta < 1:
        raise InvalidInputError("delta", delta, "a number above 0 and below 1")
    if not releases:
        return 0.0
    if not noise_std:
        return math.inf
    rho = releases * (sensitivity / noise_std) ** 2 / 2
    return rho + 2 * math.sqrt(rho * -math.log(delta))


def privacy_spent(epsilons: Mapping[int, float], before: float) -> dict[str, str | float]:
    """Return what a metrics row says of the privacy that clients have spent.

    Args:
        epsilons: by client, what it has spent by the end of a round; a client that releases something tells
            it as ``epsilon`` among its numbers.
        before: the largest epsilon of earlier rounds, for clients that were absent in this one; 0 if none.

    Returns:
        Nothing where nobody told an epsilon. ``epsilon``, the largest of all clients so far, and
        ``epsilons``, as "client: epsilon" of each one in this round. Without noise ``privacy`` is
        `NO_PRIVACY` instead.
    """
    if not epsilons:
        return {}
    largest = max(before, *epsilons.values())
    if largest == math.inf:
        return {"privacy": NO_PRIVACY}
    each = ", ".join(f"{client}: {epsilon:.4g}" for client, epsilon in sorted(epsilons.items()))
    return {"epsilon": largest, "epsilons": each}
