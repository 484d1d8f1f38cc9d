"""``airmoe flower``: federated training across machines. What a command needs is imported there."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.bare import explain
from airmoe.cli.console import tell
from airmoe.cli.paths import expanded
from airmoe.cli.training import DataDir
from airmoe.errors import InvalidInputError, require

if TYPE_CHECKING:
    from airmoe.mesh.identity import Identity

NEEDS = "flwr", "cryptography", "torch"

SERVER, CLIENT = "airmoe.networked.flower:server", "airmoe.networked.flower:client"

flower = typer.Typer(
    callback=explain,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Train across machines: a SuperLink that closes its interfaces, and nodes that keep their data.",
)

Keys = Annotated[Path, typer.Option(callback=expanded, help="Folder that `airmoe flower keys` made.")]
Authority = Annotated[Path, typer.Option(callback=expanded, help="authority.crt of the SuperLink's owner.")]
SuperLink = Annotated[str, typer.Option(help="HOST:PORT of the SuperLink.")]
IdentityFolder = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        callback=expanded,
        help="Identity in the mesh, as airmoe cert makes it, in place of keys. [identity/ in --folder, where "
        "no keys are given]",
    ),
]
ClientNumber = Annotated[int, typer.Option(min=0, help="Number of the client, from 0.")]


@flower.command()
def keys(
    folder: Annotated[Path, typer.Argument(callback=expanded, help="Folder to make.")],
    host: Annotated[
        list[str], typer.Option(help="Name or address of the SuperLink's machine. May be repeated.")
    ] = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Make the certificates and secrets of a SuperLink."""
    require("flower", *NEEDS)
    from airmoe.federated.flower.keys import make_keys

    make_keys(folder, host)
    tell(f"made {folder}: give authority.crt to every node, and nothing else of it to anybody")


@flower.command("node-key")
def node_key(
    path: Annotated[
        Path, typer.Argument(callback=expanded, help="File to make; the public half is PATH.pub.")
    ],
) -> None:
    """Make the key of a node, at the node: it never leaves it."""
    require("flower", *NEEDS)
    from airmoe.federated.flower.keys import make_node_key

    tell(f"made {path}; send {make_node_key(path)} to the owner of the SuperLink")


@flower.command()
def superlink(
    folder: Annotated[
        Path, typer.Option(callback=expanded, help="Where it keeps which nodes are registered.")
    ],
    keys: Annotated[
        Path | None, typer.Option(callback=expanded, help="Folder that `airmoe flower keys` made.")
    ] = None,
    identity: IdentityFolder = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen at. [127.0.0.1; with an identity, the first that its certificate names]"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 9092,
) -> None:
    """Run the SuperLink, until Ctrl-C.

    With an identity, members of the mesh's roster may come as nodes, by their certificates, and nobody else.
    """
    require("flower", *NEEDS)
    from airmoe.federated.flower.shown import named_hosts, shown_by_identity, shown_by_keys
    from airmoe.federated.flower.superlink import run_superlink

    if keys is None:
        member = _member(identity, folder, "--keys")
        at = host or named_hosts(member.certificate())[0]
        shown, count = shown_by_identity(member, folder, at), len(member.roster.members)
        who = (
            f"as {member.name}; the {count} members of roster {member.roster.number} may come; "
            f"the certificate holds until {member.ends:%Y-%m-%d}"
        )
    else:
        _refuse_beside(identity, "--keys")
        at = host or "127.0.0.1"
        shown, who = shown_by_keys(keys, at), "nodes may come whose keys are registered"
    run_superlink(shown, folder, at, port, lambda: tell(f"listens at {at}:{port}, until Ctrl-C: {who}"))


def _member(identity: Path | None, folder: Path, otherwise: str) -> "Identity":
    """Return who a machine is on its mesh.

    Raises:
        InvalidInputError: neither an identity nor keys are given, and there is none in the folder.
        IdentityError: as `read_identity`.
    """
    from airmoe.mesh.identity import IDENTITY, read_identity

    place = folder / IDENTITY if identity is None else identity
    if identity is None and not place.is_dir():
        expected = f"one with {IDENTITY}/ in it, or --identity, or {otherwise}"
        raise InvalidInputError("folder", str(folder), expected)
    return read_identity(place)


