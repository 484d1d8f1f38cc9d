"""Looks at a mesh again and again, for whoever wants to see it."""

import threading
import time
from types import TracebackType
from typing import Self

from airmoe.mesh.ending import ends_with_process, needs_no_wait
from airmoe.mesh.layers import MeshLayers
from airmoe.mesh.log import mesh_log
from airmoe.monitor.look import Look
from airmoe.monitor.picture import Picture, Placed

EVERY_S = 2.0
"""How often the mesh is looked at while somebody watches."""

UNWATCHED_S = 10.0
"""How often it is looked at while nobody does, so that what happened is known."""

ANSWER_S = 0.8
"""How long the reports of a look may take."""

WATCHED_S = 5.0
"""How long somebody is taken to watch after a look was fetched."""


class Watcher:
    """Looks at a mesh until closed.

    Args:
        mesh: as a client reaches it.
    """

    def __init__(self, mesh: MeshLayers) -> None:
        self._mesh, self._reporters = mesh, mesh.reporters()
        self._reporters.wait_for(mesh.nodes_alive(), ANSWER_S)
        self._picture = Picture(mesh.manifest, self._reporters.own)
        self._changed, self._ends = threading.Condition(), False
        self._watched_s = time.monotonic()
        self._number, self._latest = 0, self._look()
        self._thread = threading.Thread(target=self._work, name="airmoe watcher", daemon=True)
        self._thread.start()
        ends_with_process(self._thread, self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def latest(self) -> tuple[int, Look]:
        """Return the latest look, and its number; whoever calls this watches."""
        with self._changed:
            if time.monotonic() - self._watched_s > WATCHED_S:
                self._changed.notify_all()  # nobody did, so the latest is old
            self._watched_s = time.monotonic()
            return self._number, self._latest

    def close(self) -> None:
        """Look no more. Closing twice does no harm."""
        self._end()
        self._thread.join()
        needs_no_wait(self._thread)
        self._reporters.close()

    def _end(self) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                is_watched = time.monotonic() - self._watched_s <= WATCHED_S
                self._changed.wait(EVERY_S if is_watched else UNWATCHED_S)
                if self._ends:
                    return
                is_watched = time.monotonic() - self._watched_s <= WATCHED_S
            try:
                if is_watched:
                    self._mesh.keep_links_measured()
                look = self._look()
            except Exception as error:  # what one look meets must not end the others
                mesh_log.warning("the mesh could not be looked at: %s", error, exc_info=True)
                continue
            with self._changed:
                self._number, self._latest = self._number + 1, look

    def _look(self) -> Look:
        heard = self._reporters.hear(ANSWER_S)
        alive = {
            Placed(layer.spec.layer, *replica)
            for layer in self._mesh.layers
            for replica in layer.liveliness.alive
        }
        return self._picture.look(time.time(), time.monotonic(), heard, alive)
