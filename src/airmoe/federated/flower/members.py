"""Who may come to a SuperLink that has an identity: members of its roster, each with its certificate.

Flower knows keys alone, and lets in whoever has a registered one, for ever. So `airmoe flower node` sends its
certificate along with every request. Here the certificate is looked at first: who issued it, until when it
holds, and whether the roster has its name. Then Flower looks at the signature by the certificate's key.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airmoe.errors import IdentityError
from airmoe.federated.flower.attendance import name_of_client
from airmoe.federated.flower.supernode import CERTIFICATE_HEADER, REFUSED
from airmoe.mesh.credentials import common_name, read_certificate, refuse_dates
from airmoe.mesh.identity import AUTHORITY, ROSTER, Identity
from airmoe.mesh.roster import Roster, node_named, read_roster

_LOG = logging.getLogger(__name__)

FLEET: Final = "/v1/fleet/"
"""Where Flower serves nodes."""

COMES: Final = f"{FLEET}activate-node"
"""What a node asks first."""

MOST_LETTERS: Final = 8192
"""The longest certificate that is read, in Base64."""

TOLD_EVERY_S: Final = 60.0
"""How long the same refusal is not told again."""

_MOST_TOLD: Final = 256

Register = Callable[[int, bytes], None]


class Members:
    """Looks at the certificates of those who come; reads the roster anew where its file was replaced.

    Args:
        identity: of the SuperLink.

    Example:
        >>> from airmoe.mesh import read_identity
        >>> members = Members(read_identity("identity"))  # doctest: +SKIP
        >>> members.roster.number  # doctest: +SKIP
        3
    """

    def __init__(self, identity: Identity) -> None:
        self._file = identity.folder / ROSTER
        self._authority = read_certificate(identity.folder / AUTHORITY)
        self._roster, self._seen = identity.roster, self._stamp()
        self._reading = threading.Lock()

    @property
    def roster(self) -> Roster:
        """Who belongs to the mesh, as the file says now.

        What the authority did not sign, an older roster and one of another mesh change nothing.
        """
        with self._reading:
            if (stamp := self._stamp()) != self._seen:
                self._seen = stamp
                try:
                    self._take(read_roster(self._file).verified(self._authority))
                except IdentityError as error:
                    _LOG.warning("%s; goes on with roster %d", error, self._roster.number)
            return self._roster

    def admitted(self, certificate: str, key: str) -> tuple[int, bytes]:
        """Return whose certificate it is, and its public key as Flower keeps it.

        Args:
            certificate: DER in Base64, as a node sends it.
            key: the public key that the node signs for, PEM in Base64, as Flower sends it.

        Raises:
            IdentityError: it is missing or damaged, of another authority, over or not yet valid, not in the
                roster, or the key is another one.
        """
        sent = _certificate_of(certificate)
        try:
            sent.verify_directly_issued_by(self._authority)
        except (InvalidSignature, ValueError, TypeError):
            raise IdentityError("its certificate was issued by another authority") from None
        refuse_dates(sent, f"the certificate of {(name := common_name(sent))}")
        node, roster = node_named(name), self.roster
        if node is None or roster.member(node) is None:
            raise IdentityError(f"roster {roster.number} does not have {name}")
        public = sent.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if key != base64.b64encode(public).decode():
            raise IdentityError(f"it signs with another key than that of the certificate of {name}")
        return node, public

    def _take(self, roster: Roster) -> None:
        if roster.mesh != self._roster.mesh:
            raise IdentityError(f"{self._file} is of mesh {roster.mesh!r}; expected {self._roster.mesh!r}")
        if roster.number < self._roster.number:
            raise IdentityError(f"{self._file} is roster {roster.number}, which is older")
        self._roster = roster
        _LOG.info("goes on with roster %d", roster.number)

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self._file.stat()
        except OSError:
            return 0, 0
        return status.st_mtime_ns, status.st_ino


def _certificate_of(letters: str) -> x509.Certificate:
    """Return the certificate that a node sent."""
    if not letters:
        raise IdentityError("it sent no certificate; expected a node that airmoe flower node --identity runs")
    try:
        if len(letters) > MOST_LETTERS:
            raise ValueError
        certificate = x509.load_der_x509_certificate(base64.b64decode(letters, validate=True))
        if not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError
    except ValueError:
        raise IdentityError("what it sent is no certificate of a node") from None
    return certificate


class MembersOnly:
    """Lets nodes through to Flower only if `Members` admits them, and registers their keys when they come.

    An ASGI application around another one.

    Args:
        app: Flower's.
        members: look at certificates.
        register: lets Flower know the key of a client.
    """

    def __init__(self, app: Any, members: Members, register: Register) -> None:
        self._app, self._members, self._register = app, members, register
        self._told = dict[str, float]()

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Answer a request: by a refusal, or as Flower does."""
        if scope["type"] == "http" and scope["path"].startswith(FLEET):
            from starlette.concurrency import run_in_threadpool

            refusal = await run_in_threadpool(self._refusal, scope["headers"], scope["path"])
            if refusal:
                self._tell(f"a node at {(scope.get('client') or ['an unknown address'])[0]}", refusal)
                body = json.dumps({"code": REFUSED, "detail": refusal}).encode()
                headers = [(b"content-type", b"application/json")]
                await send({"type": "http.response.start", "status": REFUSED, "headers": headers})
                await send({"type": "http.response.body", "body": body})
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Sequence[tuple[bytes, bytes]], path: str) -> str:
        """Return why a request is refused; nothing if it is not."""
        from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

        try:
            certificate = _only(headers, CERTIFICATE_HEADER)
            client, key = self._members.admitted(certificate, _only(headers, FLEET_HTTP_PUBLIC_KEY_HEADER))
        except IdentityError as error:
            return str(error)
        if path == COMES:
            self._register(client, key)
        return ""

    def _tell(self, who: str, refusal: str) -> None:
        """Log a refusal, the same one once a minute."""
        said, now_s = f"{who} is refused: {refusal}", time.monotonic()
        if now_s - self._told.get(said, -TOLD_EVERY_S) < TOLD_EVERY_S:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[said] = now_s
        _LOG.warning("%s", said)


def _only(headers: Sequence[tuple[bytes, bytes]], name: str) -> str:
    """Return the value of a header; nothing where it is missing.

    Raises:
        IdentityError: it is there twice: then Flower would read one, and this the other.
    """
    found = [value for key, value in headers if key.lower() == name.lower().encode()]
    if len(found) > 1:
        raise IdentityError(f"it sent {name} twice")
    return found[0].decode("latin-1") if found else ""


def registering(app: Any) -> Register:
    """Return what registers keys at a SuperLink of this process, each once, under the client's name.

    Args:
        app: what Flower's ``create_app`` made.
    """
    from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID

    def register(client: int, key: bytes) -> None:
        state = app.state.linkstate_factory.state()
        if state.get_node_id_by_public_key(key) is None:
            with contextlib.suppress(ValueError):  # the owner took it back; Flower refuses it
                state.create_node(
                    NOOP_FLWR_AID,
                    NOOP_ACCOUNT_NAME,
                    key,
                    HEARTBEAT_DEFAULT_INTERVAL,
                    name=name_of_client(client),
                )
                _LOG.info("registered the key of client %d", client)

    return register
