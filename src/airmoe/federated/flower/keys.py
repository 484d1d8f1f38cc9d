"""Certificates, keys and secrets of a federation: made here, written readable for their owner alone.

authority.key authority.crt   signs the server's certificate; nodes need the certificate
server.key server.crt         the SuperLink's
control.token                 whoever knows it may register nodes and start runs
executor.secret               between the SuperLink and the process beside it that starts runs
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import write_secret, write_whole

AUTHORITY, SERVER = "authority", "server"
TOKEN, EXECUTOR_SECRET = "control.token", "executor.secret"

KEYS = "keys"
"""The folder with the secrets, in that of a SuperLink that has an identity."""

VALID_DAYS = 825
"""How long certificates are valid."""

_SECRETS: dict[str, Callable[[], bytes]] = {
    TOKEN: lambda: secrets.token_urlsafe(32).encode(),
    EXECUTOR_SECRET: lambda: secrets.token_bytes(32),
}


def make_keys(folder: Path, hosts: Sequence[str]) -> None:
    """Make what a SuperLink needs: an authority, a certificate for it, and two secrets.

    Args:
        folder: to make; nobody else can enter it.
        hosts: names and addresses under which nodes and users reach the SuperLink; this machine's own
            (localhost, 127.0.0.1) are added.

    Raises:
        InvalidInputError: a host that no certificate can name, or the folder exists.
    """
    names = [_host(host) for host in dict.fromkeys([*hosts, "localhost", "127.0.0.1"])]
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise InvalidInputError("folder", str(folder), "one that does not exist") from None
    authority_key, authority = ec.generate_private_key(ec.SECP384R1()), _name("airmoe authority")
    certificate = (
        _dated(authority, authority, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    _write_pair(folder, AUTHORITY, authority_key, certificate)
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = (
        _dated(_name("airmoe SuperLink"), authority, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA384())
    )
    _write_pair(folder, SERVER, key, certificate)
    for file, make in _SECRETS.items():
        write_secret(folder / file, make())


def secrets_of(folder: Path, authority: bytes) -> Path:
    """Return the folder with the secrets of a SuperLink that has an identity; make what is not there yet.

    Certificates are those of the identity. So there are two secrets, and a copy of the authority's
    certificate, which whoever starts runs needs.

    Args:
        folder: of the SuperLink.
        authority: the certificate of the mesh's authority, as PEM.
    """
    keys = folder / KEYS
    for each in (folder, keys):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(keys / f"{AUTHORITY}.crt", authority)
    for name, make in _SECRETS.items():
        if not (keys / name).exists():
            write_secret(keys / name, make())
    return keys


def make_node_key(path: Path) -> Path:
    """Make the key by which a node proves who it is; return the file of its public half, ``path`` + ".pub".

    The public half is what the federation's owner registers. The key never leaves the node.

    Args:
        path: the file to make; its folder is made if needed.

    Raises:
        InvalidInputError: the file exists.
    """
    if path.exists():
        raise InvalidInputError("path", str(path), "a file that does not exist: it would lose its key")
    path.parent.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    encoding = serialization.Encoding
    write_secret(
        path,
        key.private_bytes(encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
    )
    public = path.with_name(path.name + ".pub")
    public.write_bytes(
        key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH) + b"\n"
    )
    return public


def read_secret(path: Path) -> bytes:
    """Return a secret.

    Raises:
        RunFolderError: it is missing, empty, or others may read it.
    """
    try:
        mode, secret = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"secret {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise RunFolderError(f"secret {path} can be read by others; give it the mode 600")
    if not secret:
        raise RunFolderError(f"secret {path} is empty")
    return secret


def _write_pair(
    folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    encoding = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    write_secret(folder / f"{name}.key", key.private_bytes(encoding, form, serialization.NoEncryption()))
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(encoding))


def _dated(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of nodes differ
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise InvalidInputError("hosts", host, "a name in ASCII or an address") from None
