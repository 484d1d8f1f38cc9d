"""The authority of a mesh: it issues certificates to nodes, and signs the roster of who belongs to it.

An authority is a folder: ``authority.pem`` (its certificate, which every node has), ``authority.key`` (only
here), ``roster.json``, and ``issued.jsonl``, which says what was issued. Keys are on the curve P-256.
"""

import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from airmoe.checks import integer_at_least
from airmoe.errors import IdentityError, InvalidInputError
from airmoe.files import AnyPath, as_path, write_secret
from airmoe.mesh.credentials import read_certificate, read_key
from airmoe.mesh.roster import MOST_NODES, Roster, SignedRoster, name_of, read_roster, write_roster
from airmoe.newfolder import new_folder

CERTIFICATE, KEY, ISSUED, ROSTER = "authority.pem", "authority.key", "issued.jsonl", "roster.json"

AUTHORITY_DAYS = 3650
"""How long an authority's own certificate holds."""

NODE_DAYS = 30
"""How long a node's certificate holds: a lost key is worthless after that."""

SLACK_S = 300
"""How long before it was issued a certificate begins to hold: clocks differ."""


class Issued(NamedTuple):
    """A certificate that an authority issued.

    Attributes:
        node: whose it is.
        serial: of the certificate, in hex.
        begins, ends: the first and the last second that it holds, in UTC.
    """

    node: int
    serial: str
    begins: datetime.datetime
    ends: datetime.datetime


class Authority:
    """Issues certificates and signs rosters; see `make_authority` and `read_authority`."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, folder: Path | None = None
    ) -> None:
        self.certificate, self._key, self._folder = certificate, key, folder

    @property
    def pem(self) -> bytes:
        """The certificate, as every node has it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, node: int, addresses: Sequence[str] = (), days: float = NODE_DAYS) -> tuple[bytes, bytes]:
        """Return a certificate and its private key, both as PEM.

        Args:
            node: whose it is; its common name is ``node-<number>``.
            addresses: IP addresses or host names of the node, which the certificate names, too.
            days: how long it holds.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        return self.certificate_for(node, key.public_key(), addresses, days), _pem_of(key)

    def certificate_for(
        self, node: int, key: CertificatePublicKeyTypes, addresses: Sequence[str], days: float
    ) -> bytes:
        """Return a certificate for a key, as PEM; see `issue`."""
        integer_at_least("node", node, 0)
        if node >= MOST_NODES:
            raise InvalidInputError("node", node, f"less than {MOST_NODES}")
        if not 0 < days <= AUTHORITY_DAYS:
            raise InvalidInputError("days", days, f"above 0 and at most {AUTHORITY_DAYS}")
        now, name = _now(), name_of(node)
        ends = min(now + datetime.timedelta(days=days), self.certificate.not_valid_after_utc)
        certificate = (
            _begun(name, self.certificate.subject, key, now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(_alternatives(name, addresses)), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        if self._folder is not None:
            self._note(node, certificate)
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _note(self, node: int, certificate: x509.Certificate) -> None:
        assert self._folder is not None
        record = {
            "node": node,
            "serial": f"{certificate.serial_number:x}",
            "begins": certificate.not_valid_before_utc.isoformat(),
            "ends": certificate.not_valid_after_utc.isoformat(),
        }
        with (self._folder / ISSUED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def roster(self) -> SignedRoster | None:
        """Return the roster that was signed last; None before the first."""
        path = self._folder and self._folder / ROSTER
        if path is None or not path.exists():
            return None
        signed = read_roster(path)
        signed.verified(self.certificate)
        return signed

    def keep(self, roster: SignedRoster) -> None:
        """Note a roster as the one that was signed last."""
        assert self._folder is not None
        write_roster(self._folder / ROSTER, roster)

    def sign(self, roster: Roster) -> SignedRoster:
        """Return a roster with the authority's signature."""
        signature = self._key.sign(roster.signed_bytes(), ec.ECDSA(hashes.SHA256()))
        return SignedRoster(roster=roster, signature=signature.hex())

    def issued(self) -> list[Issued]:
        """Return what was issued, in that order."""
        path = (self._folder or Path()) / ISSUED
        if self._folder is None or not path.exists():
            return []
        try:
            records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            when = datetime.datetime.fromisoformat
            return [
                Issued(int(each["node"]), str(each["serial"]), when(each["begins"]), when(each["ends"]))
                for each in records
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IdentityError(f"{path} is damaged: {error}") from None


def make_authority(folder: AnyPath) -> Authority:
    """Make an authority in a new folder that its owner alone can read.

    Raises:
        InvalidInputError: the folder exists already.
    """
    authority, key = _made()
    with new_folder(as_path(folder)) as made:
        made.chmod(0o700)
        (made / CERTIFICATE).write_bytes(authority.pem)
        write_secret(made / KEY, _pem_of(key))
    return Authority(authority.certificate, key, as_path(folder))


def passing_authority() -> Authority:
    """Return an authority that is written nowhere: nobody can issue another certificate of it later."""
    return _made()[0]


def read_authority(folder: AnyPath) -> Authority:
    """Return the authority of a folder.

    Raises:
        IdentityError: a file is missing, damaged or can be read by others, or the key is another one's.
    """
    path = as_path(folder)
    if not (path / CERTIFICATE).is_file():
        raise IdentityError(f"{path} has no {CERTIFICATE}; expected a folder that `airmoe cert init` made")
    certificate, key = read_certificate(path / CERTIFICATE), read_key(path / KEY)
    if key.public_key() != certificate.public_key():
        raise IdentityError(f"{path / KEY} does not fit {CERTIFICATE} beside it")
    return Authority(certificate, key, path)


def _made() -> tuple[Authority, ec.EllipticCurvePrivateKey]:
    key, now = ec.generate_private_key(ec.SECP256R1()), _now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "airmoe authority")])
    ends = now + datetime.timedelta(days=AUTHORITY_DAYS)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _begun("airmoe authority", name, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key), key


def _begun(
    name: str,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    now: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(seconds=SLACK_S))
        .not_valid_after(ends)
    )


def _alternatives(name: str, addresses: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = [x509.DNSName(name)]
    for address in dict.fromkeys(addresses):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            found.append(x509.DNSName(address))
    return found


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
