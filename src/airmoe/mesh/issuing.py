"""What an authority does for a mesh: identities for the nodes of a run, renewed certificates, new rosters."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from airmoe.errors import IdentityError, InvalidInputError
from airmoe.files import replaced_file
from airmoe.manifest import Manifest, read_manifest
from airmoe.mesh.addresses import parse_address
from airmoe.mesh.authority import NODE_DAYS, Authority
from airmoe.mesh.credentials import common_name, read_certificate
from airmoe.mesh.identity import CERTIFICATE, IDENTITY, write_identity
from airmoe.mesh.roster import (
    MOST_NODES,
    Member,
    Roster,
    SignedRoster,
    members_of,
    node_named,
)


def issue_identities(
    authority: Authority,
    run: Path,
    addresses: Mapping[int, Sequence[str]],
    schedules: Collection[int] = (),
    days: float = NODE_DAYS,
) -> Roster:
    """Write an identity into each client's folder of a run, and the roster into the authority's.

    A node that the authority's roster has already keeps its addresses, where no others are given, and may
    serve its experts of earlier models, too.

    Args:
        authority: of the mesh.
        run: the run folder.
        addresses: HOST:PORT where nodes can be reached.
        schedules: the nodes that may decide for others.
        days: how long the certificates hold.

    Raises:
        InvalidInputError: a node that the run does not have, or a client's folder that has an identity.
        AddressError: an address is malformed.
        IdentityError: the authority's roster is of another mesh.
    """
    if not (run / "clients").is_dir():
        raise InvalidInputError("run", str(run), "a run folder: clients does not exist in it")
    folders = {read_manifest(folder).node: folder for folder in sorted((run / "clients").iterdir())}
    manifest = read_manifest(next(iter(folders.values())))
    if manifest.nodes > MOST_NODES:
        raise InvalidInputError("nodes", manifest.nodes, f"at most {MOST_NODES}")
    for name, nodes in (("address", addresses), ("schedules", schedules)):
        for node in nodes:
            if node not in folders:
                raise InvalidInputError(f"node of --{name}", node, f"one of {', '.join(map(str, folders))}")
    for each in (address for some in addresses.values() for address in some):
        parse_address(each, anywhere=True)
    for folder in folders.values():
        if (folder / IDENTITY).exists():
            raise InvalidInputError("run", str(run), f"one without identities: {folder / IDENTITY} exists")
    roster = authority.sign(_next_roster(authority, manifest, addresses, schedules))
    for node, folder in folders.items():
        write_identity(folder / IDENTITY, authority, node, roster, days)
    authority.keep(roster)
    return roster.roster


def _next_roster(
    authority: Authority,
    manifest: Manifest,
    addresses: Mapping[int, Sequence[str]],
    schedules: Collection[int],
) -> Roster:
    known = authority.roster()
    if known is not None and known.roster.mesh != manifest.mesh:
        raise IdentityError(
            f"the run is of mesh {manifest.mesh!r}; this authority's roster is of {known.roster.mesh!r}"
        )
    members = {} if known is None else {member.node: member for member in known.roster.members}
    for new in members_of(manifest):
        before = members.get(new.node, new)
        earlier = [each for each in before.serves if each.model != manifest.model_hash]
        members[new.node] = Member(
            node=new.node,
            addresses=list(addresses.get(new.node, before.addresses)),
            serves=[*earlier, *new.serves],
            schedules=before.schedules or new.node in schedules,
        )
    number = 1 if known is None else known.roster.number + 1
    return Roster(mesh=manifest.mesh, number=number, members=[members[node] for node in sorted(members)])


def renew(authority: Authority, place: Path, days: float = NODE_DAYS) -> Path:
    """Replace a node's certificate by one of the same key that holds longer; return its file.

    Args:
        authority: who issued it.
        place: the certificate, the identity that it belongs to, or the client's folder.
        days: how long the new one holds.

    Raises:
        IdentityError: there is none, another authority issued it, or its node is no longer in the roster.
    """
    path = place
    for below in (IDENTITY, CERTIFICATE):
        path = path / below if (path / below).exists() else path
    old = read_certificate(path)
    try:
        old.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        raise IdentityError(f"{path} was not issued by this authority") from None
    node, roster = node_named(common_name(old)), authority.roster()
    if node is None or roster is None or roster.roster.member(node) is None:
        raise IdentityError(f"{path} is of {common_name(old)}, which is not in this authority's roster")
    hosts = [parse_address(each, anywhere=True)[0] for each in _addresses_of(roster, node)]
    with replaced_file(path) as temporary:
        temporary.write_bytes(authority.certificate_for(node, old.public_key(), hosts, days))
    return path


def _addresses_of(roster: SignedRoster, node: int) -> list[str]:
    member = roster.roster.member(node)
    return [] if member is None else member.addresses


def remove(authority: Authority, node: int) -> Roster:
    """Leave a node out of the authority's roster, and return the new one, which is yet to be pushed.

    Raises:
        IdentityError: the authority has no roster yet.
        InvalidInputError: the node is not in it.
    """
    known = authority.roster()
    if known is None:
        raise IdentityError("this authority has no roster yet; expected one, as airmoe cert issue makes it")
    signed = authority.sign(known.roster.without(node))
    authority.keep(signed)
    return signed.roster
