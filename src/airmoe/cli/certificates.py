"""``airmoe cert`` and ``airmoe roster``: who belongs to a mesh. What a command needs is imported there."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.bare import explain
from airmoe.cli.console import tell
from airmoe.cli.paths import all_expanded, client_folder, expanded
from airmoe.cli.serving import Connect
from airmoe.errors import IdentityError, InvalidInputError

if TYPE_CHECKING:
    from airmoe.mesh.roster import Roster

cert = typer.Typer(
    callback=explain,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Certificates of a mesh: an authority issues them, and signs the roster of who belongs to it.",
)
roster = typer.Typer(
    callback=explain,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="The roster of a mesh: who belongs to it, where they are, and which experts they may serve.",
)

AuthorityFolder = Annotated[
    Path, typer.Argument(callback=expanded, help="Folder of the authority. Keep it on a machine of your own.")
]
Days = Annotated[float, typer.Option(help="How long the certificates hold.")]


@cert.command("init")
def init(authority: AuthorityFolder) -> None:
    """Make an authority: a folder with a key that never leaves it."""
    from airmoe.mesh.authority import make_authority

    make_authority(authority)
    tell(f"made {authority}; whoever has authority.key can let anybody into the mesh: keep it to yourself")


@cert.command()
def issue(
    authority: AuthorityFolder,
    run: Annotated[Path, typer.Argument(callback=expanded, help="Run folder, whose clients are the nodes.")],
    address: Annotated[
        list[str],
        typer.Option(
            help="NODE=HOST:PORT, where a node can be reached by the others. May be repeated. A node without "
            "one can only be found by --connect, or asks alone."
        ),
    ] = [],  # noqa: B006 (Typer copies it)
    schedules: Annotated[
        list[int],
        typer.Option(
            "--schedules", help="Node that may decide for others (serve --schedule). May be repeated."
        ),
    ] = [],  # noqa: B006
    days: Days = 30,
    without: Annotated[
        list[int],
        typer.Option(
            "--without", help="Node of the run that gets nothing, and stays out if it is. May be repeated."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Issue an identity to every node of a run, and sign the roster.

    Each clients/<id> gets a folder identity/ with its certificate, its key, the authority's certificate and
    the roster: copy clients/<id> to its box, and airmoe serve clients/<id> there needs no options. A node
    that was removed is refused until its certificate ends: --without leaves it out.
    """
    from airmoe.mesh.authority import read_authority
    from airmoe.mesh.issuing import issue_identities

    issued = issue_identities(read_authority(authority), run, _addresses(address), schedules, days, without)
    for member in issued.members:
        where = ", ".join(member.addresses) or "no address"
        experts = f"{(count := len(member.serves))} expert{'s' * (count != 1)}"
        tell(f"{member.name}: {experts}, {where}{', schedules' * member.schedules}")
    tell(f"roster {issued.number} of mesh {issued.mesh} is in {authority / 'roster.json'}")


@cert.command()
def add(
    authority: AuthorityFolder,
    folder: Annotated[
        Path, typer.Argument(callback=expanded, help="A folder for each node is made in it, such as 03.")
    ],
    node: Annotated[list[int], typer.Option(min=0, help="Number of a node. May be repeated.")],
    mesh: Annotated[
        str | None,
        typer.Option(help="Name of the mesh, as in the settings of its runs. [that of the roster; lab]"),
    ] = None,
    address: Annotated[
        list[str],
        typer.Option(help="NODE=HOST:PORT, where a node can be reached by the others. May be repeated."),
    ] = [],  # noqa: B006
    days: Days = 30,
) -> None:
    """Issue identities to nodes that hold no expert yet, as federated training needs them.

    Copy FOLDER/<id> to its box. When a model is trained, airmoe roster add says what the nodes may serve.
    """
    from airmoe.mesh.adding import add_nodes
    from airmoe.mesh.authority import read_authority

    added = add_nodes(read_authority(authority), folder, node, mesh, _addresses(address), days)
    for member in added.members:
        if member.node in node:
            tell(f"{member.name}: {', '.join(member.addresses) or 'no address'}")
    tell(f"roster {added.number} of mesh {added.mesh} is in {authority / 'roster.json'}")


@cert.command()
def renew(
    authority: AuthorityFolder,
    certificates: Annotated[
        list[Path],
        typer.Argument(
            callback=all_expanded,
            help="node.pem of nodes, or folders with one: an identity, or clients/<id>. No key is needed.",
        ),
    ],
    days: Days = 30,
) -> None:
    """Replace certificates by ones that hold longer. The keys stay as they are."""
    from airmoe.mesh.authority import read_authority
    from airmoe.mesh.issuing import renew as renewed

    issuer = read_authority(authority)
    for path in certificates:
        tell(f"renewed {renewed(issuer, path, days)}")


