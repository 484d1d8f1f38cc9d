"""``airmoe flower`` with an identity or with keys: one of the two, and what is wrong is said in one line."""

from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs airmoe[flower]")

from airmoe.mesh.adding import add_nodes
from airmoe.mesh.authority import make_authority
from tests.system.commands import ended_in_fork

NODE = "flower", "node", "--superlink", "127.0.0.1:9092", "--folder", "nodes/00"
SUPERLINK = "flower", "superlink", "--folder", "nodes/00"
IDENTITY = "--identity", "nodes/01/identity"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, two nodes of it, and one of another authority."""
    place = tmp_path_factory.mktemp("flower")
    add_nodes(make_authority(place / "authority"), place / "nodes", [0, 1])
    add_nodes(make_authority(place / "other"), place / "others", [0])
    (place / "mixed").mkdir()
    for name, files in (("node.pem", "others"), ("node.key", "others"), ("authority.pem", "nodes")):
        (place / "mixed" / name).write_bytes((place / files / "00" / "identity" / name).read_bytes())
    (place / "mixed" / "node.key").chmod(0o600)
    return place


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*NODE[:-1], "new"), "folder is 'new'; expected one with identity/ in it, or --identity, or --auth"),
        ((*NODE, "--client", "1"), "--authority is None; expected a value: --authority, --key and --client"),
        ((*NODE, *IDENTITY, "--client", "1"), "expected none beside --client"),
        ((*NODE, *IDENTITY, "--authority", "a", "--key", "k", "--client", "1"), "expected none beside --au"),
        ((*NODE, "--identity", "mixed"), "node.pem was not issued by the authority of authority.pem"),
        ((*NODE[:3], "nowhere", *NODE[4:]), "address is 'nowhere'; expected HOST:PORT"),
        ((*SUPERLINK, *IDENTITY, "--keys", "keys"), "expected none beside --keys"),
        (
            (*SUPERLINK[:-1], "new"),
            "folder is 'new'; expected one with identity/ in it, or --identity, or --k",
        ),
        (SUPERLINK, "names no address under which nodes could reach a SuperLink"),
    ],
    ids=lambda each: "" if isinstance(each, str) else each[-1],
)
def test_what_does_not_fit_is_refused_in_a_line(place: Path, words: tuple[str, ...], told: str) -> None:
    done = ended_in_fork(*words, cwd=place)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, told in line) == (2, True), line
    assert not (place / "new").exists()
    assert not (place / "nodes" / "00" / "keys").exists()
