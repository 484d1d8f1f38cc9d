"""What an authority adds to a mesh apart from a run: nodes without experts, and experts of a model.

Federated training needs identities before there is a model. Its nodes are added first, and what they may
serve when they have been trained.
"""

from collections.abc import Collection, Mapping, Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from airmoe.errors import InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.manifest import read_manifest
from airmoe.mesh.addresses import parse_own_address
from airmoe.mesh.authority import NODE_DAYS, Authority
from airmoe.mesh.certifying import new_key, pem_of
from airmoe.mesh.identity import IDENTITY, fill_identity, hosts_of
from airmoe.mesh.issuing import all_or_nothing, refuse_removed
from airmoe.mesh.next_roster import next_roster
from airmoe.mesh.roster import MOST_NODES, Member, Roster, members_of

MESH = "lab"
"""The mesh of runs whose settings name no other."""


def add_nodes(
    authority: Authority,
    folder: AnyPath,
    nodes: Sequence[int],
    mesh: str | None = None,
    addresses: Mapping[int, Sequence[str]] | None = None,
    days: float = NODE_DAYS,
) -> Roster:
    """Write identities for nodes that hold no expert yet: ``folder/03/identity`` for node 3, for example.

    All are of one roster, which is the authority's from then on. Either all of it is written or nothing.

    Args:
        authority: of the mesh.
        folder: a folder for each node is made in it.
        nodes: their numbers.
        mesh: its name; default that of the authority's roster, or `MESH` where it has none.
        addresses: HOST:PORT where nodes can be reached.
        days: how long the certificates hold.

    Raises:
        InvalidInputError: no node, a number that none can have, or a node's folder exists; or the authority's
            roster is of another mesh.
        AddressError: an address is malformed, cannot be linked with, or is another node's.
        IdentityError: a node was removed, and its certificate still holds.

    Example:
        >>> from airmoe.mesh.authority import make_authority
        >>> roster = add_nodes(make_authority("authority"), "nodes", [0, 1])  # doctest: +SKIP
        >>> roster.number  # doctest: +SKIP
        1
    """
    folder, addresses = as_path(folder), addresses or {}
    if not nodes or len(set(nodes)) != len(nodes) or not all(0 <= node < MOST_NODES for node in nodes):
        raise InvalidInputError("nodes", list(nodes), f"numbers from 0 to {MOST_NODES - 1}, each once")
    for node, some in addresses.items():
        if node not in nodes:
            raise InvalidInputError("node of --address", node, f"one of {', '.join(map(str, nodes))}")
        for each in some:
            parse_own_address(each)
    targets = {node: folder / f"{node:02d}" for node in sorted(nodes)}
    for target in targets.values():
        if target.exists():
            raise InvalidInputError("folder", str(folder), f"one without {target.name} in it")
    with authority.alone():
        refuse_removed(authority, nodes)
        known = authority.roster()
        named = mesh or (MESH if known is None else known.roster.mesh)
        if known is not None and named != known.roster.mesh:
            raise InvalidInputError("mesh", mesh, f"that of the authority's roster, {known.roster.mesh}")
        members = [Member(node=node, addresses=[], serves=[]) for node in targets]
        roster = authority.sign(next_roster(known, named, members, addresses, ()))
        with all_or_nothing() as made:
            certificates = []
            for node, target in targets.items():
                key = new_key()
                hosts = hosts_of(roster.roster, node)
                certificates.append(
                    certificate := authority.certificate_for(node, key.public_key(), hosts, days)
                )
                target.mkdir(parents=True)
                made.append(target)
                (identity := target / IDENTITY).mkdir(mode=0o700)
                fill_identity(
                    identity, certificate.public_bytes(Encoding.PEM), pem_of(key), authority.pem, roster
                )
            with authority.journal.noted(certificates):
                authority.keep(roster)
    return roster.roster


def add_model(authority: Authority, client_folder: AnyPath, without: Collection[int] = ()) -> Roster:
    """Let the nodes of a model serve its experts, as the manifest in any client's folder of it says.

    Nobody gets a certificate. Nodes keep their addresses, and may serve experts of earlier models, too.

    Args:
        authority: of the mesh.
        client_folder: with a manifest.json, of which nothing else is needed.
        without: nodes of the model that stay out of the roster.

    Raises:
        RunFolderError: there is no manifest, or it is damaged.
        IdentityError: the authority's roster is of another mesh, or a node was removed and its certificate
            still holds.
    """
    manifest = read_manifest(client_folder)
    with authority.alone():
        members = [member for member in members_of(manifest) if member.node not in without]
        refuse_removed(authority, [member.node for member in members])
        roster = authority.sign(next_roster(authority.roster(), manifest.mesh, members, {}, ()))
        authority.keep(roster)
    return roster.roster
