"""The next roster of a mesh, when a run's nodes are added to it."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from airmoe.errors import AddressError, IdentityError
from airmoe.mesh.addresses import parse_address, parse_own_address
from airmoe.mesh.roster import Member, Roster, SignedRoster


def next_roster(
    known: SignedRoster | None,
    mesh: str,
    added: Sequence[Member],
    addresses: Mapping[int, Sequence[str]],
    schedules: Collection[int],
) -> Roster:
    """Return the roster with a number more, to which the nodes of a run are added.

    A node that is in it already keeps its addresses, where no others are told, and its experts of other
    models.

    Args:
        known: the one of before, if there is one.
        mesh: of the run.
        added: the run's nodes and their experts.
        addresses: HOST:PORT where nodes can be reached.
        schedules: the nodes that may decide for others.

    Raises:
        IdentityError: the roster is of another mesh.
        AddressError: an address is another node's.
    """
    if known is not None and known.roster.mesh != mesh:
        raise IdentityError(
            f"the run is of mesh {mesh!r}; this authority's roster is of {known.roster.mesh!r}"
        )
    members = {} if known is None else {member.node: member for member in known.roster.members}
    for new in added:
        before = members.get(new.node, new)
        models = {each.model for each in new.serves}
        earlier = [each for each in before.serves if each.model not in models]
        members[new.node] = Member(
            node=new.node,
            addresses=list(addresses.get(new.node, before.addresses)),
            serves=[*earlier, *new.serves],
            schedules=before.schedules or new.node in schedules,
        )
    _refuse_shared_addresses(members.values(), addresses)
    number = 1 if known is None else known.roster.number + 1
    return Roster(mesh=mesh, number=number, members=[members[node] for node in sorted(members)])


def _refuse_shared_addresses(members: Iterable[Member], told: Mapping[int, Sequence[str]]) -> None:
    """Refuse addresses that are told for a node and are in the roster twice."""
    owners: dict[tuple[str, int], list[int]] = {}
    for member in members:
        for each in member.addresses:
            host, port = parse_address(each, anywhere=True)
            owners.setdefault((host.lower(), port), []).append(member.node)
    for node, some in told.items():
        for each in some:
            if len(sharing := owners[parse_own_address(each)]) > 1:
                others = [other for other in sharing if other != node] or [node]
                expected = f"one of its own: it is that of node {others[0]}"
                raise AddressError(f"address of node {node} is {each!r}; expected {expected}, too")
