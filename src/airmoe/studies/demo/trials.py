"""Asking held-out images and measuring what comes back.

Shape suffixes: Q queries (one image each), N clients, E experts, C classes.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import MeshError
from airmoe.links import Links
from airmoe.mesh import Answer, MeshClient
from airmoe.runs.evaluation import class_f1

_log = logging.getLogger("airmoe.studies")


@dataclass(frozen=True, eq=False)
class Trial:
    """One row per query, a query being one image asked by one client.

    Attributes:
        client_Q: int64, who asked.
        image_Q: int64, which image.
        label_Q: int64, its true class.
        answer_Q: int64, the class answered; -1 where the query failed.
        requested_QE: bool, the experts asked, whether they answered or not.
        own_weight_Q: float64, the weight of the client's own expert in the answer, in [0, 1].
        energy_j_Q: float64, joules.
        bytes_Q: int64, bytes of requests and replies as framed.
        latency_s_Q: float64, seconds; NaN where nothing was timed.
        rerouted_Q: bool, routed again around a lost expert.
        degraded_Q: bool, answered by the client's own expert as the last resort.
        fallback_Q: bool, decided by another policy than was asked, since no scheduler decided.
    """

    client_Q: NDArray[np.int64]
    image_Q: NDArray[np.int64]
    label_Q: NDArray[np.int64]
    answer_Q: NDArray[np.int64]
    requested_QE: NDArray[np.bool_]
    own_weight_Q: NDArray[np.float64]
    energy_j_Q: NDArray[np.float64]
    bytes_Q: NDArray[np.int64]
    latency_s_Q: NDArray[np.float64]
    rerouted_Q: NDArray[np.bool_]
    degraded_Q: NDArray[np.bool_]
    fallback_Q: NDArray[np.bool_]

    def of(self, chosen_Q: NDArray[np.bool_]) -> "Trial":
        """Return the chosen queries only."""
        return Trial(**{field.name: getattr(self, field.name)[chosen_Q] for field in fields(self)})

    def f1_NC(self, classes: int) -> NDArray[np.float64]:
        """Return each class's F1 score for each client that asked; NaN for classes it did not ask about."""
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
        """Return the share of the (image, expert) pairs asked for that are the client's own, in [0, 1]."""
        of_Q = np.ones(len(self.client_Q), np.bool_) if of_Q is None else of_Q
        own_Q = self.requested_QE[np.arange(len(self.client_Q)), self.client_Q]
        return float(own_Q[of_Q].sum() / max(self.requested_QE[of_Q].sum(), 1))

    def summary(self, classes: int, holds: list[list[int]]) -> dict[str, Any]:
        """Return the figures that the report shows; macro-F1 is the mean over clients."""
        own_class_Q = np.array(
            [label in holds[client] for client, label in zip(self.client_Q, self.label_Q, strict=True)]
        )
        f1_N = np.nanmean(self.f1_NC(classes), axis=1)
        timed = self.latency_s_Q[~np.isnan(self.latency_s_Q)] * 1e3
        return {
            "macro_f1": float(np.nanmean(f1_N)),
            "macro_f1_by_client": f1_N.tolist(),
            "local_share": self.local_share(),
            "local_share_own_classes": self.local_share(own_class_Q),
            "local_weight": float(self.own_weight_Q.mean()),
            "experts_per_query": float(self.requested_QE.sum(axis=1).mean()),
            "bytes_per_query": float(self.bytes_Q.mean()),
            "joules_per_query": float(self.energy_j_Q.mean()),
            "latency_p50_ms": float(np.percentile(timed, 50)) if timed.size else None,
            "latency_p99_ms": float(np.percentile(timed, 99)) if timed.size else None,
            "rerouted_share": float(self.rerouted_Q.mean()),
            "degraded_share": float(self.degraded_Q.mean()),
            "fallback_share": float(self.fallback_Q.mean()),
            "failed_queries": int((self.answer_Q < 0).sum()),
            "queries": len(self.client_Q),
        }


def ask(
    clients: Sequence[MeshClient],
    images_TCHW: NDArray[np.uint8],
    labels_T: NDArray[np.int64],
    *,
    together: bool = False,
    links_of: Callable[[int], Links | None] = lambda image: None,
    after_query: Callable[[int], None] = lambda query: None,
) -> Trial:
    """Have every client ask all images, one image per query; return the queries in the order they began.

    Each client begins at another image, so that neighbouring queries are about different ones.

    Args:
        clients: who asks; each with its policy.
        images_TCHW: uint8 images.
        labels_T: int64, their classes.
        together: the clients ask at the same time, each one query after the other; else they take turns.
        links_of: the links that a query about the image of this number meets; None for the client's own.
        after_query: called with the number of queries done so far.
    """
    done, stopped = itertools.count(1), threading.Event()

    def query(client: int, step: int) -> _Query:
        image = (step + client * len(labels_T) // len(clients)) % len(labels_T)
        begin_s = time.monotonic()
        answer: Answer | None = None
        try:
            answer = clients[client].predict(images_TCHW[image][None], links=links_of(image))
        except MeshError as error:
            _log.warning("a query failed: %s", error)
        after_query(next(done))
        elapsed_s = time.monotonic() - begin_s
        asker = clients[client]
        return _Query(begin_s, elapsed_s, asker.manifest.node, image, asker.policy.name, answer)

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
    return _trial(queries, labels_T, clients[0].layer.spec.experts)


class _Query(NamedTuple):
    begin_s: float
    elapsed_s: float
    client: int
    image: int
    policy: str
    answer: Answer | None


def _trial(queries: Sequence[_Query], labels_T: NDArray[np.int64], experts: int) -> Trial:
    trial = Trial(
        client_Q=np.array([query.client for query in queries]),
        image_Q=np.array([query.image for query in queries]),
        label_Q=labels_T[[query.image for query in queries]],
        answer_Q=np.full(len(queries), -1),
        requested_QE=np.zeros((len(queries), experts), np.bool_),
        own_weight_Q=np.zeros(len(queries)),
        energy_j_Q=np.zeros(len(queries)),
        bytes_Q=np.zeros(len(queries), np.int64),
        latency_s_Q=np.array([query.elapsed_s for query in queries]),
        rerouted_Q=np.zeros(len(queries), np.bool_),
        degraded_Q=np.zeros(len(queries), np.bool_),
        fallback_Q=np.zeros(len(queries), np.bool_),
    )
    for row, query in enumerate(queries):
        if query.answer is None:
            continue
        dispatched = query.answer.dispatched
        trial.answer_Q[row] = query.answer.probability_TC[0].argmax()
        trial.requested_QE[row] = dispatched.requested_TE[0]
        trial.own_weight_Q[row] = query.answer.weights_TE[0, query.client]
        trial.energy_j_Q[row] = dispatched.energy_j_T[0]
        trial.bytes_Q[row] = query.answer.sent_bytes + query.answer.received_bytes
        trial.rerouted_Q[row] = dispatched.rerouted_T[0]
        trial.degraded_Q[row] = dispatched.degraded_T[0]
        trial.fallback_Q[row] = dispatched.decided_by != query.policy
    return trial
