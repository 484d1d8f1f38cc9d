"""What Flower's own command needs to reach a SuperLink: ``flwr run``, ``flwr supernode register``."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from pathlib import Path

import tomli_w
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.federated.flower.attendance import name_of_client
from airmoe.files import replaced_file
from airmoe.mesh.addresses import parse_address

CONNECTION = "airmoe"
"""The name of the connection in Flower's configuration."""

HANDSHAKE_S = 10.0
"""How long a SuperLink may take to accept a connection, and each step of a handshake."""

_ACCOUNT = "flower.account-auth.%s"


class SuperLinkError(AirmoeError):
    """A SuperLink cannot be reached, or refuses what it is asked for."""


def write_connection(home: Path, address: str, authority: Path, token: bytes) -> None:
    """Write a home folder for Flower's command; set ``FLWR_HOME`` to it.

    Args:
        home: the folder, made if needed; it holds the token, so nobody else can enter it.
        address: host:port of the SuperLink.
        authority: the certificate of the authority that signed the SuperLink's.
        token: of its control interface.
    """
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    lab = {"address": address, "root-certificates": str(authority.resolve())}
    config = {"superlink": {"default": CONNECTION, CONNECTION: lab}}
    with replaced_file(home / "config.toml") as temporary:
        temporary.write_text(tomli_w.dumps(config), encoding="utf-8")
    account = _ACCOUNT % address
    stored = {
        f"{account}.authn-type": b"oidc",  # Flower's only login that sends a token
        f"{account}.oidc-access-token": token,
        f"{account}.oidc-refresh-token": b"none",  # it must not be empty; the SuperLink refreshes nothing
    }
    encoded = {name: base64.b64encode(value).decode() for name, value in stored.items()}
    with replaced_file(home / "credentials.yaml") as temporary:
        temporary.write_text(json.dumps(encoded), encoding="utf-8")  # JSON is YAML
    (home / "credentials.yaml").chmod(0o600)


def register_node(address: str, authority: Path, token: bytes, public_key: Path, client: int) -> None:
    """Let a SuperLink know the key of a client's node; it is then the only one that passes for this client.

    Args:
        address: host:port of the SuperLink.
        authority: the certificate of the authority that signed the SuperLink's.
        token: of its control interface.
        public_key: the public half of the node's key, in the form of OpenSSH.
        client: the number of the client.

    Raises:
        InvalidInputError: the file holds no such key.
        SuperLinkError: it cannot be reached, or refuses.
    """
    import httpx
    from flwr.proto.control_pb2 import RegisterNodeRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.error import FlowerError
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

    class Login:
        def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
            context.request.headers["Authorization"] = f"Bearer {token.decode()}"
            return call_next(context)

    control = ControlHttpClient.from_server_address(
        address,
        False,
        authority.read_bytes(),
        [RuntimeVersionHttpInterceptor(component_name="flwr CLI"), Login()],
    )
    request = RegisterNodeRequest(public_key=_public(public_key), name=name_of_client(client))
    try:
        control.RegisterNode(request)
    except httpx.HTTPStatusError as error:
        told = FlowerError.from_json(error.response.text)
        raise SuperLinkError(
            f"the SuperLink at {address} refuses to register client {client}: "
            f"{told.message if told else error.response.status_code}"
        ) from None
    except httpx.HTTPError as error:
        raise SuperLinkError(f"no SuperLink answers at {address}: {error}") from None
    finally:
        control.close()


def refuse_untrusted(address: str, authority: Path) -> None:
    """Refuse a SuperLink that shows a certificate of another authority, or one of another name.

    One that does not answer yet is not refused: it may be started later.

    Args:
        address: host:port of the SuperLink.
        authority: the certificate of the authority that is trusted.

    Raises:
        AddressError: the address is malformed.
        SuperLinkError: what listens there is not trusted, or does not speak TLS.
    """
    host, port = parse_address(address, anywhere=True)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.load_verify_locations(authority)
    try:
        with (
            socket.create_connection((host, port), HANDSHAKE_S) as made,
            trust.wrap_socket(made, server_hostname=address.rpartition(":")[0].strip("[]")),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise SuperLinkError(
            f"the SuperLink at {address} shows a certificate that is refused here: {error.verify_message}"
        ) from None
    except ssl.SSLError:
        raise SuperLinkError(f"what listens at {address} does not speak TLS: it is no SuperLink") from None
    except OSError:
        return


def _public(path: Path) -> bytes:
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInputError("public key", str(path), f"a key in the form of OpenSSH ({error})") from None
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
