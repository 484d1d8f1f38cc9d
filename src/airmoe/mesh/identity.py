"""The identity of a node: its certificate and key, the authority that it trusts, and the roster of the mesh.

    identity/node.pem  node.key  authority.pem  roster.json

Zenoh refuses a peer in silence, and opens without a word where a file is missing. So everything is checked
here before a session opens, and what is wrong is said in one line.
"""

import datetime
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from airmoe.errors import IdentityError
from airmoe.files import AnyPath, as_path, write_secret, write_whole
from airmoe.manifest import Manifest
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.authority import ANOTHER, NODE_DAYS, Authority, is_passing
from airmoe.mesh.credentials import common_name, read_certificate, read_key, refuse_dates
from airmoe.mesh.roster import (
    Member,
    Roster,
    SignedRoster,
    name_of,
    node_named,
    read_roster,
    write_roster,
)
from airmoe.newfolder import new_folder

CERTIFICATE, KEY, AUTHORITY, ROSTER = "node.pem", "node.key", "authority.pem", "roster.json"


IDENTITY, IDENTITIES = "identity", "identities"
"""The folder in a client's folder, and that of a run for this machine, with a folder for each client."""


@dataclass(frozen=True)
class Identity:
    """Who a node is on a mesh; every file of it was checked.

    Attributes:
        folder: where its files are.
        node: its number.
        ends: until when its certificate holds, UTC.
        roster: who belongs to the mesh.
        holds_elsewhere: whether it is more than one of a run for this machine alone, as its authority says.
    """

    folder: Path
    node: int
    ends: datetime.datetime
    roster: Roster
    holds_elsewhere: bool = True

    @property
    def name(self) -> str:
        """The common name of its certificate."""
        return name_of(self.node)

    @property
    def member(self) -> Member:
        """Its entry in the roster."""
        member = self.roster.member(self.node)
        assert member is not None  # see `read_identity`
        return member

    @cached_property
    def names(self) -> frozenset[str]:
        """The common names of all who belong to the mesh."""
        return frozenset(member.name for member in self.roster.members)

    def refuse_other(self, manifest: Manifest) -> None:
        """Refuse a client's folder that this identity is not for.

        Raises:
            IdentityError: it is another node's, or of another mesh; or the roster does not let the node serve
                one of its experts, or knows it by another hash.
        """
        if self.roster.mesh != manifest.mesh:
            raise IdentityError(
                f"the identity in {self.folder} is of mesh {self.roster.mesh!r}; expected {manifest.mesh!r}"
            )
        if self.node != manifest.node:
            raise IdentityError(
                f"the certificate in {self.folder} is of {self.name}; expected that of node {manifest.node}, "
                "whose folder this is"
            )
        may_serve = {(each.model, each.layer, each.expert): each.hash for each in self.member.serves}
        for each in manifest.serves:
            found = may_serve.get((manifest.model_hash, each.layer, each.expert))
            expected = manifest.layer(each.layer).hashes[each.expert]
            what = f"expert {each.expert} of layer {each.layer} of model {manifest.model_hash}"
            if found is None:
                raise IdentityError(f"the roster does not let {self.name} serve {what}")
            if found != expected:
                raise IdentityError(f"{what} has hash {expected}; the roster lets {self.name} serve {found}")

    def certificate(self, now: datetime.datetime | None = None) -> Path:
        """Return the certificate's file, which holds now.

        Raises:
            IdentityError: it is over, or has not begun.
        """
        refuse_dates(read_certificate(self.folder / CERTIFICATE), str(self.folder / CERTIFICATE), now)
        return self.folder / CERTIFICATE

    def with_roster(self, roster: Roster) -> "Identity":
        """Return the same identity beside another roster."""
        return replace(self, roster=roster)


def read_identity(folder: AnyPath, now: datetime.datetime | None = None) -> Identity:
    """Return the identity in a folder.

    Args:
        folder: with node.pem, node.key, authority.pem and roster.json.
        now: the time, UTC; default that of this machine.

    Raises:
        IdentityError: a file is missing or damaged, the key does not fit or can be read by others, another
            authority issued the certificate, it is over or has not begun, the roster is not signed, or the
            node is not in it.
    """
    path = as_path(folder)
    if not path.is_dir():
        raise IdentityError(f"{path} does not exist; expected a folder with an identity")
    certificate, key = read_certificate(path / CERTIFICATE), read_key(path / KEY)
    authority = read_certificate(path / AUTHORITY)
    if key.public_key() != certificate.public_key():
        raise IdentityError(f"{path / KEY} is the key of another certificate than {CERTIFICATE}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise IdentityError(f"{path / CERTIFICATE} was not issued by the authority of {AUTHORITY}") from None
    refuse_dates(authority, str(path / AUTHORITY), now, ANOTHER)
    refuse_dates(certificate, str(path / CERTIFICATE), now)
    node = node_named(name := common_name(certificate))
    if node is None:
        raise IdentityError(f"{path / CERTIFICATE} is of {name!r}; expected node-<number>")
    try:
        roster = read_roster(path / ROSTER).verified(authority)
    except IdentityError as error:
        raise IdentityError(f"{path / ROSTER}: {error}") from None
    if roster.member(node) is None:
        raise IdentityError(f"{path / ROSTER} does not have {name}: it does not belong to the mesh")
    return Identity(path, node, certificate.not_valid_after_utc, roster, not is_passing(authority))


def write_identity(
    folder: Path, authority: Authority, node: int, roster: SignedRoster, days: float = NODE_DAYS
) -> None:
    """Issue a certificate and write an identity into a new folder that its owner alone can read.

    Raises:
        InvalidInputError: the folder exists.
    """
    certificate, key = authority.issue(node, hosts_of(roster.roster, node), days)
    with new_folder(folder) as made:
        fill_identity(made, certificate, key, authority.pem, roster)


def fill_identity(made: Path, certificate: bytes, key: bytes, authority: bytes, roster: SignedRoster) -> None:
    """Write the files of an identity into an empty folder, which is its owner's alone from then on."""
    made.chmod(0o700)
    write_whole(made / CERTIFICATE, certificate)
    write_whole(made / AUTHORITY, authority)
    write_secret(made / KEY, key)
    write_roster(made / ROSTER, roster)


def hosts_of(roster: Roster, node: int) -> list[str]:
    """Return the hosts where a roster says that a node is."""
    member = roster.member(node)
    return [] if member is None else [parse_address(each, anywhere=True)[0] for each in member.addresses]
