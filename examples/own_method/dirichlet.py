"""A partition of your own: --plugin dirichlet.py, and partition = "dirichlet:0.3" under [data].

Each class falls on the clients in shares drawn from a Dirichlet distribution: the smaller alpha, the less
alike the clients. Every client gets one image at least.
"""

import numpy as np

from airmoe.plugins import register


@register("partition", "dirichlet")
class Dirichlet:
    """Shares of every class from Dirichlet(alpha)."""

    alpha: float = 0.5

    def __call__(self, labels_T, clients, random):
        owner_T = np.empty(len(labels_T), dtype=np.int64)
        for label in np.unique(labels_T):
            share_N = random.dirichlet(np.full(clients, self.alpha))
            owner_T[labels_T == label] = random.choice(clients, (labels_T == label).sum(), p=share_N)
        owner_T[random.permutation(len(labels_T))[:clients]] = np.arange(clients)
        return [np.flatnonzero(owner_T == client) for client in range(clients)]
