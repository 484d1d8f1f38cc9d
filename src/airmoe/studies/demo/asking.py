"""Clients of the mesh ask about held-out images. Policy, gate and links go with every query.

Shape suffixes: Q queries (one image each), T images, E experts, C channels or classes, H height, W width.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import MeshError
from airmoe.links import Links
from airmoe.manifest import MeshTransmission
from airmoe.mesh import Answer, MeshClient
from airmoe.mesh.client import GateFunction
from airmoe.mesh.identity import Identity
from airmoe.progress import Progress, silent
from airmoe.report.measured import MethodId
from airmoe.runfolder import client_folders
from airmoe.scheduling import Policy
from airmoe.studies.demo.methods import Method
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.trials import Trial

_log = logging.getLogger("airmoe.studies")

PATIENT_S = 60.0
"""Longer than any query: what is compared with a simulation is answered by the experts that were chosen."""


@contextlib.contextmanager
def connected_clients(
    run: Path,
    addresses: Sequence[str],
    identities: Sequence[Identity | None],
    transmission: MeshTransmission = "ideal",
    seed: int = 0,
    hedge_s: float = PATIENT_S,
) -> Iterator[list[MeshClient]]:
    """Yield the clients of a run, each in a session of its own, once every node is alive.

    Args:
        run: the run folder.
        addresses: of the nodes.
        identities: of the clients.
        transmission: what the links do to features.
        seed: seed of the noise of analog links.
        hedge_s: how long a node may take, at least, before another expert is asked as well.

    Raises:
        NoNodeReachableError: a node is not found.
    """
    with contextlib.ExitStack() as open_:
        clients = [
            open_.enter_context(
                MeshClient(
                    folder,
                    addresses,
                    identity=identity,
                    transmission=transmission,
                    seed=seed,
                    hedge_s=hedge_s,
                )
            )
            for folder, identity in zip(client_folders(run), identities, strict=True)
        ]
        for client in clients:
            client.wait_for_nodes(len(clients), timeout_s=20.0)
        yield clients


def ask_by_every_method(
    clients: Sequence[MeshClient], questions: Questions, methods: Iterable[Method], progress: Progress
) -> dict[MethodId, Trial]:
    """Return the answers of the mesh by each method that is measured there, by the id of the method.

    Clients take turns; under a joint policy they ask at the same time.
    """
    return {
        method.id: ask(
            clients,
            questions,
            policy=method.policy,
            gate=method.gate,
            together=method.policy.joint,
            activity=f"ask: {method.label}",
            progress=progress,
        )
        for method in methods
        if method.measured_in == "mesh"
    }


def ask(
    clients: Sequence[MeshClient],
    questions: Questions,
    *,
    policy: Policy,
    gate: GateFunction | None = None,
    links_T: Sequence[Links] | None = None,
    together: bool = False,
    activity: str = "ask",
    progress: Progress = silent,
) -> Trial:
    """Have every client ask about all images, one per query; return the queries in the order they began.

    Each client begins at another image, so neighbouring queries are about different images.

    Args:
        clients: the clients that ask.
        questions: the images.
        policy: decides.
        gate: takes the place of each client's own.
        links_T: the links while any client asks about each image; default those of each client.
        together: whether clients ask at the same time, each one query after the other; else they take turns.
        activity: what is done, for ``progress``.
        progress: told after every query, from any thread.
    """
    images, total = len(questions.labels_T), len(clients) * len(questions.labels_T)
    done, stopped = itertools.count(1), threading.Event()

    def query(client: int, step: int) -> _Query:
        asker, image = clients[client], (step + client * images // len(clients)) % images
        links = None if links_T is None else links_T[image]
        begin_s = time.monotonic()
        answer: Answer | None = None
        try:
            image_1CHW = questions.images_TCHW[image][None]
            answer = asker.predict(image_1CHW, policy=policy, gate=gate, links=links)
        except MeshError as error:
            _log.warning("a query failed: %s", error)
        elapsed_s = time.monotonic() - begin_s
        progress(activity, next(done), total)
        return _Query(begin_s, elapsed_s, asker.manifest.node, image, answer)

    def queries_of(client: int) -> list[_Query]:
        try:
            return [query(client, step) for step in range(images) if not stopped.is_set()]
        except BaseException:
            stopped.set()
            raise

    for client in clients:
        client.prepare(policy)
    progress(activity, 0, total)
    if together:
        with ThreadPoolExecutor(len(clients)) as pool:
            try:
                queries = list(itertools.chain.from_iterable(pool.map(queries_of, range(len(clients)))))
            finally:
                stopped.set()  # after Ctrl-C nobody asks on
        queries.sort(key=lambda query: query.begin_s)
    else:
        queries = [query(client, step) for step in range(images) for client in range(len(clients))]
    return _trial(queries, questions.labels_T, clients[0].layer.spec.experts, policy.name)


class _Query(NamedTuple):
    begin_s: float
    elapsed_s: float
    client: int
    image: int
    answer: Answer | None


def _trial(queries: Sequence[_Query], labels_T: NDArray[np.int64], experts: int, policy: str) -> Trial:
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
        trial.fallback_Q[row] = dispatched.decided_by != policy
    return trial
