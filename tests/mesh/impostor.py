"""A real Zenoh peer that answers for experts and schedulers whatever a test tells it to."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import zenoh
from numpy.typing import NDArray

from airmoe.manifest import Manifest
from airmoe.mesh import open_session
from airmoe.mesh.bundle import bundled, unbundled
from airmoe.mesh.frame import Frame, Kind, decode, encode
from airmoe.mesh.keys import expert_key, scheduler_key
from airmoe.mesh.queries import serve

Answer = Callable[[Frame], bytes | None]


class Impostor:
    """Serves experts and schedulers; ``answer`` makes a reply from the request, None keeps the asker waiting.

    Attributes:
        answer: may be exchanged.
        address: where it listens.
        requests: the requests that came, in order.
        request_bytes: their sizes, as they came.
    """

    def __init__(
        self,
        manifest: Manifest,
        experts: Iterable[int],
        answer: Answer,
        listen: str,
        connect: str | None = None,
        schedulers: Iterable[int] = (),
        replicas: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.requests: list[Frame] = []
        self.request_bytes: list[int] = []
        self.answer, self.address = answer, listen
        self._waiting: list[zenoh.Query] = []
        self._declared: list[object] = []  # Zenoh withdraws what nobody refers to
        self._session = open_session(listen, [connect] if connect else [])
        place = manifest.mesh, manifest.model_hash, 1
        served = [*((expert, expert) for expert in experts), *replicas]
        keys = [expert_key(*place, *replica) for replica in served]
        for key in keys + [scheduler_key(*place, node) for node in schedulers]:
            self._declared.append(serve(self._session, key, self._accept))
            self._declared.append(self._session.liveliness().declare_token(key))

    def __enter__(self) -> "Impostor":
        return self

    def __exit__(self, *error: object) -> None:
        for query in self._waiting:
            query.drop()
        self._session.close()

    def _accept(self, query: zenoh.Query, asker: str) -> None:
        assert query.payload is not None
        data = query.payload.to_bytes()
        frames = [decode(part) for part in unbundled(data)]
        self.requests += frames
        self.request_bytes.append(len(data))
        replies = [reply for reply in map(self.answer, frames) if reply is not None]
        if len(replies) < len(frames):
            self._waiting.append(query)
            return
        query.reply(query.key_expr, bundled(replies))
        query.drop()


def reply_to(request: Frame, output: NDArray[Any] | None = None, classes: int = 10, **changes: Any) -> Frame:
    """A well-formed reply that is sure of class 0, or gives another output, with some fields changed."""
    if output is None and "arrays" not in changes:
        output = np.zeros((len(request.arrays["payload"]), classes), np.float32)
        output[:, 0] = 1
    fields = {"kind": Kind.OUTPUTS, "arrays": {"output": output}, "remaining_ms": 0} | changes
    return replace(request, **fields)


def honest(request: Frame, classes: int = 10) -> bytes:
    """A well-formed reply that is sure of class 0."""
    return encode(reply_to(request, classes=classes))
