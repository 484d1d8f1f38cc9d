"""The answers to queries, and the figures computed from them.

Shape suffixes: Q queries (one image each), N clients, E experts, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from airmoe.report.measured import Figures
from airmoe.runs.evaluation import client_f1


@dataclass(frozen=True, eq=False)
class Trial:
    """One row per query, a query being one image asked by one client.

    Attributes:
        client_Q: int64, the client that asked.
        image_Q: int64, the number of the image.
        label_Q: int64, its true class.
        answer_Q: int64, the class answered; -1 where the query failed.
        requested_QE: bool, the experts asked, whether they answered or not.
        own_weight_Q: float64, the weight of the client's own expert in the answer, in [0, 1].
        energy_j_Q: float64, joules.
        bytes_Q: int64, bytes of requests and replies as framed.
        latency_s_Q: float64, seconds; NaN where nothing was timed.
        rerouted_Q: bool, True where the query was routed again around a lost expert.
        degraded_Q: bool, True where a wanted expert did not answer.
        fallback_Q: bool, True where the fallback decided, since no scheduler did.
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
        return client_f1(self.label_Q, self.answer_Q, self.client_Q, classes)

    def asked_NE(self) -> NDArray[np.int64]:
        """Return how often each client (row) asked each expert (column)."""
        clients = int(self.client_Q.max()) + 1
        asked = np.zeros((clients, self.requested_QE.shape[1]), np.int64)
        np.add.at(asked, self.client_Q, self.requested_QE)
        return asked

    def confusion_CC(self, classes: int) -> NDArray[np.int64]:
        """Return how often each class (row) was answered with each class (column), failed ones apart."""
        answered = self.answer_Q >= 0
        found = np.zeros((classes, classes), np.int64)
        np.add.at(found, (self.label_Q[answered], self.answer_Q[answered]), 1)
        return found

    def local_share(self, of_Q: NDArray[np.bool_] | None = None) -> float:
        """Return the share of the (image, expert) pairs asked for that are the client's own, in [0, 1]."""
        of_Q = np.ones(len(self.client_Q), np.bool_) if of_Q is None else of_Q
        own_Q = self.requested_QE[np.arange(len(self.client_Q)), self.client_Q]
        return float(own_Q[of_Q].sum() / max(self.requested_QE[of_Q].sum(), 1))

    def figures(self, classes: int, holds: Sequence[Sequence[int]]) -> Figures:
        """Return the figures that the report shows; macro-F1 is the mean over clients.

        Args:
            classes: the number of classes.
            holds: for each client the classes in its data.
        """
        own_class_Q = np.array(
            [label in holds[client] for client, label in zip(self.client_Q, self.label_Q, strict=True)]
        )
        f1_N = np.nanmean(self.f1_NC(classes), axis=1)
        timed_ms = self.latency_s_Q[~np.isnan(self.latency_s_Q)] * 1e3
        return Figures(
            macro_f1=float(np.nanmean(f1_N)),
            macro_f1_by_client=tuple(f1_N.tolist()),
            local_share=self.local_share(),
            local_share_own_classes=self.local_share(own_class_Q),
            local_weight=float(self.own_weight_Q.mean()),
            experts_per_query=float(self.requested_QE.sum(axis=1).mean()),
            bytes_per_query=float(self.bytes_Q.mean()),
            joules_per_query=float(self.energy_j_Q.mean()),
            latency_p50_ms=float(np.percentile(timed_ms, 50)) if timed_ms.size else None,
            latency_p99_ms=float(np.percentile(timed_ms, 99)) if timed_ms.size else None,
            rerouted_share=float(self.rerouted_Q.mean()),
            degraded_share=float(self.degraded_Q.mean()),
            fallback_share=float(self.fallback_Q.mean()),
            failed_queries=int((self.answer_Q < 0).sum()),
            queries=len(self.client_Q),
        )
