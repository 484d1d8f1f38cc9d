"""A client's folder in one file, with everything that a box needs: manifest, networks and identity.

A pack is a ZIP file without compression. It has a private key, so its owner alone can read it. It is unpacked
beside itself, once.
"""

import errno
import hashlib
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airmoe.errors import IdentityError, InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path, named_in_errors, replaced_file, write_secret, write_whole
from airmoe.manifest import MANIFEST, read_manifest
from airmoe.mesh.identity import AUTHORITY, CERTIFICATE, IDENTITY, KEY, ROSTER, read_identity
from airmoe.mesh.roster import MOST_BYTES
from airmoe.newfolder import new_folder
from airmoe.runfolder import checked_file

SUFFIX = ".airmoe"

MOST_PACK_BYTES = 8 << 30
"""The size of the largest pack that is unpacked."""

MOST_PACK_FILES = 1 << 17

MOST_MANIFEST_BYTES = 8 << 20
"""The size of the largest manifest in a pack, which is read whole."""

_ENCRYPTED = 1

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
    names = [MANIFEST, *manifest.files, *_OF_IDENTITY]
    sizes = {name: (folder / name).stat().st_size for name in names}
    _refuse_sizes(sizes, folder)
    with (
        replaced_file(target, 0o600) as temporary,
        # A file of a clock that begins in 1970 gets the first date that a ZIP file knows.
        zipfile.ZipFile(temporary, "w", strict_timestamps=False) as archive,
    ):
        for name in names:
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
    if not file.is_file():
        raise RunFolderError(f"{file} is no file; expected a pack that `airmoe pack` made")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = file.with_name(f"{file.stem}-{digest[:12]}")
    if folder.is_dir():
        return folder
    try:
        with new_folder(folder) as made:
            made.chmod(0o700)
            with _named(file, made), zipfile.ZipFile(file) as archive:
                _extract(archive, made, file)
    except InvalidInputError:
        if not folder.is_dir():  # another process has unpacked it
            raise
    return folder


@contextmanager
def _named(file: Path, made: Path) -> Iterator[None]:
    """Let whatever is wrong with a pack be an error that names it, and files as they are called in it."""
    try:
        yield
    except (RunFolderError, IdentityError) as error:
        said = str(error).replace(f"{made}{os.sep}", "")
        raise RunFolderError(said if str(file) in said else f"{file}: {said}") from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a place outside the file, for example
            raise RunFolderError(f"{file} is no pack, or is damaged: {error}") from None
        error.filename = error.filename or str(file)
        raise
    except (
        *(zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError),
        *(ValueError, OverflowError, struct.error),
    ) as error:
        raise RunFolderError(f"{file} is no pack, or is damaged: {error}") from None


def _refuse_sizes(sizes: Mapping[str, int], called: Path) -> None:
    """Refuse what no pack has: too many files, or too large ones."""
    if len(sizes) > MOST_PACK_FILES or sum(sizes.values()) > MOST_PACK_BYTES:
        size, expected = sum(sizes.values()), f"at most {MOST_PACK_FILES} of {MOST_PACK_BYTES} in a pack"
        raise RunFolderError(f"{called} has {len(sizes)} files of {size} bytes; expected {expected}")
    for name, size in sizes.items():
        most = MOST_MANIFEST_BYTES if name == MANIFEST else MOST_BYTES if name in _OF_IDENTITY else size
        if size > most:
            raise RunFolderError(f"{called} has {size} bytes of {name}; expected at most {most}")


def _extract(archive: zipfile.ZipFile, made: Path, file: Path) -> None:
    members = {info.filename: info for info in archive.infolist()}
    if len(archive.infolist()) != len(members):
        raise RunFolderError(f"{file} has files of the same name; expected a pack")
    _refuse_sizes({name: info.file_size for name, info in members.items()}, file)
    for name, info in members.items():
        is_plain = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not is_plain or info.flag_bits & _ENCRYPTED:
            raise RunFolderError(
                f"{file} has {name!r} compressed or encrypted; expected a pack, which has none"
            )
    if MANIFEST not in members:
        raise RunFolderError(f"{file} has no {MANIFEST}; expected a pack that `airmoe pack` made")
    (made / IDENTITY).mkdir(mode=0o700)
    write_whole(made / MANIFEST, archive.read(MANIFEST))
    manifest = read_manifest(made)  # which names plain files alone
    names = [MANIFEST, *manifest.files, *_OF_IDENTITY]
    if sorted(set(names)) != sorted(members):
        strange = sorted(set(names) ^ members.keys())
        raise RunFolderError(f"{file} has other files than its manifest says: {', '.join(strange[:5])}")
    for name in _OF_IDENTITY:
        write = write_secret if name == f"{IDENTITY}/{KEY}" else write_whole
        write(made / name, archive.read(name))
    for name in manifest.files:
        with (
            named_in_errors(made / name),
            archive.open(members[name]) as read,
            (made / name).open("wb") as written,
        ):
            while part := read.read(1 << 20):
                written.write(part)
        checked_file(made, manifest, name)
