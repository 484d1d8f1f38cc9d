"""An endpoint that OpenAI's clients can use: ``/v1/completions`` and ``/v1/models``, on loopback.

One request is answered at a time, and few wait. A web page cannot use it: it asks for JSON by name, and for a
host that is this machine. Nothing of a request is kept or logged but its size.
"""

from __future__ import annotations

import json
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

from airmoe.errors import AirmoeError, InvalidInputError, MeshError
from airmoe.language.completions import Completion, read_request
from airmoe.language.writer import Writer
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.loopback import LoopbackServer
from airmoe.nn.threads import one_thread

PATHS = "POST to '/v1/completions' or GET of '/v1/models': there is no other path, and no chat"

MOST_BODY_BYTES = 1 << 20
"""The most bytes of a request."""

MOST_REQUESTS = 16
"""How many requests may wait or be answered."""

MOST_CONNECTIONS = 64
"""How many connections stand at once; one more is closed."""

MOST_DIGITS = 10
"""Of a body's length."""

LOOK_S, CLOSING_S = 0.1, 10.0
"""How often a request that waits looks whether anybody still wants it, and how long closing waits for one."""

LONGEST_WAIT_S = 60.0
"""How long a request waits for its turn, and a socket for the other side."""

_log = logging.getLogger("airmoe.language")


class _Refused(Exception):
    """A request that is answered by an error in OpenAI's form."""

    def __init__(self, status: HTTPStatus, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": None}}


class CompletionServer:
    """Answers OpenAI's clients until closed.

    Args:
        writer: writes the texts.
        name: of the model, as clients call it.
        listen: loopback HOST:PORT.

    Raises:
        AddressError: malformed, not loopback, or in use.

    Attributes:
        url: what a client takes as ``base_url``.
    """

    def __init__(self, writer: Writer, name: str, listen: str) -> None:
        _, port = parse_address(listen)
        self._writer, self._name = writer, name
        self._turn, self._places = threading.Lock(), threading.BoundedSemaphore(MOST_REQUESTS)
        self._closing = False

        class Handler(_Handler):
            answers = self

        self._server = LoopbackServer(listen, Handler, MOST_CONNECTIONS, "airmoe completions")
        self.hosts = {
            f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]", listen.rpartition(":")[0])
        }
        self.url = f"{self._server.url}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no further request, and end the one that is being answered. Closing twice does no harm."""
        self._closing = True
        self._server.close()
        if self._turn.acquire(timeout=CLOSING_S):  # nobody writes any longer
            self._turn.release()

    def models(self) -> dict[str, Any]:
        """Return the only model there is."""
        return {
            "object": "list",
            "data": [{"id": self._name, "object": "model", "created": 0, "owned_by": "airmoe"}],
        }

    def refuse_closing(self) -> None:
        """Raise after `close`."""
        if self._closing:
            raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is closing")

    @contextmanager
    def completion(self, body: bytes, goes_on: Callable[[], None]) -> Iterator[Completion]:
        """Yield the answer to a request when its turn has come.

        Args:
            body: the request.
            goes_on: raises where nobody waits for it any longer.
        """
        request = read_request(body)
        if request.model != self._name:
            raise _Refused(
                HTTPStatus.NOT_FOUND, f"model is {request.model!r}; expected {self._name!r}", "model"
            )
        if not self._places.acquire(blocking=False):
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS, f"{MOST_REQUESTS} requests wait already")
        try:
            end_s = time.monotonic() + LONGEST_WAIT_S
            while not self._turn.acquire(timeout=LOOK_S):
                goes_on()
                if time.monotonic() > end_s:
                    raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"no turn within {LONGEST_WAIT_S:g} s")
            try:
                with one_thread():
                    yield Completion(request, self._writer, self._name, goes_on)
            finally:
                self._turn.release()
        finally:
            self._places.release()


class _Handler(BaseHTTPRequestHandler):
    """One connection; several requests may follow one another on it."""

    answers: CompletionServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "airmoe", ""
    timeout = LONGEST_WAIT_S

    def do_GET(self) -> None:
        """Tell which model there is."""
        self._answer(self._models)

    def do_POST(self) -> None:
        """Write on from prompts."""
        self._answer(self._complete)

    def log_message(self, format: str, *values: Any) -> None:
        """Say nothing: what was asked is nobody's business."""

    def _answer(self, answer: Callable[[], None]) -> None:
        # A body that is not read would be taken for the next request.
        self._unread = any(name in self.headers for name in ("Content-Length", "Transfer-Encoding"))
        self._begun = False
        try:
            if (host := self.headers.get("Host", "").lower()) not in self.answers.hosts:
                raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, f"host is {host!r}; expected this machine")
            answer()
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True  # whoever asked has left
        except _Refused as error:
            self._fail(error)
        except InvalidInputError as error:
            self._fail(_Refused(HTTPStatus.BAD_REQUEST, str(error), error.name))
        except (MeshError, AirmoeError) as error:
            self._fail(_Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))
        except Exception as error:  # one bad request must not end the service
            _log.exception("a request for completions failed")
            told = f"internal error: {type(error).__name__}"
            self._fail(_Refused(HTTPStatus.INTERNAL_SERVER_ERROR, told))

    def _models(self) -> None:
        told = self.answers.models()
        (model,) = told["data"]
        if self.path not in ("/v1/models", f"/v1/models/{model['id']}"):
            raise _Refused(HTTPStatus.NOT_FOUND, f"GET of {self.path!r}; expected {PATHS}")
        self._send(HTTPStatus.OK, told if self.path == "/v1/models" else model)

    def _complete(self) -> None:
        body = self._body()
        if self.path != "/v1/completions":
            raise _Refused(HTTPStatus.NOT_FOUND, f"POST to {self.path!r}; expected {PATHS}")
        begin_s = time.monotonic()
        with self.answers.completion(body, self._goes_on) as completion:
            if not completion.request.stream:
                self._send(HTTPStatus.OK, completion.whole())
            else:
                for chunk in completion.chunks():
                    self._stream(f"data: {json.dumps(chunk, allow_nan=False)}\n\n")
                self._stream("data: [DONE]\n\n", last=True)
        _log.info("a request for completions took %.1f s", time.monotonic() - begin_s)

    def _goes_on(self) -> None:
        """Raise where the server closes, or whoever asked has left."""
        self.answers.refuse_closing()
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError

    def _body(self) -> bytes:
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise _Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"content type is {kind!r}; expected 'application/json'"
            )
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > MOST_DIGITS or int(length) > MOST_BODY_BYTES:
            expected = f"a number of bytes up to {MOST_BODY_BYTES}"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"length is {length!r}; expected {expected}")
        self._unread = False
        return self.rfile.read(int(length))

    def _fail(self, error: _Refused) -> None:
        try:
            if self._begun:  # the status is sent already
                self._stream(f"data: {json.dumps(error.body)}\n\n", last=True)
            else:
                self._send(error.status, error.body)
        except OSError:
            self.close_connection = True

    def _send(self, status: HTTPStatus, told: dict[str, Any]) -> None:
        data = json.dumps(told, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self._unread:
            self.send_header("Connection", "close")  # this sets close_connection, too
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, event: str, *, last: bool = False) -> None:
        if not self._begun:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._begun = True
        data = event.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n" + b"0\r\n\r\n" * last)
        self.wfile.flush()
