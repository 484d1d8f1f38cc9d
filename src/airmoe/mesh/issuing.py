"""What an authority does for a mesh: identities for the nodes of a run, renewed certificates, new rosters."""

import datetime
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from airmoe.errors import IdentityError, InvalidInputError
from airmoe.files import replaced_file
from airmoe.manifest import MANIFEST, read_manifest
from airmoe.mesh.addresses import parse_own_address
from airmoe.mesh.authority import NODE_DAYS, Authority
from airmoe.mesh.certifying import SLACK_S, new_key, now_utc, pem_of
from airmoe.mesh.credentials import common_name, minute_of, read_certificate
from airmoe.mesh.identity import CERTIFICATE, IDENTITY, fill_identity, hosts_of
from airmoe.mesh.next_roster import next_roster
from airmoe.mesh.roster import (
    MOST_NODES,
    Roster,
    members_of,
    node_named,
)
from airmoe.runfolder import SERVER, client_folders

_ASIDE = f".{IDENTITY}.issuing"


def issue_identities(
    authority: Authority,
    run: Path,
    addresses: Mapping[int, Sequence[str]],
    schedules: Collection[int] = (),
    days: float = NODE_DAYS,
    without: Collection[int] = (),
) -> Roster:
    """Write an identity into each client's folder of a run, and the roster into the authority's.

    Either all of it is written or nothing. A node that the authority's roster has already keeps its
    addresses, where no others are given, and may serve its experts of earlier models, too.

    A node that was removed gets no identity before its last certificate ends: links go by the name in a
    certificate, so the old key would be let in again.

    Args:
        authority: of the mesh.
        run: the run folder.
        addresses: HOST:PORT where nodes can be reached.
        schedules: the nodes that may decide for others.
        days: how long the certificates hold.
        without: nodes that get nothing; the roster says of them what it said.

    Raises:
        InvalidInputError: a node that the run does not have, two folders of one node, or a client's folder
            that has an identity.
        AddressError: an address is malformed, cannot be linked with, or is another node's.
        IdentityError: the authority's roster is of another mesh, or a node was removed and its certificate
            still holds.
    """
    folders = _folders_by_node(run)
    manifest = read_manifest(next(iter(folders.values())))
    if manifest.nodes > MOST_NODES:
        raise InvalidInputError("nodes", manifest.nodes, f"at most {MOST_NODES}")
    _refuse_other_nodes("without", without, range(manifest.nodes))
    folders = {node: folder for node, folder in folders.items() if node not in without}
    for name, nodes in (("address", addresses), ("schedules", schedules)):
        _refuse_other_nodes(name, nodes, folders)
    if not folders:
        raise InvalidInputError("without", sorted(without), "not all nodes of the run")
    for each in (address for some in addresses.values() for address in some):
        parse_own_address(each)
    for folder in folders.values():
        if (folder / IDENTITY).exists():
            expected = (
                f"one without identities: {folder / IDENTITY} exists; renew it (airmoe cert renew), "
                f"or remove the folder {IDENTITY} of every client to issue anew"
            )
            raise InvalidInputError("run", str(run), expected)
    with authority.alone():
        members = [member for member in members_of(manifest) if member.node not in without]
        refuse_removed(authority, [member.node for member in members])
        roster = authority.sign(next_roster(authority.roster(), manifest.mesh, members, addresses, schedules))
        with all_or_nothing() as made:
            certificates = []
            for node, folder in folders.items():
                key = new_key()
                hosts = hosts_of(roster.roster, node)
                certificate = authority.certificate_for(node, key.public_key(), hosts, days)
                certificates.append(certificate)
                made.append(aside := folder / _ASIDE)
                shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
                aside.mkdir(mode=0o700)
                pem = certificate.public_bytes(Encoding.PEM)
                fill_identity(aside, pem, pem_of(key), authority.pem, roster)
            with authority.journal.noted(certificates):
                for folder in folders.values():
                    made.append(target := folder / IDENTITY)
                    try:
                        (folder / _ASIDE).rename(target)
                    except OSError:  # somebody else has made one since
                        made.remove(target)
                        raise
                authority.keep(roster)
    return roster.roster


