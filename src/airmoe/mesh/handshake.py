"""A handshake with whatever listens at an address: Zenoh does not say why one fails."""

import socket
import ssl
from contextlib import suppress

from airmoe.mesh.addresses import parse_address
from airmoe.mesh.identity import AUTHORITY, CERTIFICATE, KEY, Identity

HANDSHAKE_S = 1.0
"""How long an address may take to accept a connection, and each step of a handshake."""

DEAF = "accepts no connection"
_PLAIN = "does not speak TLS: it serves without identity (--insecure), or is no node"


def why_not_linked(address: str, identity: Identity | None) -> str:
    """Return why no link with an address comes about; nothing where it could.

    Args:
        address: HOST:PORT.
        identity: who asks; None without TLS.
    """
    try:
        made = socket.create_connection(parse_address(address, anywhere=True), HANDSHAKE_S)
    except OSError:
        return DEAF
    with made:
        made.settimeout(HANDSHAKE_S)
        return _in_plain(made) if identity is None else _secured(made, identity)


def _in_plain(made: socket.socket) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), context.wrap_socket(made):
        return "speaks TLS: it serves nobody without an identity"
    return ""


def _secured(made: socket.socket, identity: Identity) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # who it is says the common name; addresses change
    context.load_verify_locations(identity.folder / AUTHORITY)
    context.load_cert_chain(identity.folder / CERTIFICATE, identity.folder / KEY)
    try:
        with context.wrap_socket(made) as secured, suppress(TimeoutError):
            secured.recv(1)  # whoever refuses us says so after its own part of the handshake
    except ssl.SSLCertVerificationError as error:
        return f"shows a certificate that is refused here: {error.verify_message}"
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return f"refuses our certificate: {reason}" if "alert" in reason else _PLAIN
    except OSError:
        return _PLAIN
    return ""
