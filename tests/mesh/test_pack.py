"""A pack has all of a client's folder and nothing else; a damaged or strange one leaves nothing."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.errors import IdentityError, InvalidInputError, RunFolderError
from airmoe.manifest import read_manifest
from airmoe.mesh.identity import IDENTITY, KEY, read_identity
from airmoe.mesh.pack import pack, unpacked
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
