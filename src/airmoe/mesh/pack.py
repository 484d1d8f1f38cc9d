"""A client's folder in one file, with everything that a box needs: manifest, networks and identity.

A pack is a ZIP file without compression. It has a private key, so its owner alone can read it. It is unpacked
beside itself, once.
"""

import hashlib
import zipfile
from pathlib import Path

from airmoe.errors import IdentityError, InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path, replaced_file
from airmoe.manifest import MANIFEST, read_manifest
from airmoe.mesh.identity import AUTHORITY, CERTIFICATE, IDENTITY, KEY, ROSTER, read_identity
from airmoe.newfolder import new_folder
from airmoe.runfolder import checked_file

SUFFIX = ".airmoe"

MOST_PACK_BYTES = 8 << 30
"""The size of the largest pack that is unpacked."""

MOST_PACK_FILES = 1 << 17

_OF_IDENTITY = [f"{IDENTITY}/{name}" for name in (CERTIFICATE, KEY, AUTHORITY, ROSTER)]


def pack(client_folder: AnyPath, out: AnyPath) -> Path:
    """Write a client's folder into one file, and return its path.

    Args:
        client_folder: ``clients/<id>`` with an identity of an authority in it.
        out: the file to make, named ``*.airmoe``.

    Raises:
        RunFolderError: a file of the folder is missing or damaged.
        IdentityError: it has no identity, or one that is not right.
        InvalidInputError: ``out`` exists, or has another name.
    """
    folder, target = as_path(client_folder), as_path(out)
    if target.suffix != SUFFIX:
        raise InvalidInputError("out", str(target), f"a name that ends in {SUFFIX}")
    if target.exists():
        raise InvalidInputError("out", str(target), "a file that does not exist yet")
    manifest = read_manifest(folder)
    if not (folder / IDENTITY).is_dir():
        expected = f"{folder / IDENTITY}, which `airmoe cert issue` makes"
        raise IdentityError(f"{folder} has no identity that holds elsewhere; expected {expected}")
    read_identity(folder / IDENTITY).refuse_other(manifest)
    for name in manifest.files:
        checked_file(folder, manifest, name)
    with replaced_file(target, 0o600) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in [MANIFEST, *manifest.files, *_OF_IDENTITY]:
            archive.write(folder / name, name)
    return target


def unpacked(path: AnyPath) -> Path:
    """Return the folder of a pack, which is unpacked beside it where it was not before.

    What changes there later, a renewed certificate or a newer roster, stays. Its name has a part of the
    pack's hash, so another pack of the same name gets a folder of its own.

    Raises:
        RunFolderError: it is no pack, is damaged, or has other files than a client's folder.
    """
    file = as_path(path)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = file.with_name(f"{file.stem}-{digest[:12]}")
    if folder.is_dir():
        return folder
    try:
        with zipfile.ZipFile(file) as archive, new_folder(folder) as made:
            made.chmod(0o700)
            _extract(archive, made, file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise RunFolderError(f"{file} is no pack, or is damaged: {error}") from None
    except InvalidInputError:
        if not folder.is_dir():  # another process has unpacked it
            raise
    return folder


def _extract(archive: zipfile.ZipFile, made: Path, file: Path) -> None:
    members = {info.filename: info for info in archive.infolist()}
    size = sum(info.file_size for info in members.values())
    if len(archive.infolist()) != len(members) or len(members) > MOST_PACK_FILES or size > MOST_PACK_BYTES:
        raise RunFolderError(f"{file} has {len(archive.infolist())} files of {size} bytes; expected a pack")
    if MANIFEST not in members:
        raise RunFolderError(f"{file} has no {MANIFEST}; expected a pack that `airmoe pack` made")
    (made / IDENTITY).mkdir(mode=0o700)
    (made / MANIFEST).write_bytes(archive.read(MANIFEST))
    manifest = read_manifest(made)  # which names plain files alone
    names = [MANIFEST, *manifest.files, *_OF_IDENTITY]
    if sorted(set(names)) != sorted(members):
        strange = sorted(set(names) ^ members.keys())
        raise RunFolderError(f"{file} has other files than its manifest says: {', '.join(strange[:5])}")
    for name in names[1:]:
        with archive.open(members[name]) as read, (made / name).open("wb") as written:
            (made / name).chmod(0o600 if name == f"{IDENTITY}/{KEY}" else 0o644)
            while part := read.read(1 << 20):
                written.write(part)
    for name in manifest.files:
        checked_file(made, manifest, name)
