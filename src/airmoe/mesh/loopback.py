"""An HTTP server that this machine alone can reach."""

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airmoe.errors import AddressError
from airmoe.mesh.addresses import parse_address


class LoopbackServer:
    """Answers HTTP on loopback, each connection in a thread of its own, until closed.

    Args:
        listen: loopback HOST:PORT.
        handler: answers what comes over one connection.
        most_connections: that stand at once; one more is closed.
        name: of the thread that waits for them.

    Raises:
        AddressError: malformed, not loopback, or in use.

    Attributes:
        url: where it answers.
    """

    def __init__(
        self, listen: str, handler: type[BaseHTTPRequestHandler], most_connections: int, name: str
    ) -> None:
        host, port = parse_address(listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class Server(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True
            connections = threading.BoundedSemaphore(most_connections)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing of a connection that broke."""

            def process_request(self, request: Any, client_address: Any) -> None:
                if self.connections.acquire(blocking=False):
                    super().process_request(request, client_address)
                else:
                    self.shutdown_request(request)

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    self.connections.release()

        try:
            self._server = Server((host, port), handler)
        except OSError as error:
            raise AddressError(f"cannot listen on {listen}: {error.strerror}") from None
        self.url = f"http://{listen}"
        threading.Thread(target=self._server.serve_forever, name=name, daemon=True).start()

    def close(self) -> None:
        """Take no further connection. Closing twice does no harm."""
        self._server.shutdown()
        self._server.server_close()


def is_this_machine(host: str) -> bool:
    """Return whether the host of a request is this machine; at any port: it may come through a tunnel."""
    try:
        parse_address(host if re.search(r":\d+$", host) else f"{host}:80")
    except AddressError:
        return False
    return True
