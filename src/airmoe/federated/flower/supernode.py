"""Flower's SuperNode as a child of the node's resident process. Run as a script: it needs nothing of airmoe.

It differs from Flower's own command in three points. It ends when the process does that started it. It asks
the SuperLink for messages every `IDLE_S` seconds, where Flower 1.41 waits 3 s and has no setting for it. And
where the node has an identity, it sends the certificate along with every request.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import ssl
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

IDLE_S = 1.0
"""How long a SuperNode waits before it asks again. Each question costs the SuperLink about 10 ms."""

LOOKS_EVERY_S = 0.2
"""How often it looks whether its parent lives."""

CERTIFICATE_HEADER = "airmoe-certificate"
"""What carries a node's certificate, DER in Base64."""

REFUSED = 401
"""The status by which a SuperLink refuses a node. Flower's SuperNode then ends in order."""


def main() -> None:
    """Run Flower's own command with the arguments of this one.

    The first is the parent's number, the second the file of the certificate: empty for none.
    """
    parent, certificate = int(sys.argv.pop(1)), sys.argv.pop(1)

    from flwr.supernode import start_client_internal
    from flwr.supernode.cli import flower_supernode

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    start_client_internal.time = SimpleNamespace(sleep=lambda wait_s: time.sleep(min(wait_s, IDLE_S)))
    if certificate:
        _send_along(Path(certificate))
    flower_supernode()


def _send_along(certificate: Path) -> None:
    """Have every request carry the certificate that the file has then: it may be renewed."""
    from flwr.supernode import fleet_http_connection

    class Certified(fleet_http_connection.NodeAuthHttpInterceptor):  # type: ignore[misc]
        sent = ""

        def intercept(self, context, call_next):  # type: ignore[no-untyped-def]
            with contextlib.suppress(OSError, ValueError):  # while it is replaced, the one of before counts
                der = ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))
                self.sent = base64.b64encode(der).decode()
            context.request.headers[CERTIFICATE_HEADER] = self.sent
            response = super().intercept(context, call_next)
            if response.status_code == REFUSED:
                print(f"the SuperLink refuses this node: {_why(response.text)}", file=sys.stderr, flush=True)
            return response

    fleet_http_connection.NodeAuthHttpInterceptor = Certified


def _why(answer: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(answer)["detail"])
    return answer


def _end_with(parent: int) -> None:
    # Flower's own watch takes a parent that is dead, but not yet waited for, to be alive.
    while os.getppid() == parent:
        time.sleep(LOOKS_EVERY_S)
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