def _folders_by_node(run: Path) -> dict[int, Path]:
    """Return the folders of a run's nodes, those of the clients and of a server, by node."""
    if not (run / "clients").is_dir():
        raise InvalidInputError("run", str(run), "a run folder: clients does not exist in it")
    server = run / "clients" / SERVER
    found, first = dict[int, Path](), None
    for folder in [*client_folders(run), *([server] if (server / MANIFEST).exists() else [])]:
        manifest = read_manifest(folder)
        first = first or manifest
        if (other := found.get(manifest.node)) is not None:
            expected = f"one folder for each node: {other} and {folder} are both of node {manifest.node}"
            raise InvalidInputError("run", str(run), expected)
        if (manifest.mesh, manifest.model_hash) != (first.mesh, first.model_hash):
            expected = f"one model: {folder} has {manifest.model_hash} of mesh {manifest.mesh!r}"
            raise InvalidInputError(
                "run", str(run), f"{expected}, others {first.model_hash} of {first.mesh!r}"
            )
        found[manifest.node] = folder
    return found


def _refuse_other_nodes(option: str, nodes: Iterable[int], known: Collection[int]) -> None:
    for node in nodes:
        if node not in known:
            raise InvalidInputError(f"node of --{option}", node, f"one of {', '.join(map(str, known))}")


def refuse_removed(authority: Authority, nodes: Collection[int]) -> None:
    """Refuse nodes that are out of the roster, and whose old keys would be let in again with them.

    Raises:
        IdentityError: a node was removed, and its certificate still holds.
    """
    known, left_out, issued = authority.roster(), authority.journal.left_out(), authority.issued()
    for node in nodes:
        if node in left_out and (known is None or known.roster.member(node) is None):
            ends = max((each.ends for each in issued if each.node == node), default=left_out[node])
            if ends >= now_utc():
                raise IdentityError(
                    f"node {node} was removed, and its certificate holds until {minute_of(ends)}: "
                    f"its old key would be let in again; expected --without {node} until then, "
                    "or another authority"
                )


@contextmanager
def all_or_nothing() -> Iterator[list[Path]]:
    """Yield a list for folders that are made. They are removed if the block fails."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def renew(authority: Authority, place: Path, days: float = NODE_DAYS) -> Path:
    """Replace a node's certificate by one of the same key that holds longer; return its file.

    Args:
        authority: who issued it.
        place: the certificate, the identity that it belongs to, or the client's folder.
        days: how long the new one holds.

    Raises:
        IdentityError: there is none, another authority issued it, or its node is no longer in the roster, or
            was removed from it since.
    """
    path = place
    for below in (IDENTITY, CERTIFICATE):
        path = path / below if (path / below).exists() else path
    old = read_certificate(path)
    try:
        old.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        raise IdentityError(f"{path} was not issued by this authority") from None
    with authority.alone():
        node, roster = node_named(name := common_name(old)), authority.roster()
        if node is None or roster is None or roster.roster.member(node) is None:
            raise IdentityError(f"{path} is of {name}, which is not in this authority's roster")
        removed = authority.journal.left_out().get(node)
        if removed is not None and old.not_valid_before_utc + datetime.timedelta(seconds=SLACK_S) <= removed:
            raise IdentityError(
                f"{path} is from before {name} was removed on {minute_of(removed)}; "
                "expected the certificate that it got since: its old key stays out"
            )
        hosts = hosts_of(roster.roster, node)
        new = authority.certificate_for(node, old.public_key(), hosts, days)
        with authority.journal.noted([new]), replaced_file(path) as temporary:
            temporary.write_bytes(new.public_bytes(Encoding.PEM))
    return path


def remove(authority: Authority, node: int) -> Roster:
    """Leave a node out of the authority's roster, and return the new one, which is yet to be pushed.

    Raises:
        IdentityError: the authority has no roster yet.
        InvalidInputError: the node is not in it.
    """
    with authority.alone():
        known = authority.roster()
        if known is None:
            raise IdentityError(
                "this authority has no roster yet; expected one, as airmoe cert issue makes it"
            )
        signed = authority.sign(known.roster.without(node))
        authority.keep(signed)
    return signed.roster
