"""Download of an archive whose hash is known, and extraction of known files from it."""

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from pathlib import Path

from airmoe.errors import DataError
from airmoe.progress import Progress

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 18


def download(
    url: str, target: Path, *, sha256: str | None = None, max_bytes: int, progress: Progress
) -> None:
    """Download ``url`` to ``target``; the caller discards ``target`` if this raises.

    Args:
        url: the address to fetch.
        target: the file to write.
        sha256: the expected hash of the whole content, in hexadecimal; None where the caller checks it.
        max_bytes: the size beyond which the download stops.
        progress: told the bytes so far and in all; 0 in all if that is not known.

    Raises:
        DataError: the server cannot be reached, answers with an error, breaks off, or sends other content.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, target.open("wb") as file:
            total = response.length or 0
            while chunk := response.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > max_bytes:
                    raise DataError(
                        f"{url} cannot be downloaded: it is larger than the expected {max_bytes} bytes"
                    )
                digest.update(chunk)
                file.write(chunk)
                progress("download", done, total)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise DataError(f"{url} cannot be downloaded: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url} cannot be downloaded: {error}") from error
    if done < total:
        raise DataError(f"{url} cannot be downloaded: the connection broke off after {done} of {total} bytes")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise DataError(f"{url} has SHA-256 {digest.hexdigest()}; expected {sha256}")


def extract(archive: Path, max_bytes_of_member: Mapping[str, int], folder: Path) -> None:
    """Copy named regular files out of a tar.gz archive into ``folder``, without their folders.

    The caller's names alone decide where files are written. Links, absolute paths and ``..`` in the archive
    have no effect. (Python before 3.11.4 lacks tarfile's "data" filter.)

    Args:
        archive: the tar.gz file.
        max_bytes_of_member: the members to copy, each with its largest allowed size.
        folder: an existing folder.

    Raises:
        DataError: the archive is damaged, or a member is missing, too large or not a regular file.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = {member.name: member for member in tar}
            for name, max_bytes in max_bytes_of_member.items():
                member = members.get(name)
                if member is None or not member.isreg() or member.size > max_bytes:
                    raise DataError(
                        f"{archive.name}: {name} is not a regular file of at most {max_bytes} bytes"
                    )
                source = tar.extractfile(member)
                assert source is not None  # a regular file has a source
                with source, (folder / Path(name).name).open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive.name}: cannot be unpacked ({error})") from error
