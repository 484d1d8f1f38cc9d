"""Two nodes die by SIGKILL while queries run: what the answers look like around it.

Shape suffixes: Q queries, T items, N clients, C classes.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from airmoe.randomness import stream
from airmoe.studies.fleet import NodeFleet
from airmoe.studies.trials import Trial, ask

SETTLING = 50
"""Queries after the second kill that do not count for F1: they began before it or while it was noticed."""


def choose_victims(holds: Sequence[Sequence[int]], seed: int) -> tuple[int, int]:
    """Return two clients, a seeded draw among the pairs that leave every class a holder, if there are any."""
    classes = set().union(*holds)
    pairs = list(itertools.combinations(range(len(holds)), 2))
    harmless = [
        pair
        for pair in pairs
        if set().union(*(held for client, held in enumerate(holds) if client not in pair)) == classes
    ]
    choice = harmless or pairs
    first, second = choice[int(stream(seed, "victims").integers(len(choice)))]
    return first, second


def kill_two(
    clients: Sequence[MeshClient],
    fleet: NodeFleet,
    before: Trial,
    images_TCHW: NDArray[np.uint8],
    labels_T: NDArray[np.int64],
    holds: Sequence[Sequence[int]],
    seed: int,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Have the surviving clients ask all images at the same time while two nodes are killed.

    Return figures and the stream of answers. The first node dies a tenth of the way, the second at a fifth.
    F1 after the kills counts the queries sent after the second; both F1 figures are means over the surviving
    clients and the classes that still have a holder.

    Args:
        clients: all clients, their policy set.
        fleet: the nodes.
        before: the same clients' answers with all nodes alive.
        images_TCHW: uint8 images.
        labels_T: int64, their classes.
        holds: for each client the classes in its data.
        seed: the run's seed.
        progress: called with the number of queries done.
    """
    victims = choose_victims(holds, seed)
    survivors = [client for client in clients if client.manifest.client not in victims]
    queries = len(survivors) * len(labels_T)
    kill_at = dict(zip((queries // 10, queries // 5), victims, strict=True))

    def after_query(done: int) -> None:
        if done in kill_at:
            fleet.kill(kill_at[done])
        progress(done)

    answers = ask(survivors, images_TCHW, labels_T, together=True, after_query=after_query)
    classes = len(clients[0].manifest.classes)
    held = sorted(set().union(*(held for client, held in enumerate(holds) if client not in victims)))
    settled_Q = np.arange(queries) > max(kill_at) + SETTLING
    asked_before_Q = ~np.isin(before.client_Q, victims)
    f1_before = before.of(asked_before_Q).f1_NC(classes)[:, held].mean()
    f1_after = answers.of(settled_Q).f1_NC(classes)[:, held].mean()
    correct_Q = answers.label_Q == answers.answer_Q
    return {
        "victims": list(victims),
        "killed_at_query": list(kill_at),
        "classes_with_a_holder": held,
        "f1_before": float(f1_before),
        "f1_after": float(f1_after),
        "queries": queries,
        "failed_queries": queries - len(answers.answer_Q),
        "rerouted": int(answers.rerouted_Q.sum()),
        "degraded": int(answers.degraded_Q.sum()),
        "slowest_ms": float(answers.latency_s_Q.max() * 1e3),
        "stream": {
            "latency_ms": np.round(answers.latency_s_Q * 1e3, 3).tolist(),
            "correct": correct_Q.astype(int).tolist(),
            "rerouted": np.flatnonzero(answers.rerouted_Q).tolist(),
            "degraded": np.flatnonzero(answers.degraded_Q).tolist(),
        },
    }
