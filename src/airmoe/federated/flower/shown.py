"""What a SuperLink shows to whoever dials it: keys of its own, or those of a node of a mesh.

Nodes dial a name or an address and compare it with what the certificate names, as browsers do.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from airmoe.errors import IdentityError, InvalidInputError
from airmoe.federated.flower.keys import AUTHORITY, SERVER, secrets_of
from airmoe.federated.flower.members import Members
from airmoe.mesh import identity as of_mesh
from airmoe.mesh.credentials import common_name, minute_of, read_certificate
from airmoe.mesh.identity import Identity, read_identity

_LOG = logging.getLogger(__name__)

LOOKS_EVERY_S = 0.5
"""How often it looks whether the certificate was renewed."""


@dataclass(frozen=True)
class Shown:
    """What a SuperLink shows to whoever dials it.

    Attributes:
        authority, certificate, key: files of the TLS that it speaks.
        secrets: the folder with the token and the secret of its executor.
        reached: the name or address in the certificate under which this machine reaches it.
        members: who may come as a node; None for whoever's key was registered.
    """

    authority: Path
    certificate: Path
    key: Path
    secrets: Path
    reached: str
    members: Members | None = None


def shown_by_keys(keys: Path, host: str) -> Shown:
    """Return what a SuperLink shows that has keys of its own.

    Args:
        keys: what `airmoe.federated.flower.keys.make_keys` made.
        host: the address to listen at.
    """
    authority, certificate, key = (
        keys / f"{AUTHORITY}.crt",
        keys / f"{SERVER}.crt",
        keys / f"{SERVER}.key",
    )
    return Shown(authority, certificate, key, keys, _of_this_machine(host))


def shown_by_identity(identity: Identity, folder: Path, host: str) -> Shown:
    """Return what a SuperLink shows that is a node of a mesh: its secrets alone are its own.

    Args:
        identity: of the node.
        folder: of the SuperLink, in which the secrets are made.
        host: the address to listen at.

    Raises:
        IdentityError: the certificate names no address.
        InvalidInputError: nobody can reach it there under a name that the certificate has.
    """
    files = identity.folder
    authority, certificate = files / of_mesh.AUTHORITY, files / of_mesh.CERTIFICATE
    reached = own_name(named_hosts(certificate), host)
    secrets = secrets_of(folder, authority.read_bytes())
    members = Members(identity)
    return Shown(authority, certificate, files / of_mesh.KEY, secrets, reached, members)


def named_hosts(certificate: Path) -> list[str]:
    """Return the addresses and host names that a certificate of a node names, in its order.

    Args:
        certificate: ``node.pem`` of an identity. Its common name, such as ``node-0``, is no host.

    Raises:
        IdentityError: it names none, so no node could trust a SuperLink that shows it.
    """
    read = read_certificate(certificate)
    try:
        extension = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        extension = x509.SubjectAlternativeName([])
    own = common_name(read)
    hosts = [str(each.value) for each in extension if str(each.value) != own]
    if not hosts:
        raise IdentityError(
            f"{certificate} names no address under which nodes could reach a SuperLink; expected a "
            f"certificate that was issued with --address {own.removeprefix('node-')}=HOST:PORT"
        )
    return hosts


def own_name(hosts: list[str], host: str) -> str:
    """Return the name under which this machine reaches a SuperLink that it runs.

    Args:
        hosts: what its certificate names.
        host: where it listens.

    Raises:
        InvalidInputError: nobody can reach it there under a name that the certificate has.
    """
    if host in hosts:
        return host
    if host in ("0.0.0.0", "::"):
        return hosts[0]
    names = [each for each in hosts if not _is_number(each)]
    if names:
        return names[0]
    raise InvalidInputError("host", host, f"what the certificate names, {' or '.join(hosts)}; or 0.0.0.0")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def keep_renewed(tls: ssl.SSLContext, shown: Shown, ends: threading.Event) -> None:
    """Show a renewed certificate to whoever dials from then on; return when it ends.

    Args:
        tls: the context of the server.
        shown: its files, those of an identity.
        ends: set when the SuperLink ends.
    """
    seen = shown.certificate.stat().st_mtime_ns
    while not ends.wait(LOOKS_EVERY_S):
        with contextlib.suppress(OSError):
            if (now := shown.certificate.stat().st_mtime_ns) != seen:
                seen = now
                try:
                    identity = read_identity(shown.certificate.parent)
                    tls.load_cert_chain(shown.certificate, shown.key)
                except IdentityError as error:
                    _LOG.warning("%s; goes on with the certificate of before", error)
                else:
                    _LOG.info("goes on with a certificate that holds until %s", minute_of(identity.ends))


def _of_this_machine(host: str) -> str:
    """Return the address by which a process of this machine reaches an address that is listened at."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