@cert.command("list")
def list_issued(authority: AuthorityFolder) -> None:
    """List what an authority issued, the newest certificate of each node, and how long it holds."""
    from airmoe.mesh.authority import read_authority

    issuer = read_authority(authority)
    signed, newest = issuer.roster(), {each.node: each for each in issuer.issued()}
    now = datetime.datetime.now(datetime.UTC)
    for node, each in sorted(newest.items()):
        is_in = signed is not None and signed.roster.member(node) is not None
        left_days = (each.ends - now).total_seconds() / 86400
        holds = f"holds for {left_days:.1f} days" if left_days > 0 else "is over"
        tell(f"node-{node}: {each.serial[:16]} {holds}{'' if is_in else ', not in the roster'}")


@roster.command()
def show(
    place: Annotated[
        Path,
        typer.Argument(
            callback=expanded,
            help="roster.json, or a folder that it is in: an authority, an identity, or clients/<id>.",
        ),
    ],
) -> None:
    """Show who is in a roster, whose signature is looked at where authority.pem lies beside it."""
    path = _file(place)
    signed, is_verified = _verified(path)
    tell(f"roster {signed.number} of mesh {signed.mesh}")
    for member in signed.members:
        experts = ", ".join(sorted({f"{each.layer}/{each.expert}" for each in member.serves})) or "none"
        where = ", ".join(member.addresses) or "no address"
        tell(f"{member.name}: {where}; experts (layer/expert): {experts}{'; schedules' * member.schedules}")
    if not is_verified:
        tell(f"its signature was not looked at: no authority.pem is beside {path}")


@roster.command("add")
def add_experts(
    authority: AuthorityFolder,
    client: Annotated[
        Path,
        typer.Argument(
            callback=client_folder, help="Folder with the manifest.json of any client of the model."
        ),
    ],
    without: Annotated[
        list[int],
        typer.Option("--without", help="Node of the model that stays out if it is. May be repeated."),
    ] = [],  # noqa: B006
) -> None:
    """Let the nodes of a new model serve its experts. They may when they have the new roster."""
    from airmoe.mesh.adding import add_model
    from airmoe.mesh.authority import read_authority

    new = add_model(read_authority(authority), client, without)
    tell(f"roster {new.number} of mesh {new.mesh} is in {authority / 'roster.json'}; push it")


@roster.command()
def remove(
    authority: AuthorityFolder,
    node: Annotated[int, typer.Argument(min=0, help="Number of the node.")],
) -> None:
    """Leave a node out of the roster. It is in until the new roster is pushed."""
    from airmoe.mesh.authority import read_authority
    from airmoe.mesh.issuing import remove as removed

    new = removed(read_authority(authority), node)
    tell(f"roster {new.number} without node-{node} is in {authority / 'roster.json'}; push it")


@roster.command()
def push(
    client: Annotated[
        Path,
        typer.Argument(callback=client_folder, help="clients/<id> of any node, or its pack, to bring it."),
    ],
    place: Annotated[
        Path, typer.Argument(callback=expanded, help="The new roster.json, or the authority's folder.")
    ],
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    timeout_s: Annotated[float, typer.Option(help="Seconds for nodes to be found and to answer.")] = 5.0,
) -> None:
    """Bring a new roster to all nodes that are in it; whoever it leaves out is cut off at once.

    A node that is off takes it from the others when it is back. Exit status: 0 if all have it, 1 if not.
    """
    from airmoe.mesh.local_identities import identity_of
    from airmoe.mesh.roster import read_roster
    from airmoe.mesh.roster_push import push_roster

    identity = identity_of(client)
    if identity is None:
        raise InvalidInputError("client", str(client), "a folder with an identity")
    told = push_roster(identity, read_roster(_file(place)), connect, timeout_s)
    for node, what in told.items():
        tell(f"node-{node}: {what}")
    if not all(what in ("taken", "known already") for what in told.values()):
        raise typer.Exit(1)


def _file(place: Path) -> Path:
    """Return the roster's file of a place."""
    from airmoe.mesh.identity import IDENTITY, ROSTER

    path = place
    for below in (IDENTITY, ROSTER):
        path = path / below if (path / below).exists() else path
    if path.is_dir():
        raise InvalidInputError("roster", str(place), "a roster.json, or a folder that has one")
    return path


def _verified(path: Path) -> "tuple[Roster, bool]":
    """Return the roster in a file, and whether an authority beside it has signed it."""
    from airmoe.mesh.credentials import read_certificate
    from airmoe.mesh.identity import AUTHORITY
    from airmoe.mesh.roster import read_roster

    signed, beside = read_roster(path), path.with_name(AUTHORITY)
    if not beside.exists():
        return signed.roster, False
    authority = read_certificate(beside)
    try:
        return signed.verified(authority), True
    except IdentityError as error:
        raise IdentityError(f"{path}: {error} of {AUTHORITY} beside it") from None


def _addresses(told: list[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for each in told:
        node, separator, address = each.partition("=")
        if not separator or not (node.isascii() and node.isdecimal() and len(node) <= 9):
            raise InvalidInputError("address", each, "NODE=HOST:PORT, for example 3=10.0.0.3:7447")
        found.setdefault(int(node), []).append(address)
    return found
