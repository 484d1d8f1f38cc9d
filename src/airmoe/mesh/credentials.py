"""Certificates and private keys in files: read, and refused with the reason where nobody should use them."""

import datetime
import os
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from airmoe.errors import IdentityError
from airmoe.files import read_regular

MOST_BYTES = 64 << 10
"""The size of the largest certificate or key that is read."""


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate in a PEM file.

    Raises:
        IdentityError: it is missing or damaged, or its key is not on the curve P-256.
    """
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise IdentityError(f"{path} is no certificate: {error}") from None
    if not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
        raise IdentityError(f"{path} has a key of another kind; expected one on the curve P-256")
    return certificate


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the private key in a PEM file.

    Raises:
        IdentityError: it is missing or damaged, of another kind, or others than its owner may read it.
    """
    data = _read(path)
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise IdentityError(
            f"{path} has mode {mode:o}: others can read this private key; "
            "expected 600 (chmod 600), and a new certificate if somebody has read it"
        )
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path} is no private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path} is of another kind; expected a key on the curve P-256")
    return key


def common_name(certificate: x509.Certificate) -> str:
    """Return the common name of whoever a certificate is for; nothing where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def refuse_dates(
    certificate: x509.Certificate,
    called: str,
    now: datetime.datetime | None = None,
    otherwise: str = "renew it (airmoe cert renew)",
) -> None:
    """Refuse a certificate that does not hold now.

    Args:
        certificate: the certificate.
        called: what it is called, such as its path.
        now: the time, UTC; default that of this machine.
        otherwise: what to do where it is over.

    Raises:
        IdentityError: it is over, or has not begun.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise IdentityError(
            f"{called} held until {minute_of(ends)}, and it is {minute_of(now)}; expected one that holds: "
            f"{otherwise}"
        )
    if now < begins:
        raise IdentityError(
            f"{called} holds from {minute_of(begins)}, and by the clock of this machine it is "
            f"{minute_of(now)}; expected a clock that is right"
        )


def minute_of(when: datetime.datetime) -> str:
    """Return a time in UTC as a message says it."""
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _read(path: Path) -> bytes:
    try:
        data = read_regular(path, MOST_BYTES + 1)
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise IdentityError(f"{path} has more than {MOST_BYTES} bytes; expected a certificate or a key")
    return data
