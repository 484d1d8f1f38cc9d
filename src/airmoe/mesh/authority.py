"""The authority of a mesh: it issues certificates to nodes, and signs the roster of who belongs to it.

An authority is a folder: ``authority.pem`` (its certificate, which every node has), ``authority.key`` (only
here), ``roster.json``, and ``issued.jsonl``, which says what was issued and who was left out.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from airmoe.checks import integer_at_least
from airmoe.errors import IdentityError, InvalidInputError
from airmoe.files import AnyPath, as_path, write_secret, write_whole
from airmoe.locks import sole_writer
from airmoe.mesh.certifying import certificate_of_authority, certificate_of_node, new_key, now_utc, pem_of
from airmoe.mesh.credentials import common_name, read_certificate, read_key, refuse_dates
from airmoe.mesh.journal import Issued, Journal
from airmoe.mesh.roster import (
    MOST_BYTES,
    MOST_NODES,
    Roster,
    SignedRoster,
    name_of,
    read_roster,
    write_roster,
)
from airmoe.newfolder import new_folder

CERTIFICATE, KEY, ISSUED, ROSTER = "authority.pem", "authority.key", "issued.jsonl", "roster.json"

AUTHORITY_DAYS = 3650
"""How long an authority's own certificate holds."""

NODE_DAYS = 30
"""How long a node's certificate holds: a lost key is worthless after that."""

ANOTHER = "another authority (airmoe cert init)"

_NAME, _PASSING = "airmoe authority", "airmoe authority of one machine"

_WAIT_S, _LOOK_S = 10.0, 0.05
"""How long a command waits for another one at the same authority, and how often it looks."""


class Authority:
    """Issues certificates and signs rosters; see `make_authority` and `read_authority`."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, folder: Path | None = None
    ) -> None:
        self.certificate, self._key, self._folder = certificate, key, folder
        self._working, self._depth = threading.RLock(), 0

    @property
    def pem(self) -> bytes:
        """The certificate, as every node has it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def journal(self) -> Journal:
        """What was issued, and who was left out."""
        assert self._folder is not None
        return Journal(self._folder / ISSUED)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other command work with the authority's folder until the block ends.

        Raises:
            IdentityError: another one takes too long.
        """
        with self._working, ExitStack() as held:
            end_s = time.monotonic() + _WAIT_S
            while self._folder is not None and not self._depth:
                try:
                    held.enter_context(sole_writer(self._folder / ROSTER))
                    break
                except InvalidInputError:
                    if time.monotonic() > end_s:
                        raise IdentityError(
                            f"{self._folder} is being changed by another command; expected one at a time"
                        ) from None
                    time.sleep(_LOOK_S)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def issue(self, node: int, addresses: Sequence[str] = (), days: float = NODE_DAYS) -> tuple[bytes, bytes]:
        """Return a certificate and its private key, both as PEM.

        Args:
            node: whose it is; its common name is ``node-<number>``.
            addresses: IP addresses or host names of the node, which the certificate names, too.
            days: how long it holds.
        """
        key = new_key()
        certificate = self.certificate_for(node, key.public_key(), addresses, days)
        if self._folder is not None:
            with self.alone(), self.journal.noted([certificate]):
                pass
        return certificate.public_bytes(serialization.Encoding.PEM), pem_of(key)

    def certificate_for(
        self, node: int, key: CertificatePublicKeyTypes, addresses: Sequence[str], days: float
    ) -> x509.Certificate:
        """Return a certificate for a key, which is yet to be noted in the journal; see `issue`.

        Raises:
            IdentityError: the authority's own certificate is over, or has not begun.
        """
        integer_at_least("node", node, 0)
        if node >= MOST_NODES:
            raise InvalidInputError("node", node, f"less than {MOST_NODES}")
        if not 0 < days <= AUTHORITY_DAYS:
            raise InvalidInputError("days", days, f"above 0 and at most {AUTHORITY_DAYS}")
        refuse_dates(self.certificate, "the authority's own certificate", otherwise=ANOTHER)
        return certificate_of_node(self.certificate, self._key, name_of(node), key, addresses, days)

    def roster(self) -> SignedRoster | None:
        """Return the roster that was signed last; None before the first."""
        path = self._folder and self._folder / ROSTER
        if path is None or not path.exists():
            return None
        signed = read_roster(path)
        try:
            signed.verified(self.certificate)
        except IdentityError as error:
            raise IdentityError(f"{path}: {error}") from None
        return signed

    def keep(self, roster: SignedRoster) -> None:
        """Note a roster as the one that was signed last, and in the journal whom it leaves out."""
        assert self._folder is not None
        with self.alone():
            known = self.roster()
            before = [] if known is None else known.roster.members
            gone = [member.node for member in before if roster.roster.member(member.node) is None]
            with self.journal.noted(out=gone):
                write_roster(self._folder / ROSTER, roster)

    def sign(self, roster: Roster) -> SignedRoster:
        """Return a roster with the authority's signature.

        Raises:
            InvalidInputError: it is larger than what anybody reads.
        """
        signature = self._key.sign(roster.signed_bytes(), ec.ECDSA(hashes.SHA256()))
        signed = SignedRoster(roster=roster, signature=signature.hex())
        if (size := len(signed.encoded())) > MOST_BYTES:
            expected = (
                f"at most {MOST_BYTES}, with fewer experts: another authority begins without earlier models"
            )
            raise InvalidInputError("size of the roster in bytes", size, expected)
        return signed

    def issued(self) -> list[Issued]:
        """Return what was issued, in that order."""
        return [] if self._folder is None else self.journal.issued()


def make_authority(folder: AnyPath) -> Authority:
    """Make an authority in a new folder that its owner alone can read.

    Raises:
        InvalidInputError: the folder exists already.
    """
    authority, key = _made(_NAME)
    with new_folder(as_path(folder)) as made:
        made.chmod(0o700)
        write_whole(made / CERTIFICATE, authority.pem)
        write_secret(made / KEY, pem_of(key))
    return Authority(authority.certificate, key, as_path(folder))


def passing_authority() -> Authority:
    """Return an authority that is written nowhere: nobody can issue another certificate of it later."""
    return _made(_PASSING)[0]


def is_passing(certificate: x509.Certificate) -> bool:
    """Return whether an authority's certificate is that of a `passing_authority`."""
    return common_name(certificate) == _PASSING


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


def _made(called: str) -> tuple[Authority, ec.EllipticCurvePrivateKey]:
    key = new_key()
    return Authority(certificate_of_authority(key, called, now_utc(), AUTHORITY_DAYS), key), key
