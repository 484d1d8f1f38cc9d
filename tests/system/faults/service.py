"""Many queries of several clients while nodes are killed and frozen, and come back.

Shape suffixes: T images, E experts, C classes.
"""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import AirmoeError
from airmoe.mesh import MeshClient
from tests.system.faults.elsewhere import elsewhere
from tests.system.faults.identities import identity_here
from tests.system.faults.mesh import FOUND_S, FaultyMesh, Oracle

DEADLINE_S = 2.0
_CLOSE = 1e-4
"""How far two computations of the same answer may lie apart."""


@dataclass(frozen=True)
class Account:
    """What became of queries about one image each, by top-2.

    Attributes:
        queries: how many.
        unanswered: those that failed.
        late: those that took longer than their deadline.
        lost: those whose wanted experts did not all answer.
        lost_unmarked: those of them that do not say so.
        whole_marked: those that say so, though all answered.
        false: those whose values are not those of the experts that are said to have answered.
        slowest_s: of all.
        marked_last: marked answers among each client's last twentieth, when all nodes are back.
        rate: queries a second.
    """

    queries: int
    unanswered: int
    late: int
    lost: int
    lost_unmarked: int
    whole_marked: int
    false: int
    slowest_s: float
    marked_last: int
    rate: float


class Customer:
    """A client that asks about random images and keeps account.

    Args:
        run: the run folder.
        number: which client it is.
        addresses: of all nodes.
        images_TCHW: what it asks about.
        asked: counts the queries of all.
    """

    def __init__(
        self,
        run: Path,
        number: int,
        addresses: Sequence[str],
        images_TCHW: NDArray[np.uint8],
        asked: "Synchronized[int]",
    ) -> None:
        self._oracle, self._images_TCHW, self._asked = Oracle(run, images_TCHW), images_TCHW, asked
        folder = run / "clients" / f"{number:02d}"
        self._client = MeshClient(folder, addresses, identity=identity_here(folder))
        self._client.wait_for_nodes(len(addresses), FOUND_S)
        for _ in range(5):
            self._client.predict(images_TCHW[:1], policy="all")
        self._random = np.random.default_rng(number)

    def ask(self, queries: int) -> Account:
        """Ask one query after the other."""
        item_Q = self._random.integers(0, len(self._images_TCHW), queries)
        arrived_QE = np.zeros((queries, self._oracle.scores_TE.shape[1]), np.bool_)
        probability_QC = np.zeros((queries, self._oracle.output_TEC.shape[2]))
        marked_Q, took_s_Q = np.zeros(queries, np.bool_), np.zeros(queries)
        begin_s = time.monotonic()
        for number, item in enumerate(item_Q.tolist()):
            asked_s = time.monotonic()
            try:
                answer = self._client.predict(
                    self._images_TCHW[[item]], policy="topk:2", deadline_s=DEADLINE_S
                )
                arrived_QE[number], marked_Q[number] = answer.dispatched.arrived_TE[0], answer.degraded_T[0]
                probability_QC[number] = answer.probability_TC[0]
            except AirmoeError:
                pass
            took_s_Q[number] = time.monotonic() - asked_s
            with self._asked.get_lock():
                self._asked.value += 1
        rate = queries / (time.monotonic() - begin_s)
        answered_Q = arrived_QE.any(axis=1)
        lost_Q = answered_Q & np.any(self._oracle.wanted_TE(2)[item_Q] & ~arrived_QE, axis=1)
        off_Q = np.abs(probability_QC - self._oracle.mixed_TC(arrived_QE, item_Q)).max(axis=1)
        return Account(
            queries,
            int((~answered_Q).sum()),
            int((took_s_Q > DEADLINE_S).sum()),
            int(lost_Q.sum()),
            int((lost_Q & ~marked_Q).sum()),
            int((marked_Q & ~lost_Q).sum()),
            int((answered_Q & (off_Q > _CLOSE)).sum()),
            float(took_s_Q.max()),
            int(marked_Q[-queries // 20 :].sum()),
            rate,
        )

    def close(self) -> None:
        self._client.close()


def long_service(
    run: Path,
    images_TCHW: NDArray[np.uint8],
    queries: int = 20_000,
    clients: int = 8,
    killed: Sequence[int] = (2, 5, 8),
    frozen: Sequence[int] = (3, 6),
) -> Account:
    """Let clients ask together while nodes are killed, others frozen, and all come back."""
    asked = multiprocessing.get_context("spawn").Value("q", 0)
    with FaultyMesh(run) as mesh:
        each = [(run, number, mesh.addresses, images_TCHW, asked) for number in range(clients)]
        with elsewhere(Customer, each) as customers:
            for customer in customers:
                customer.begin("ask", queries // clients)

            def wait_for(share: float) -> None:
                while asked.value < share * queries:
                    time.sleep(0.01)

            wait_for(0.15)
            mesh.kill(*killed)
            wait_for(0.3)
            mesh.freeze(*frozen)
            wait_for(0.5)
            mesh.thaw(*frozen)
            mesh.start(*killed)
            return _sum([customer.result() for customer in customers])


def _sum(accounts: Sequence[Account]) -> Account:
    total = {name: sum(getattr(each, name) for each in accounts) for name in Account.__annotations__}
    return Account(**total | {"slowest_s": max(each.slowest_s for each in accounts)})
