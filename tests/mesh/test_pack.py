"""A pack has all of a client's folder and nothing else; a damaged or strange one leaves nothing."""

import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.errors import IdentityError, InvalidInputError, RunFolderError
from airmoe.manifest import read_manifest
from airmoe.mesh.identity import IDENTITY, KEY, read_identity
from airmoe.mesh.pack import MOST_MANIFEST_BYTES, pack, unpacked
from tests.mesh.identities import IssuedRun, issued_run
from tests.system.commands import ended_in_fork


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> IssuedRun:
    return issued_run(run_folder, tmp_path_factory.mktemp("issued"))


@pytest.fixture
def packed(run: IssuedRun, tmp_path: Path) -> Path:
    return pack(run.folders[1], tmp_path / "box.airmoe")


def test_what_is_unpacked_is_the_client_s_folder(run: IssuedRun, packed: Path) -> None:
    assert packed.stat().st_mode & 0o777 == 0o600
    folder = unpacked(packed)
    assert folder.parent == packed.parent
    assert read_manifest(folder) == read_manifest(run.folders[1])
    assert read_identity(folder / IDENTITY).node == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / IDENTITY / KEY).stat().st_mode & 0o777 == 0o600
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in names:
        assert (folder / name).read_bytes() == (run.folders[1] / name).read_bytes()
    assert names == {"manifest.json", *read_manifest(folder).files} | {
        f"identity/{name}" for name in ("node.pem", "node.key", "authority.pem", "roster.json")
    }


def test_it_is_unpacked_once_and_what_changed_there_stays(packed: Path) -> None:
    folder = unpacked(packed)
    (folder / "note.txt").write_text("a newer roster, for example")
    assert unpacked(packed) == folder
    assert (folder / "note.txt").exists()


def test_another_pack_of_the_same_name_gets_a_folder_of_its_own(run: IssuedRun, packed: Path) -> None:
    first = unpacked(packed)
    packed.unlink()
    second = unpacked(pack(run.folders[2], packed))
    assert second != first
    assert (read_manifest(first).node, read_manifest(second).node) == (1, 2)


def test_what_cannot_serve_elsewhere_is_not_packed(run: IssuedRun, own_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="has no identity that holds elsewhere"):
        pack(own_copy, tmp_path / "box.airmoe")
    with pytest.raises(InvalidInputError, match=r"a name that ends in \.airmoe"):
        pack(run.folders[1], tmp_path / "box.zip")
    (tmp_path / "there.airmoe").touch()
    with pytest.raises(InvalidInputError, match="a file that does not exist yet"):
        pack(run.folders[1], tmp_path / "there.airmoe")
    broken = Path(shutil.copytree(run.folders[1], tmp_path / "broken"))
    name = read_manifest(broken).files[0]
    (broken / name).write_bytes(b"other weights")
    with pytest.raises(RunFolderError, match="is damaged: SHA-256"):
        pack(broken, tmp_path / "box.airmoe")
    assert not (tmp_path / "box.airmoe").exists()


