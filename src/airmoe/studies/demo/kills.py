"""Two nodes die while queries run: what the answers look like meanwhile and after.

Shape suffixes: Q queries, T items, N clients, C classes.
"""

import itertools
import threading
from collections.abc import Sequence

import numpy as np

from airmoe.mesh import MeshClient
from airmoe.mesh.fleet import NodeFleet
from airmoe.progress import Progress
from airmoe.randomness import stream
from airmoe.report.results import Kills, QueryStream
from airmoe.scheduling import Policy
from airmoe.studies.demo.asking import ask
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.trials import Trial

FROZEN_S = 1.0
"""How long the second victim hangs before it is killed."""


def choose_victims(holds: Sequence[Sequence[int]], seed: int) -> tuple[int, int]:
    """Return two clients: a seeded draw among the pairs that leave every class a holder, else among all."""
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
    questions: Questions,
    *,
    policy: Policy,
    seed: int,
    progress: Progress,
) -> Kills:
    """Have the surviving clients ask about all images at once while two nodes die; return what happened.

    SIGKILL ends the first node a tenth of the way. The second freezes at a fifth (SIGSTOP), as a box that
    hangs, and SIGKILL ends it a second later. When both are dead, the same clients ask about all images once
    more. F1 before and after are means over these clients and the classes that still have a holder.

    Args:
        clients: all clients.
        fleet: the nodes.
        before: the clients' answers by the same policy with all nodes alive.
        questions: what is asked.
        policy: decides.
        seed: the run's seed.
        progress: told after every query.
    """
    victims = choose_victims(questions.holds, seed)
    survivors = [client for client in clients if client.manifest.node not in victims]
    queries = len(survivors) * len(questions.labels_T)
    killed_at, frozen_at = queries // 10, queries // 5
    end_second = threading.Timer(FROZEN_S, fleet.kill, (victims[1],))

    def strike(activity: str, done: int, total: int, note: str = "", /) -> None:
        if done == killed_at:
            fleet.kill(victims[0])
        elif done == frozen_at:
            fleet.freeze(victims[1])
            end_second.start()
        progress(activity, done, total, note)

    dying, dead = "ask while two nodes die", "ask once both are dead"
    during = ask(survivors, questions, policy=policy, together=True, activity=dying, progress=strike)
    end_second.join()
    after = ask(survivors, questions, policy=policy, together=True, activity=dead, progress=progress)
    held = sorted(set().union(*(h for client, h in enumerate(questions.holds) if client not in victims)))
    lived = before.of(~np.isin(before.client_Q, victims))
    both = (during, after)
    return Kills(
        victims=victims,
        struck_at_query=(killed_at, frozen_at),
        classes_with_a_holder=tuple(held),
        f1_before=float(np.nanmean(lived.f1_NC(questions.classes)[:, held])),
        f1_after=float(np.nanmean(after.f1_NC(questions.classes)[:, held])),
        queries=2 * queries,
        failed_queries=int(sum((trial.answer_Q < 0).sum() for trial in both)),
        rerouted_queries=int(sum(trial.rerouted_Q.sum() for trial in both)),
        degraded_queries=int(sum(trial.degraded_Q.sum() for trial in both)),
        slowest_ms=float(max(trial.latency_s_Q.max() for trial in both) * 1e3),
        stream=QueryStream(
            latency_ms=tuple(np.round(during.latency_s_Q * 1e3, 3).tolist()),
            correct=tuple((during.label_Q == during.answer_Q).tolist()),
            rerouted=tuple(np.flatnonzero(during.rerouted_Q).tolist()),
            degraded=tuple(np.flatnonzero(during.degraded_Q).tolist()),
        ),
    )
