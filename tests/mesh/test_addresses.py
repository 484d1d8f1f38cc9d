"""Rosters: files that name every node, and what is wrong with one, in one line."""

from pathlib import Path

import pytest

from airmoe.errors import AddressError, InvalidInputError
from airmoe.mesh import open_session
from airmoe.mesh.addresses import known
from tests.mesh.ports import free_address
from tests.mesh.sessions import untended
from tests.mesh.steering import LONG_S, wait_until

ROSTER = """
# the boxes of the barn
127.0.0.1:7447   # the old one
[::1]:7448

localhost:7449
"""


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    path = tmp_path / "nodes.txt"
    path.write_text(ROSTER, encoding="utf-8")
    return path


def test_a_roster_names_a_node_on_each_line(roster: Path) -> None:
    assert known([roster]) == (("127.0.0.1:7447", "[::1]:7448", "localhost:7449"), ("nodes.txt",))


def test_a_roster_may_be_named_by_its_path_as_text(roster: Path) -> None:
    assert known([str(roster)]) == known([roster])


def test_addresses_and_rosters_may_be_mixed_and_a_seed_stand_in_both(roster: Path) -> None:
    told = known(["127.0.0.1:7", "127.0.0.1:7449", roster])
    assert sorted(told.addresses) == ["127.0.0.1:7", "127.0.0.1:7447", "[::1]:7448", "localhost:7449"]


def test_addresses_alone_are_no_roster() -> None:
    assert known(["127.0.0.1:7447"]) == (("127.0.0.1:7447",), ())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("127.0.0.1", "address is '127.0.0.1'; expected HOST:PORT", id="no port"),
        pytest.param("barn:7447", "address is 'barn:7447'; expected a loopback address", id="unknown name"),
        pytest.param("10.0.0.3:7447", "address is '10.0.0.3:7447'; expected a loopback", id="not loopback"),
        pytest.param(
            "127.0.0.1:7449",
            "address is '127.0.0.1:7449'; expected every node once: line 6 has it, too",
            id="twice, by another name",
        ),
    ],
)
def test_a_wrong_line_is_named_with_its_file(roster: Path, line: str, told: str) -> None:
    with roster.open("a", encoding="utf-8") as more:
        more.write(f"{line}\n")
    with pytest.raises(AddressError) as raised:
        known([roster])
    assert str(raised.value).startswith(f"nodes.txt, line 7: {told}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"# nobody yet\n", "nodes.txt names no node; expected HOST:PORT, for ", id="empty"),
        pytest.param(b"\x89PNG\xff\xfe", "nodes.txt is no text; expected HOST:PORT, for ", id="an image"),
    ],
)
def test_a_file_without_addresses_is_refused(roster: Path, content: bytes, told: str) -> None:
    roster.write_bytes(content)
    with pytest.raises(AddressError, match=f"^{told}"):
        known([roster])


def test_a_roster_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AddressError, match=r"^cannot read nodes\.txt: No such file or directory$"):
        known([tmp_path / "nodes.txt"])
    with pytest.raises(AddressError, match=r"^address is 'nodes\.txt'; expected HOST:PORT, .*, or a file"):
        known(["nodes.txt"])


def test_one_address_is_no_list() -> None:
    with pytest.raises(InvalidInputError, match="expected a list of addresses"):
        known("127.0.0.1:7447")


def test_a_session_is_linked_with_all_of_a_roster_and_not_with_itself(tmp_path: Path) -> None:
    addresses = [free_address() for _ in range(3)]
    (roster := tmp_path / "nodes.txt").write_text("\n".join(addresses), encoding="utf-8")
    own, *others = addresses
    with open_session(others[0]), open_session(others[1]), open_session(own, [roster]) as session:
        wait_until(lambda: len(session.info.peers_zid()) == 2, LONG_S)
        assert session.info.zid() not in session.info.peers_zid()


def test_the_log_names_once_who_is_linked_and_not_in_the_roster(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named, stranger = free_address(), free_address()
    (roster := tmp_path / "nodes.txt").write_text(named, encoding="utf-8")
    told = f"linked with {stranger}, which nodes.txt does not name"
    with untended(named), untended(stranger, named), open_session(connect=[roster]) as session:
        wait_until(lambda: len(session.info.peers_zid()) == 2, LONG_S)
        wait_until(lambda: told in caplog.messages, LONG_S)
    assert caplog.messages.count(told) == 1
    assert not any(named in message for message in caplog.messages)


def test_without_a_roster_anybody_may_come(caplog: pytest.LogCaptureFixture) -> None:
    seed = free_address()
    with open_session(seed), open_session(free_address(), [seed]), open_session(connect=[seed]) as session:
        wait_until(lambda: len(session.info.peers_zid()) == 2, LONG_S)
    assert "linked with" not in caplog.text