def with_another(name: str) -> Callable[[Path], None]:
    def add(file: Path) -> None:
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, b"strange")

    return add


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_manifest(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other", b"")


def changed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (with_another("../outside.txt"), "has other files than its manifest says: ../outside.txt"),
        (with_another("/tmp/outside.txt"), "has other files than its manifest says"),
        (with_another("identity/more.pem"), "has other files than its manifest says: identity/more.pem"),
        (with_another("manifest.json"), "expected a pack"),
        (cut, "is no pack, or is damaged"),
        (without_manifest, "has no manifest.json; expected a pack that `airmoe pack` made"),
        (changed, "is no pack, or is damaged"),
        (lambda file: file.write_bytes(b""), "is no pack, or is damaged"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_pack_that_is_not_right_is_refused_and_leaves_nothing(
    spoil: Callable[[Path], None], said: str, packed: Path
) -> None:
    spoil(packed)
    with pytest.raises(RunFolderError, match=said):
        unpacked(packed)
    assert [path.name for path in packed.parent.iterdir()] == ["box.airmoe"]
    assert not (packed.parent.parent / "outside.txt").exists()


def test_the_command_packs_and_other_commands_take_a_pack(run: IssuedRun, tmp_path: Path) -> None:
    told = ended_in_fork("pack", run.folders[1], "box.airmoe", cwd=tmp_path)
    assert "made box.airmoe" in told.stdout
    assert "it has a private key: bring it to its box alone" in told.stdout
    status = ended_in_fork("status", "box.airmoe", "--timeout-s", 0.2, cwd=tmp_path)
    assert status.returncode == 1
    assert status.stdout.splitlines()[-1].startswith("mutual TLS as node-1, one of 4")
    assert [path.name for path in tmp_path.glob("box-*")] == [unpacked(tmp_path / "box.airmoe").name]


def test_a_file_from_before_1980_is_packed(own_identity: Path, tmp_path: Path) -> None:
    name = read_manifest(own_identity).files[0]
    os.utime(own_identity / name, (0, 0))
    folder = unpacked(pack(own_identity, tmp_path / "box.airmoe"))
    assert (folder / name).read_bytes() == (own_identity / name).read_bytes()


@pytest.fixture
def own_identity(run: IssuedRun, tmp_path: Path) -> Path:
    """A copy of a client's folder with its identity, which a test may spoil."""
    return Path(shutil.copytree(run.folders[1], tmp_path / "own"))


def test_what_could_not_be_unpacked_is_not_packed(own_identity: Path, tmp_path: Path) -> None:
    text = (own_identity / "manifest.json").read_text()
    (own_identity / "manifest.json").write_text(text + " " * MOST_MANIFEST_BYTES)
    with pytest.raises(
        RunFolderError, match=f"own has .* bytes of manifest.json; expected at most {MOST_MANIFEST_BYTES}"
    ):
        pack(own_identity, tmp_path / "box.airmoe")
    assert not (tmp_path / "box.airmoe").exists()


def packed_anew(file: Path, method: int, last: tuple[str, bytes] | None = None) -> None:
    """Pack the same files by a method, perhaps with one more, or another one in the place of one."""
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files |= dict([last] if last else [])
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def compressed(method: int) -> Callable[[Path], None]:
    """Compressed, and damaged in the middle, where the networks are."""

    def spoil(file: Path) -> None:
        packed_anew(file, method)
        data = bytearray(file.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 40] = b"\xff" * 40
        file.write_bytes(data)

    return spoil


def with_bytes(old: bytes, new: bytes) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        data = file.read_bytes()
        assert old in data
        file.write_bytes(data.replace(old, new))

    return spoil


def with_a_name_that_is_no_utf8(file: Path) -> None:
    packed_anew(file, zipfile.ZIP_STORED, ("\N{EURO SIGN}", b""))
    with_bytes("\N{EURO SIGN}".encode(), b"\xff\xff\xff")(file)


def with_a_manifest_of_gigabytes(file: Path) -> None:
    packed_anew(file, zipfile.ZIP_DEFLATED, ("manifest.json", b" " * (MOST_MANIFEST_BYTES + 1)))


def with_a_place_outside_the_file(file: Path) -> None:
    """The list of files begins before the file does."""
    data = bytearray(file.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = b"\xff\xff\xff\x7f"
    file.write_bytes(data)


def with_a_longer_place_than_file(file: Path) -> None:
    """A stored file that says that it is short, and has a long place."""
    data = bytearray(file.read_bytes())
    begin = data.index(b"PK\x01\x02")
    data[begin + 20 : begin + 24] = b"\xff\xff\xff\x7e"
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (compressed(zipfile.ZIP_DEFLATED), "compressed or encrypted"),
        (compressed(zipfile.ZIP_BZIP2), "compressed or encrypted"),
        (compressed(zipfile.ZIP_LZMA), "compressed or encrypted"),
        (with_a_longer_place_than_file, "compressed or encrypted"),
        (with_a_name_that_is_no_utf8, "is no pack, or is damaged"),
        (with_a_manifest_of_gigabytes, f"at most {MOST_MANIFEST_BYTES}"),
        (with_a_place_outside_the_file, "is no pack, or is damaged"),
        (
            lambda file: packed_anew(file, zipfile.ZIP_STORED, ("manifest.json", b"{")),
            "manifest.json is damaged",
        ),
        (
            lambda file: packed_anew(file, zipfile.ZIP_STORED, ("identity/node.key", b"k" * (5 << 20))),
            "has 5242880 bytes of identity/node.key",
        ),
    ],
)
def test_whatever_is_wrong_with_a_pack_is_one_line_that_names_it(
    spoil: Callable[[Path], None], said: str, packed: Path
) -> None:
    spoil(packed)
    with pytest.raises(RunFolderError, match=said) as raised:
        unpacked(packed)
    assert str(packed) in str(raised.value)
    assert ".making" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in packed.parent.iterdir()] == ["box.airmoe"]


def test_a_full_disk_while_unpacking_is_named(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("airmoe.mesh.pack.write_secret", full)
    with pytest.raises(OSError, match="No space left") as raised:
        unpacked(packed)
    assert raised.value.filename == str(packed)


def test_what_is_no_file_is_no_pack(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.airmoe")
    with pytest.raises(RunFolderError, match=r"pipe\.airmoe is no file"):
        unpacked(tmp_path / "pipe.airmoe")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_key_is_its_owner_s_alone_from_the_first_moment(
    umask: int, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes, opened = list[int](), os.open

    def watched(path: str, flags: int, mode: int = 0o777, **more: int) -> int:
        descriptor = opened(path, flags, mode, **more)
        if str(path).endswith(KEY) and flags & os.O_CREAT:
            modes.append(os.fstat(descriptor).st_mode & 0o777)
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    before = os.umask(umask)
    try:
        folder = unpacked(packed)
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert (folder / IDENTITY / KEY).stat().st_mode & 0o777 == 0o600
