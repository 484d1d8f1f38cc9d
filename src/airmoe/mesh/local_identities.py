"""The identity that a client's folder brings along, and those of a run whose nodes all live on this machine.

Whoever may write into a run may have its nodes served from here. So identities for this machine are made
where they are needed, by an authority that is written nowhere. They hold for a run alone, for years, and do
not leave with a client's folder: for other machines, identities are issued (``airmoe cert issue``).
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from airmoe.errors import IdentityError, InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path
from airmoe.locks import sole_writer
from airmoe.manifest import Manifest, read_manifest
from airmoe.mesh.authority import AUTHORITY_DAYS, passing_authority
from airmoe.mesh.identity import IDENTITIES, IDENTITY, Identity, read_identity, write_identity
from airmoe.mesh.roster import Member, Roster, members_of

MAKING_S, LOOK_S = 20.0, 0.1
"""How long another process may take to make them, and how often it is looked whether it has."""


def identity_of(client_folder: AnyPath) -> Identity | None:
    """Return the identity in a client's folder, or that of its run for this machine; None if there is none.

    Raises:
        IdentityError: there is one, and it is damaged, does not hold now, or is another node's.
    """
    client_folder = as_path(client_folder)
    for folder in (client_folder / IDENTITY, _local(client_folder)):
        if folder.is_dir():
            identity = read_identity(folder)
            identity.refuse_other(read_manifest(client_folder))
            return identity
    return None


def local_identity(client_folder: AnyPath) -> Identity:
    """Return `identity_of` a client's folder; where there is none, make those of its run for this machine.

    Raises:
        IdentityError: as `identity_of`, or the folder is not in a run.
        OSError: the run cannot be written to.
    """
    client_folder = as_path(client_folder)
    if (client_folder / IDENTITY).is_dir():
        identity = identity_of(client_folder)
        assert identity is not None  # see the line above
        return identity
    manifest = read_manifest(client_folder)
    if (found := _that_holds(client_folder, manifest)) is not None:
        return found
    clients = client_folder.absolute().parent
    if clients.name != "clients":
        raise IdentityError(
            f"{client_folder} has no identity, and is in no run whose nodes this machine could know; "
            f"expected {client_folder / IDENTITY}, which `airmoe cert issue` makes"
        )
    end_s = time.monotonic() + MAKING_S
    while True:
        try:
            _make(clients.parent, client_folder, manifest)
            break
        except InvalidInputError:  # another process makes them
            if time.monotonic() > end_s:
                raise
            time.sleep(LOOK_S)
    identity = read_identity(_local(client_folder))
    identity.refuse_other(manifest)
    return identity


def forget_local_identities(run: Path) -> None:
    """Remove the identities of a run for this machine, with their keys; whoever needs some makes others."""
    shutil.rmtree(run / IDENTITIES, ignore_errors=True)


def _that_holds(client_folder: Path, manifest: Manifest) -> Identity | None:
    """Return the identity of a client for this machine, if it is right, roster and all."""
    with suppress(IdentityError):
        identity = read_identity(_local(client_folder))
        identity.refuse_other(manifest)
        is_right = not identity.holds_elsewhere and identity.roster.members == _members(manifest)
        return identity if is_right else None
    return None


def _members(manifest: Manifest) -> list[Member]:
    """Return all nodes of a model; on one machine any may schedule."""
    return [member.model_copy(update={"schedules": True}) for member in members_of(manifest)]


def _local(client_folder: Path) -> Path:
    absolute = client_folder.absolute()
    return absolute.parent.parent / IDENTITIES / absolute.name


def _make(run: Path, client_folder: Path, manifest: Manifest) -> None:
    target = run / IDENTITIES
    with sole_writer(target):
        if _that_holds(client_folder, manifest) is not None:  # another process has made them since
            return
        authority = passing_authority()
        roster = authority.sign(Roster(mesh=manifest.mesh, number=1, members=_members(manifest)))
        aside = target.with_name(f".{IDENTITIES}.making")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        try:
            for client in sorted((run / "clients").iterdir()):
                with suppress(RunFolderError):  # one that is damaged cannot serve, and the others can
                    node = read_manifest(client).node
                    write_identity(aside / client.name, authority, node, roster, AUTHORITY_DAYS)
            (aside / ".gitignore").write_text("*\n", encoding="utf-8")  # keys are nobody else's
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
