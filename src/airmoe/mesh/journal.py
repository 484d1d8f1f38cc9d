"""What an authority did, a line for each: the certificates that it issued, and whom it left out.

Whoever was left out of the roster has a key whose certificate may still hold. So this is remembered.
"""

import datetime
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from airmoe.errors import IdentityError
from airmoe.files import read_regular, replaced_file
from airmoe.mesh.credentials import common_name
from airmoe.mesh.roster import node_named


class Issued(NamedTuple):
    """A certificate that an authority issued.

    Attributes:
        node: whose it is.
        serial: of the certificate, in hex.
        begins, ends: the first and the last second that it holds, in UTC.
    """

    node: int
    serial: str
    begins: datetime.datetime
    ends: datetime.datetime


class LeftOut(NamedTuple):
    """A node that was left out of the roster.

    Attributes:
        node: which.
        when: in UTC.
    """

    node: int
    when: datetime.datetime


class Journal:
    """The lines of a file, which grows.

    What a crash left of a last line is no line: nothing was handed out before its line was whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def issued(self) -> list[Issued]:
        """Return the certificates, in the order in which they were issued."""
        return [each for each in self._entries() if isinstance(each, Issued)]

    def left_out(self) -> dict[int, datetime.datetime]:
        """Return the nodes that were ever left out, and when that was the last time."""
        return {each.node: each.when for each in self._entries() if isinstance(each, LeftOut)}

    @contextmanager
    def noted(
        self, certificates: Collection[x509.Certificate] = (), out: Collection[int] = ()
    ) -> Iterator[None]:
        """Note certificates, and nodes that are left out. The lines are taken back if the block fails."""
        when = datetime.datetime.now(datetime.UTC).isoformat()
        records = [_record_of(certificate) for certificate in certificates]
        records += [{"node": node, "left_out": when} for node in out]
        before = self._whole()
        lines = "".join(json.dumps(record) + "\n" for record in records)
        if lines:
            with replaced_file(self._path, 0o600) as temporary:
                temporary.write_bytes(before + lines.encode())
        try:
            yield
        except BaseException:
            if lines:
                with suppress(OSError):
                    os.truncate(self._path, len(before))
            raise

    def _whole(self) -> bytes:
        """Return the lines that are whole, each with its end."""
        try:
            data = read_regular(self._path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise IdentityError(f"cannot read {self._path}: {error.strerror}") from None
        lines, newline, last = data.rpartition(b"\n")
        with suppress(ValueError, RecursionError):
            json.loads(last)
            return data + b"\n"  # an editor left the end out
        return lines + newline

    def _entries(self) -> Iterator[Issued | LeftOut]:
        for number, line in enumerate(self._whole().splitlines(), 1):
            try:
                yield _entry_of(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                where = f"{self._path}, line {number} is damaged: {type(error).__name__}: {error}"
                raise IdentityError(
                    f"{where}; expected what airmoe wrote there, or the file of a copy"
                ) from None


def _record_of(certificate: x509.Certificate) -> dict[str, object]:
    return {
        "node": node_named(common_name(certificate)),
        "serial": f"{certificate.serial_number:x}",
        "begins": certificate.not_valid_before_utc.isoformat(),
        "ends": certificate.not_valid_after_utc.isoformat(),
    }


def _entry_of(record: dict[str, str]) -> Issued | LeftOut:
    node, when = int(record["node"]), datetime.datetime.fromisoformat
    if "left_out" in record:
        return LeftOut(node, when(record["left_out"]))
    return Issued(node, str(record["serial"]), when(record["begins"]), when(record["ends"]))
