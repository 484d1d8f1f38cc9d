"""A real Zenoh peer that answers for experts and schedulers whatever a test tells it to."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import zenoh

from airmoe.manifest import Manifest
from airmoe.mesh import open_session
from airmoe.mesh.frame import Frame, decode, encode
from airmoe.mesh.keys import expert_key, scheduler_key

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
    ) -> None:
        self.requests: list[Frame] = []
        self.request_bytes: list[int] = []
        self.answer, self.address = answer, listen
        self._waiting: list[zenoh.Query] = []
        self._declared: list[object] = []  # Zenoh withdraws what nobody refers to
        self._session = open_session(listen, [connect] if connect else [])
        place = manifest.mesh, manifest.model_hash, manifest.layer
        keys = [expert_key(*place, expert) for expert in experts]
        for key in keys + [scheduler_key(*place, node) for node in schedulers]:
            self._declared.append(
                self._session.declare_queryable(key, lambda query, key=key: self._accept(query, key))
            )
            self._declared.append(self._session.liveliness().declare_token(key))

    def __enter__(self) -> "Impostor":
        return self

    def __exit__(self, *error: object) -> None:
        for query in self._waiting:
            query.drop()
        self._session.close()

    def _accept(self, query: zenoh.Query, key: str) -> None:
        assert query.payload is not None
        data = query.payload.to_bytes()
        self.requests.append(decode(data))
        self.request_bytes.append(len(data))
        reply = self.answer(self.requests[-1])
        if reply is None:
            self._waiting.append(query)
            return
        query.reply(key, reply)
        query.drop()


def reply_to(request: Frame, **changes: object) -> Frame:
    """A well-formed reply that is sure of class 0, with some fields changed."""
    probability_TC = np.zeros((len(request.array), 10), np.float32)
    probability_TC[:, 0] = 1
    return replace(
        request,
        **({"array": probability_TC, "remaining_ms": 0, "is_reply": True} | changes),  # type: ignore[arg-type]
    )


def honest(request: Frame) -> bytes:
    """A well-formed reply that is sure of class 0."""
    return encode(reply_to(request))