def _refuse_beside(identity: Path | None, option: str) -> None:
    if identity is not None:
        raise InvalidInputError("identity", str(identity), f"none beside {option}")


@flower.command()
def register(
    public_key: Annotated[Path, typer.Argument(callback=expanded, help="The .pub of a node's key.")],
    client: ClientNumber,
    keys: Keys,
    superlink: SuperLink = "127.0.0.1:9092",
) -> None:
    """Let the SuperLink know the key of a node."""
    require("flower", *NEEDS)
    from airmoe.federated.flower.connection import register_node
    from airmoe.federated.flower.keys import AUTHORITY, TOKEN, read_secret

    register_node(superlink, keys / f"{AUTHORITY}.crt", read_secret(keys / TOKEN), public_key, client)
    tell(f"registered client {client}")


@flower.command()
def node(
    superlink: SuperLink,
    folder: Annotated[
        Path,
        typer.Option(callback=expanded, help="Where this node keeps its states and its expert; its own."),
    ],
    identity: IdentityFolder = None,
    client: Annotated[
        int | None,
        typer.Option(min=0, help="Number of the client, from 0. [with an identity, that of its node]"),
    ] = None,
    authority: Annotated[
        Path | None, typer.Option(callback=expanded, help="authority.crt of the SuperLink's owner.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(callback=expanded, help="What `airmoe flower node-key` made.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="This node's own images, such as folder:PATH. [its part of the run's images, if it has them]"
        ),
    ] = None,
    data_dir: DataDir = None,
    only_secure_sums: Annotated[
        bool,
        typer.Option("--only-secure-sums", help="Take part in no run whose settings turn secure sums off."),
    ] = False,
    participant: Annotated[
        str | None,
        typer.Option(
            help="module:function that makes what takes part in a run; without it, the networked method does."
        ),
    ] = None,
) -> None:
    """Run the node of a client, until Ctrl-C."""
    require("flower", *NEEDS)
    from airmoe.federated.flower.resident import NodeFiles, files_of, participant_named, run_node

    if authority is None and key is None and client is None:
        member = _member(identity, folder, "--authority, --key and --client")
        files, client = files_of(member), member.node
    elif authority is None or key is None or client is None:
        given = {"--authority": authority, "--key": key, "--client": client}
        _refuse_beside(identity, next(name for name, value in given.items() if value is not None))
        missing = [name for name, value in given.items() if value is None]
        expected = "a value: --authority, --key and --client go together, and an identity needs none of them"
        raise InvalidInputError(missing[0], None, expected)
    else:
        _refuse_beside(identity, "--authority, --key and --client")
        files = NodeFiles(authority, key)
    if participant is not None:
        if data is not None or data_dir is not None:
            raise InvalidInputError("data", data or str(data_dir), "none beside --participant")
        if only_secure_sums:
            raise InvalidInputError("--only-secure-sums", True, "not beside --participant")
        takes_part = participant_named(participant)
    else:
        from airmoe.networked.node_apart import NodeApart

        takes_part = partial(NodeApart, data=data, data_dir=data_dir, only_secure_sums=only_secure_sums)
    run_node(superlink, files, client, folder, takes_part)


@flower.command()
def app(
    folder: Annotated[Path, typer.Argument(callback=expanded, help="Folder to make.")],
    keys: Keys,
    superlink: SuperLink = "127.0.0.1:9092",
) -> None:
    """Make the two folders that `flwr run` wants: FOLDER/app, and FOLDER/home for FLWR_HOME."""
    require("flower", *NEEDS)
    from airmoe.federated.flower.app import write_app
    from airmoe.federated.flower.connection import write_connection
    from airmoe.federated.flower.keys import AUTHORITY, TOKEN, read_secret
    from airmoe.networked.flower import SETTINGS

    write_app(folder / "app", SERVER, CLIENT, SETTINGS)
    write_connection(folder / "home", superlink, keys / f"{AUTHORITY}.crt", read_secret(keys / TOKEN))
    told = """--stream --run-config 'config="PATH.toml" out="RUN FOLDER"'"""
    tell(f"made {folder}; train with: FLWR_HOME={folder / 'home'} flwr run {folder / 'app'} {told}")
