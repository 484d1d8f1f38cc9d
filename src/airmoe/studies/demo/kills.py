"""Two nodes die while queries run: what the answers look like around it.

Shape suffixes: Q queries, T items, N clients, C classes.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.mesh import MeshClient
from airmoe.randomness import stream
from airmoe.studies.demo.fleet import NodeFleet
from airmoe.studies.demo.trials import Trial, ask

FROZEN_S = 1.0
"""How long the second victim hangs before it is killed."""


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
    """Have the surviving clients ask all images at the same time while two nodes die; return what happened.

    The first is ended with SIGKILL a tenth of the way. The second freezes (SIGSTOP) at a fifth, as a box that
    hangs, and is ended with SIGKILL a second later. When both are dead, the same clients ask all images once
    more. F1 before and after are means over these clients and the classes that still have a holder.

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
    survivors = [client for client in clients if client.manifest.node not in victims]
    queries = len(survivors) * len(labels_T)
    killed_at, frozen_at = queries // 10, queries // 5
    end_second = threading.Timer(FROZEN_S, fleet.kill, (victims[1],))

    def after_query(done: int) -> None:
        if done == killed_at:
            fleet.kill(victims[0])
        elif done == frozen_at:
            fleet.freeze(victims[1])
            end_second.start()
        progress(done)

    during = ask(survivors, images_TCHW, labels_T, together=True, after_query=after_query)
    end_second.join()
    after = ask(
        survivors, images_TCHW, labels_T, together=True, after_query=lambda done: progress(queries + done)
    )
    classes = len(clients[0].manifest.classes)
    held = sorted(set().union(*(held for client, held in enumerate(holds) if client not in victims)))
    lived = before.of(~np.isin(before.client_Q, victims))
    both = (during, after)
    return {
        "victims": list(victims),
        "struck_at_query": [killed_at, frozen_at],
        "classes_with_a_holder": held,
        "f1_before": float(np.nanmean(lived.f1_NC(classes)[:, held])),
        "f1_after": float(np.nanmean(after.f1_NC(classes)[:, held])),
        "queries": 2 * queries,
        "failed_queries": int(sum((trial.answer_Q < 0).sum() for trial in both)),
        "rerouted": int(sum(trial.rerouted_Q.sum() for trial in both)),
        "degraded": int(sum(trial.degraded_Q.sum() for trial in both)),
        "slowest_ms": float(max(trial.latency_s_Q.max() for trial in both) * 1e3),
        "stream": {
            "latency_ms": np.round(during.latency_s_Q * 1e3, 3).tolist(),
            "correct": (during.label_Q == during.answer_Q).astype(int).tolist(),
            "rerouted": np.flatnonzero(during.rerouted_Q).tolist(),
            "degraded": np.flatnonzero(during.degraded_Q).tolist(),
        },
    }
