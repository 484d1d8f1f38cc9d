"""A partition of your own: --plugin unequal.py, and partition = "unequal:2" under [data].

Every client has ratio times as many images as the one before it, of all classes alike.
"""

import numpy as np

from airmoe.plugins import register


@register("partition", "unequal")
class Unequal:
    """Random parts whose sizes grow by a constant ratio."""

    ratio: float = 2.0

    def __call__(self, labels_T, clients, random):
        share_N = self.ratio ** np.arange(clients)
        wanted_N = np.maximum(len(labels_T) * share_N / share_N.sum(), 1)
        return np.split(random.permutation(len(labels_T)), np.cumsum(wanted_N)[:-1].astype(np.int64))
