"""Asking held-out images and measuring what comes back.

Shape suffixes: Q queries (one image each), N clients, E experts, C classes.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh import Answer, MeshClient
from airmoe.training.evaluation import class_f1


@dataclass(frozen=True, eq=False)
class Trial:
    """One row per query, a query being one image asked by one client.

    Attributes:
        client_Q: int64, who asked.
        label_Q: int64, the true class.
        answer_Q: int64, the class answered.
        requested_QE: bool, the experts asked.
        energy_j_Q: float64, joules.
        bytes_Q: int64, bytes of requests and replies as framed.
        latency_s_Q: float64, seconds; NaN where nothing was timed.
        rerouted_Q: bool, routed again around a lost expert.
        degraded_Q: bool, answered by the client's own expert as the last resort.
    """

    client_Q: NDArray[np.int64]
    label_Q: NDArray[np.int64]
    answer_Q: NDArray[np.int64]
    requested_QE: NDArray[np.bool_]
    energy_j_Q: NDArray[np.float64]
    bytes_Q: NDArray[np.int64]
    latency_s_Q: NDArray[np.float64]
    rerouted_Q: NDArray[np.bool_]
    degraded_Q: NDArray[np.bool_]

    def of(self, chosen_Q: NDArray[np.bool_]) -> "Trial":
        """Return the chosen queries only."""
        return Trial(**{field.name: getattr(self, field.name)[chosen_Q] for field in fields(self)})

    def f1_NC(self, classes: int) -> NDArray[np.float64]:
        """Return the F1 score of each class for each client that asked, in the order of their numbers."""
        return np.stack(
            [
                class_f1(self.label_Q[own], self.answer_Q[own], classes)
                for own in (self.client_Q == client for client in np.unique(self.client_Q))
            ]
        )

    def asked_NE(self) -> NDArray[np.int64]:
        """Return how often each client (row) asked each expert (column)."""
        clients = int(self.client_Q.max()) + 1
        asked = np.zeros((clients, self.requested_QE.shape[1]), np.int64)
        np.add.at(asked, self.client_Q, self.requested_QE)
        return asked

    def local_share(self, of_Q: NDArray[np.bool_] | None = None) -> float:
        """Return the share of (image, expert) pairs served by the asking client's own expert, in [0, 1]."""
        of_Q = np.ones(len(self.client_Q), np.bool_) if of_Q is None else of_Q
        own_Q = self.requested_QE[np.arange(len(self.client_Q)), self.client_Q]
        return float(own_Q[of_Q].sum() / max(self.requested_QE[of_Q].sum(), 1))

    def summary(self, classes: int, holds: list[list[int]]) -> dict[str, Any]:
        """Return the figures that the report shows; macro-F1 is the mean over clients."""
        own_class_Q = np.array(
            [label in holds[client] for client, label in zip(self.client_Q, self.label_Q, strict=True)]
        )
        timed = self.latency_s_Q[~np.isnan(self.latency_s_Q)] * 1e3
        return {
            "macro_f1": float(self.f1_NC(classes).mean()),
            "macro_f1_by_client": self.f1_NC(classes).mean(axis=1).tolist(),
            "local_share": self.local_share(),
            "local_share_own_classes": self.local_share(own_class_Q),
            "experts_per_query": float(self.requested_QE.sum(axis=1).mean()),
            "bytes_per_query": float(self.bytes_Q.mean()),
            "joules_per_query": float(self.energy_j_Q.mean()),
            "latency_p50_ms": float(np.percentile(timed, 50)) if timed.size else None,
            "latency_p99_ms": float(np.percentile(timed, 99)) if timed.size else None,
            "rerouted_share": float(self.rerouted_Q.mean()),
            "degraded_share": float(self.degraded_Q.mean()),
            "queries": len(self.client_Q),
        }


def ask(
    clients: Sequence[MeshClient],
    images_TCHW: NDArray[np.uint8],
    labels_T: NDArray[np.int64],
    *,
    together: bool = False,
    after_query: Callable[[int], None] = lambda query: None,
) -> Trial:
    """Have every client ask all images, one image per query; return the queries in the order they began.

    Each client begins at another image, so that neighbouring queries are about different ones.

    Args:
        clients: who asks; each with its policy.
        images_TCHW: uint8 images.
        labels_T: int64, their classes.
        together: the clients ask at the same time, each one query after the other; else they take turns.
        after_query: called with the number of queries done so far.
    """
    done, stopped = itertools.count(1), threading.Event()

    def query(client: int, step: int) -> _Query:
        image = (step + client * len(labels_T) // len(clients)) % len(labels_T)
        begin_s = time.monotonic()
        answer = clients[client].predict(images_TCHW[image][None])
        after_query(next(done))
        return _Query(begin_s, clients[client].manifest.client, int(labels_T[image]), answer)

    def queries_of(client: int) -> list[_Query]:
        try:
            return [query(client, step) for step in range(len(labels_T)) if not stopped.is_set()]
        except BaseException:
            stopped.set()
            raise

    if together:
        with ThreadPoolExecutor(len(clients)) as pool:
            try:
                queries = list(itertools.chain.from_iterable(pool.map(queries_of, range(len(clients)))))
            finally:
                stopped.set()  # after Ctrl-C nobody asks on
        queries.sort(key=lambda query: query.begin_s)
    else:
        queries = [query(client, step) for step in range(len(labels_T)) for client in range(len(clients))]
    answers = [query.answer for query in queries]
    return Trial(
        np.array([query.client for query in queries]),
        np.array([query.label for query in queries]),
        np.array([answer.probability_TC[0].argmax() for answer in answers]),
        np.concatenate([answer.dispatched.requested_TE for answer in answers]),
        np.concatenate([answer.dispatched.energy_j_T for answer in answers]),
        np.array([answer.sent_bytes + answer.received_bytes for answer in answers]),
        np.array([answer.elapsed_s for answer in answers]),
        np.concatenate([answer.dispatched.rerouted_T for answer in answers]),
        np.concatenate([answer.dispatched.degraded_T for answer in answers]),
    )


class _Query(NamedTuple):
    begin_s: float
    client: int
    label: int
    answer: Answer
