"""Where a node on this machine tells how it is: ``/metrics`` for Prometheus, ``/health`` for supervisors."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self

from airmoe.mesh.condition import Condition
from airmoe.mesh.loopback import LoopbackServer, is_this_machine
from airmoe.monitor.node_metrics import metrics_text

MOST_WATCHERS = 16
"""How many connections stand at once; one more is closed."""

WATCHER_S = 10.0
"""How long a connection may take."""

TEXT, JSON = "text/plain; version=0.0.4; charset=utf-8", "application/json"


class NodeEndpoint:
    """Tells how a node is, until closed.

    A web page cannot read it: it asks for a host that is this machine.

    Args:
        condition: returns that of now.
        listen: loopback HOST:PORT.

    Raises:
        AddressError: malformed, not loopback, or in use.

    Attributes:
        url: where it answers.
    """

    def __init__(self, condition: Callable[[], Condition], listen: str) -> None:
        metrics = metrics_text(condition)

        class Handler(_Handler):
            def metrics(self) -> bytes:
                return metrics()

            def condition(self) -> Condition:
                return condition()

        self._server = LoopbackServer(listen, Handler, MOST_WATCHERS, "airmoe metrics")
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "airmoe", ""
    timeout = WATCHER_S

    def metrics(self) -> bytes:
        raise NotImplementedError

    def condition(self) -> Condition:
        raise NotImplementedError

    def do_GET(self) -> None:
        """Tell the metrics, or whether the node is well."""
        if not is_this_machine(host := self.headers.get("Host", "").lower()):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, TEXT, f"host is {host!r}; expected this machine\n")
        elif self.path == "/metrics":
            self._send(HTTPStatus.OK, TEXT, self.metrics().decode())
        elif self.path == "/health":
            now = self.condition()
            why = now.why_ill(datetime.now(UTC))
            told = {"healthy": why is None, "node": now.node, "mesh": now.mesh, "reason": why}
            status = HTTPStatus.OK if why is None else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(status, JSON, json.dumps(told) + "\n")
        else:
            self._send(HTTPStatus.NOT_FOUND, TEXT, f"{self.path!r} is none; expected /metrics or /health\n")

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing: Prometheus asks every few seconds."""

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
