"""Runs whose nodes have identities, and raw Zenoh sessions of those who attack them."""

import datetime
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zenoh
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from airmoe.manifest import Manifest, read_manifest
from airmoe.mesh.authority import Authority, make_authority
from airmoe.mesh.identity import CERTIFICATE, IDENTITY, KEY, Identity
from airmoe.mesh.issuing import issue_identities
from airmoe.mesh.keys import expert_key
from airmoe.mesh.local_identities import identity_of
from airmoe.mesh.zenoh_config import session_config
from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address


@dataclass(frozen=True)
class IssuedRun:
    """A run whose four nodes have identities, and who issued them."""

    folder: Path
    authority: Authority
    authority_folder: Path
    addresses: tuple[str, ...]

    @property
    def folders(self) -> list[Path]:
        return client_folders(self.folder)

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.folders[0])

    def identity(self, node: int) -> Identity:
        identity = identity_of(self.folders[node])
        assert identity is not None
        return identity

    def files(self, node: int) -> Path:
        return self.folders[node] / IDENTITY

    def key(self, node: int) -> str:
        """The key of the expert of a node, whose number is the same."""
        return expert_key(self.manifest.mesh, self.manifest.model_hash, 1, node, node)


def issued_run(run_folder: Path, folder: Path) -> IssuedRun:
    """Issue identities to a copy of a run."""
    shutil.copytree(run_folder, folder / "run", ignore=shutil.ignore_patterns("identities"))
    authority = make_authority(folder / "authority")
    addresses = tuple(free_address() for _ in client_folders(run_folder))
    told = {node: [address] for node, address in enumerate(addresses)}
    issue_identities(authority, folder / "run", told, schedules=[0])
    return IssuedRun(folder / "run", authority, folder / "authority", addresses)


def write_pair(folder: Path, certificate: bytes, key: bytes) -> Path:
    """Write a certificate and its key as an identity has them."""
    folder.mkdir(exist_ok=True)
    (folder / CERTIFICATE).write_bytes(certificate)
    (folder / KEY).write_bytes(key)
    (folder / KEY).chmod(0o600)
    return folder


def dated(authority: Authority, name: str, begins_s: float, ends_s: float) -> tuple[bytes, bytes]:
    """A certificate that begins and ends so many seconds from now; airmoe issues no such ones."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(seconds=begins_s))
        .not_valid_after(now + datetime.timedelta(seconds=ends_s))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(authority._key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


@contextmanager
def raw_session(
    address: str,
    pair: Path | None = None,
    authority: Path | None = None,
    listen: tuple[str, ...] = (),
    changes: Mapping[str, object] | None = None,
) -> Iterator[zenoh.Session]:
    """A session that goes by no rules: with a certificate and key, with neither, or without TLS.

    Args:
        address: HOST:PORT that it dials.
        pair: folder with its certificate and key.
        authority: certificate of the authority that it trusts; None for plain TCP.
        listen: locators.
        changes: of Zenoh's settings.
    """
    tls, settings = "transport/link/tls", dict[str, object]()
    if authority is not None:
        settings |= {
            f"{tls}/root_ca_certificate": str(authority),
            f"{tls}/verify_name_on_connect": False,
            f"{tls}/enable_mtls": pair is not None,
        }
    if pair is not None:
        for end in ("listen", "connect"):
            settings[f"{tls}/{end}_certificate"] = str(pair / CERTIFICATE)
            settings[f"{tls}/{end}_private_key"] = str(pair / KEY)
    protocol = "tcp" if authority is None else "tls"
    config = session_config(listen, [f"{protocol}/{address}"], settings | dict(changes or {}))
    with zenoh.open(config) as session:
        yield session


def linked_names(session: zenoh.Session) -> list[str]:
    """The names of whoever a session is linked with."""
    return sorted(str(link.auth_identifier) for link in session.info.links())
