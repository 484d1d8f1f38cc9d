"""A node: serves one client's expert to the mesh from a single worker behind a bounded queue.

Shape suffixes: T items, C classes.
"""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import zenoh

from airmoe.checks import number_within
from airmoe.errors import FrameError, InvalidInputError, MeshError, RefusedError
from airmoe.manifest import EXPERT_ONNX, INPUT, read_manifest
from airmoe.mesh.client import simulated_links
from airmoe.mesh.frame import MAX_FRAME_BYTES, Frame, decode, encode
from airmoe.mesh.keys import expert_key
from airmoe.mesh.networks import OnnxNetwork
from airmoe.mesh.queries import refuse
from airmoe.mesh.scheduler import LONGEST_SLOT_MS, Scheduler
from airmoe.mesh.session import open_session
from airmoe.runfolder import checked_file
from airmoe.scheduling import Policy

_log = logging.getLogger("airmoe.mesh")

QUEUE_LIMIT = 64
MAX_WAITING_BYTES = 4 * MAX_FRAME_BYTES


class Node:
    """Serves the expert in a client's folder until closed.

    A request that finds the queue full (of requests or of bytes), that waited longer than its sender does,
    that is corrupt, or for another model, is refused with the reason. None stops the node.

    Args:
        client_folder: ``clients/<id>`` of a run.
        listen: loopback address to listen on, ``HOST:PORT``.
        connect: addresses of other nodes; whoever is connected to one learns of the others.
        schedule: a joint policy by which this node decides for all sources that ask it; default it does not.
        slot_ms: how long it collects their requests before it decides, 0 to 500.

    Raises:
        RunFolderError: a file of the folder is missing or damaged.
        AddressError: an address is malformed, not loopback, or in use.
        InvalidInputError: a server's folder, which holds no expert; ``schedule`` is not joint, or the run's
            server decides itself; ``slot_ms`` out of range.
    """

    def __init__(
        self,
        client_folder: Path,
        listen: str,
        connect: Sequence[str] = (),
        *,
        schedule: Policy | None = None,
        slot_ms: float = 5.0,
    ) -> None:
        number_within("slot_ms", slot_ms, 0, LONGEST_SLOT_MS)
        self.manifest = manifest = read_manifest(client_folder)
        if manifest.expert is None:
            expected = "an expert's folder: a server holds no expert to serve, it asks"
            raise InvalidInputError("client_folder", str(client_folder), expected)
        if schedule is not None and not manifest.asks:
            expected = "none: the server of this run is the only source, and decides itself"
            raise InvalidInputError("schedule", schedule.name, expected)
        self._payload = tuple(manifest.payload)
        self._expert = OnnxNetwork(
            checked_file(client_folder, manifest, EXPERT_ONNX),
            {INPUT: self._payload},
            (len(manifest.classes),),
        )
        self._key = expert_key(manifest.mesh, manifest.model_hash, manifest.layer, manifest.expert)
        self._waiting_bytes = 0
        self._counting = threading.Lock()
        self._requests: queue.Queue[tuple[zenoh.Query, int, float] | None] = queue.Queue(QUEUE_LIMIT)
        self._worker = threading.Thread(target=self._work, name="airmoe expert", daemon=True)
        self._scheduler: Scheduler | None = None
        if schedule is not None:
            links = simulated_links(manifest.radio, manifest.experts)
            self._scheduler = Scheduler(schedule, manifest, links, slot_ms)
        self._session = open_session(listen, connect)
        if self._scheduler is not None:  # first, so that whoever finds the expert knows the scheduler, too
            self._scheduler.serve(self._session)
        self._worker.start()
        self._queryable = self._session.declare_queryable(self._key, self._accept)
        self._token = self._session.liveliness().declare_token(self._key)

    def __enter__(self) -> "Node":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the mesh; requests already accepted are answered first. Closing twice does no harm."""
        if self._session.is_closed():
            return
        self._token.undeclare()
        self._queryable.undeclare()
        if self._scheduler is not None:
            self._scheduler.close()
        self._requests.put(None)
        self._worker.join()
        self._session.close()

    def _accept(self, query: zenoh.Query) -> None:
        size = 0 if query.payload is None else len(query.payload)
        if query.attachment is not None or not 0 < size <= MAX_FRAME_BYTES:
            expected = f"a frame of at most {MAX_FRAME_BYTES} bytes alone"
            refuse(query, f"the request has {size} bytes; expected {expected}")
        elif not self._enqueue(query, size):
            refuse(query, "overloaded: too many requests are waiting")

    def _enqueue(self, query: zenoh.Query, size: int) -> bool:
        with self._counting:
            if self._requests.full() or self._waiting_bytes + size > MAX_WAITING_BYTES:
                return False
            self._waiting_bytes += size
            self._requests.put_nowait((query, size, time.monotonic()))
            return True

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            query, size, arrived = request
            try:
                reply = self._answer(query, time.monotonic() - arrived)
                query.reply(self._key, reply)
                query.drop()
            except (MeshError, zenoh.ZError) as error:
                refuse(query, str(error))
            except Exception as error:  # one bad request must not end the service
                _log.exception("a request failed")
                refuse(query, f"internal error: {type(error).__name__}")
            with self._counting:
                self._waiting_bytes -= size

    def _answer(self, query: zenoh.Query, waited_s: float) -> bytes:
        assert query.payload is not None  # see _accept
        request = decode(query.payload.to_bytes())
        if waited_s * 1000 > request.remaining_ms:
            raise RefusedError(f"too late: waited {waited_s:.3f} s of {request.remaining_ms} ms")
        wanted = (self.manifest.model_hash, self.manifest.layer, self.manifest.expert)
        if (asked := (request.model_hash, request.layer, request.expert)) != wanted:
            raise RefusedError(
                f"the request is for (model, layer, expert) {asked}; this node serves {wanted}"
            )
        if request.is_reply or request.array.shape[1:] != self._payload:
            expected = f"(T, {', '.join(map(str, self._payload))}) payloads"
            raise FrameError(f"the request's array has shape {request.array.shape}; expected {expected}")
        if not np.isfinite(request.array).all():
            raise FrameError("the request's array is not finite; expected finite payloads")
        probability_TC = self._expert(request.array)
        return encode(
            Frame(
                probability_TC,
                request.request_id,
                request.model_hash,
                request.layer,
                request.expert,
                0,
                request.wire_type,
                is_reply=True,
            )
        )
