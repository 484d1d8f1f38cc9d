"""Batches that are larger than their deadline allows: answered in time, or refused at once."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import DeadlineError, NoExpertReachedError
from airmoe.mesh import MeshClient
from tests.system.faults.elsewhere import elsewhere
from tests.system.faults.identities import identity_here
from tests.system.faults.mesh import FOUND_S, FaultyMesh
from tests.system.faults.overload import most_resident_mb

DEADLINE_S = 2.0


@dataclass(frozen=True)
class Ended:
    """How a query about a large batch ended.

    Attributes:
        images: of the batch.
        answered: whether there was an answer; otherwise it was refused.
        took_s: seconds until either.
        marked: the share of degraded answers; 0 if refused.
        more_mb: how much the client's resident memory grew at most.
    """

    images: int
    answered: bool
    took_s: float
    marked: float
    more_mb: float


class LargeAsker:
    """A client that asks about random noise."""

    def __init__(self, folder: Path, addresses: list[str]) -> None:
        self._client = MeshClient(folder, addresses, identity=identity_here(folder))
        self._client.wait_for_nodes(len(addresses), FOUND_S)
        asks = self._client.manifest.asks
        assert asks is not None
        self._shape = asks.input.channels, asks.input.height, asks.input.width
        self._images_TCHW = self._noise(0)
        self.prepare(1)
        self.ask("all")

    def prepare(self, images: int) -> None:
        """Hold so many images ready."""
        self._images_TCHW = self._noise(images)

    def _noise(self, images: int) -> NDArray[np.uint8]:
        return np.random.default_rng(0).integers(0, 256, (images, *self._shape), np.uint8)

    def ask(self, policy: str) -> tuple[bool, float, float]:
        """Return whether there was an answer, after how long, and the share of it that is degraded."""
        begin_s = time.monotonic()
        try:
            answer = self._client.predict(self._images_TCHW, policy=policy, deadline_s=DEADLINE_S)
        except (DeadlineError, NoExpertReachedError):
            return False, time.monotonic() - begin_s, 0.0
        return True, time.monotonic() - begin_s, float(answer.degraded_T.mean())

    def close(self) -> None:
        self._client.close()


def large(run: Path, images: int, policy: str = "topk:2") -> Ended:
    """Ask all nodes of a run about a large batch at once."""
    with FaultyMesh(run) as mesh, elsewhere(LargeAsker, [(mesh.folders[0], mesh.addresses)]) as (asker,):
        asker.begin("prepare", images)
        asker.result()
        with most_resident_mb(asker.pid) as most_mb:
            asker.begin("ask", policy)
            answered, took_s, marked = asker.result()
    return Ended(images, answered, took_s, marked, most_mb[1] - most_mb[0])
