"""``airmoe cert`` and ``airmoe roster``: what they make, what they say, and what they refuse."""

import shutil
import subprocess
from pathlib import Path

import pytest

from airmoe.mesh.identity import IDENTITY, read_identity
from airmoe.runfolder import client_folders
from tests.system.commands import ended_in_fork


@pytest.fixture
def place(run_folder: Path, tmp_path: Path) -> Path:
    """A folder with a run in it, and an authority."""
    shutil.copytree(run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("identities"))
    assert at(tmp_path, "cert", "init", "authority").returncode == 0
    return tmp_path


def at(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return ended_in_fork(*words, cwd=place)


def refusal(place: Path, *words: str) -> str:
    """The one line of a command that is refused."""
    done = at(place, *words)
    assert (done.returncode, done.stdout) == (2, ""), done
    (line,) = done.stderr.splitlines()
    return line


def test_an_authority_issues_identities_lists_them_and_shows_the_roster(place: Path) -> None:
    issued = at(
        place, "cert", "issue", "authority", "run", "--address", "0=10.0.0.1:7447", "--schedules", "0"
    )
    assert issued.stdout.splitlines() == [
        "node-0: 1 expert, 10.0.0.1:7447, schedules",
        *(f"node-{node}: 1 expert, no address" for node in (1, 2, 3)),
        "roster 1 of mesh lab is in authority/roster.json",
    ]
    for node, folder in enumerate(client_folders(place / "run")):
        assert read_identity(folder / IDENTITY).node == node
    listed = at(place, "cert", "list", "authority").stdout.splitlines()
    assert len(listed) == 4
    assert all(line.endswith("holds for 30.0 days") for line in listed)
    for shown in ("authority", "run/clients/02", "authority/roster.json"):
        lines = at(place, "roster", "show", shown).stdout.splitlines()
        assert lines[0] == "roster 1 of mesh lab"
        assert lines[1] == "node-0: 10.0.0.1:7447; experts (layer/expert): 1/0; schedules"


def test_nodes_are_added_before_there_is_a_model_and_may_serve_it_later(place: Path) -> None:
    words = "cert", "add", "authority", "nodes", "--node", "0", "--node", "1", "--node", "2", "--node", "3"
    added = at(place, *words, "--address", "1=10.0.0.1:7447", "--days", "9")
    assert added.stdout.splitlines() == [
        "node-0: no address",
        "node-1: 10.0.0.1:7447",
        "node-2: no address",
        "node-3: no address",
        "roster 1 of mesh lab is in authority/roster.json",
    ]
    assert read_identity(place / "nodes" / "02" / IDENTITY).node == 2
    assert "expected one without 00 in it" in refusal(place, *words)
    other = "cert", "add", "authority", "b", "--node", "8", "--mesh", "other"
    assert "mesh is 'other'; expected that of the authority's roster, lab" in refusal(place, *other)
    served = at(place, "roster", "add", "authority", "run/clients/01")
    assert served.stdout == "roster 2 of mesh lab is in authority/roster.json; push it\n"
    shown = at(place, "roster", "show", "authority").stdout.splitlines()
    assert shown[2] == "node-1: 10.0.0.1:7447; experts (layer/expert): 1/1"
    assert "manifest.json" in refusal(place, "roster", "add", "authority", "nodes/00")
    at(place, "roster", "remove", "authority", "3")
    assert "expected --without 3" in refusal(place, "roster", "add", "authority", "run/clients/01")
    assert at(place, "roster", "add", "authority", "run/clients/01", "--without", "3").returncode == 0


def test_a_certificate_is_renewed_where_it_is(place: Path) -> None:
    at(place, "cert", "issue", "authority", "run", "--days", "2")
    folder = client_folders(place / "run")[1] / IDENTITY
    before = read_identity(folder)
    told = at(place, "cert", "renew", "authority", "run/clients/01", "--days", "20")
    assert told.stdout == "renewed run/clients/01/identity/node.pem\n"
    assert (read_identity(folder).ends - before.ends).days in (17, 18)


def test_a_node_is_removed_and_is_said_to_be_out(place: Path) -> None:
    at(place, "cert", "issue", "authority", "run")
    told = at(place, "roster", "remove", "authority", "3")
    assert told.stdout == "roster 2 without node-3 is in authority/roster.json; push it\n"
    assert "not in the roster" in at(place, "cert", "list", "authority").stdout.splitlines()[3]
    assert "node is 3; expected one of 0, 1, 2" in refusal(place, "roster", "remove", "authority", "3")


def test_a_removed_node_is_issued_nothing_unless_it_is_left_out(place: Path) -> None:
    issue = "cert", "issue", "authority", "run"
    at(place, *issue)
    at(place, "roster", "remove", "authority", "3")
    for folder in client_folders(place / "run"):
        shutil.rmtree(folder / IDENTITY)
    assert "node 3 was removed, and its certificate holds until" in refusal(place, *issue)
    told = at(place, *issue, "--without", "3")
    assert told.returncode == 0, told
    assert told.stdout.splitlines()[-2:] == [
        "node-2: 1 expert, no address",
        "roster 3 of mesh lab is in authority/roster.json",
    ]
    assert "not in the roster" in at(place, "cert", "list", "authority").stdout.splitlines()[3]


def test_a_roster_that_the_authority_beside_it_did_not_sign_is_not_shown(place: Path) -> None:
    at(place, "cert", "issue", "authority", "run")
    forged, alone = place / "run/clients/02/identity/roster.json", place / "roster.json"
    shutil.copy(forged, alone)
    shown = at(place, "roster", "show", "roster.json").stdout.splitlines()
    assert shown[0] == "roster 1 of mesh lab"
    assert shown[-1] == "its signature was not looked at: no authority.pem is beside roster.json"
    forged.write_text(forged.read_text().replace('"number": 1', '"number": 7'))
    for where in ("run/clients/02", "run/clients/02/identity/roster.json"):
        said = refusal(place, "roster", "show", where)
        assert said.endswith("the roster's signature is not that of the authority of authority.pem beside it")


def test_a_torn_line_of_the_journal_is_in_nobody_s_way(place: Path) -> None:
    at(place, "cert", "issue", "authority", "run")
    journal = place / "authority" / "issued.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    assert len(at(place, "cert", "list", "authority").stdout.splitlines()) == 3
    assert at(place, "cert", "renew", "authority", "run/clients/03").returncode == 0
    assert len(at(place, "cert", "list", "authority").stdout.splitlines()) == 4


def test_a_push_to_nobody_says_so(place: Path) -> None:
    at(place, "cert", "issue", "authority", "run")
    at(place, "roster", "remove", "authority", "3")
    pushed = at(place, "roster", "push", "run/clients/00", "authority", "--timeout-s", "0.5")
    assert pushed.returncode == 1
    assert pushed.stdout.splitlines() == [f"node-{node}: not reached" for node in range(3)]


def test_what_is_wrong_is_one_line(place: Path) -> None:
    assert "a folder that does not exist yet" in refusal(place, "cert", "init", "authority")
    assert "none has no authority.pem" in refusal(place, "cert", "issue", "none", "run")
    assert "expected NODE=HOST:PORT" in refusal(place, "cert", "issue", "authority", "run", "--address", "1")
    full_width = refusal(place, "cert", "issue", "authority", "run", "--address", "\uff13=10.0.0.1:1")
    assert "expected NODE=HOST:PORT" in full_width
    version_6 = refusal(place, "cert", "issue", "authority", "run", "--address", "1=[2001:db8::1]:7447")
    assert "expected an IPv4 address or a host name" in version_6
    assert "does not exist" in refusal(place, "cert", "issue", "authority", "nowhere")
    assert "days is 0" in refusal(place, "cert", "issue", "authority", "run", "--days", "0")
    assert "this authority has no roster yet" in refusal(place, "roster", "remove", "authority", "1")
    assert "expected a folder with an identity" in refusal(
        place, "roster", "push", "run/clients/00", "authority"
    )
    assert "cannot read" in refusal(place, "roster", "show", "nowhere")
    assert "cannot read" in refusal(place, "cert", "renew", "authority", "nowhere")
    (place / "run/clients/00/identity").mkdir()
    assert "cannot read" in refusal(
        place, "predict", "x.png", "--client", "run/clients/00", "--connect", "127.0.0.1:1"
    )


def test_who_asks_where_nobody_is_known_is_told_so(place: Path) -> None:
    said = refusal(place, "predict", "x.png", "--client", "run/clients/00")
    assert said.endswith(
        "--connect HOST:PORT of a node, as airmoe serve says it: the roster has no addresses"
    )
    insecure = refusal(place, "predict", "x.png", "--client", "run/clients/00", "--insecure")
    assert insecure.endswith("expected --connect HOST:PORT of a node, as airmoe serve says it")
    both = refusal(place, "serve", "run/clients/00", "--insecure", "--identity", "run/identities/00")
    assert "none beside --insecure" in both
    every = refusal(place, "serve", "run", "--all", "--identity", "run/identities/00")
    assert "none beside --all: every node has its own" in every
