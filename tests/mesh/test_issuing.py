"""Issuing identities: all or nothing, one at a time, and no key of whoever was removed comes back."""

import datetime
import errno
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from airmoe.errors import AddressError, IdentityError, InvalidInputError
from airmoe.manifest import read_manifest
from airmoe.mesh import authority as authority_module
from airmoe.mesh import issuing
from airmoe.mesh.authority import AUTHORITY_DAYS, Authority, make_authority, read_authority
from airmoe.mesh.certifying import certificate_of_authority, new_key, now_utc, pem_of
from airmoe.mesh.identity import CERTIFICATE, IDENTITY, KEY, read_identity
from airmoe.mesh.issuing import issue_identities, remove, renew
from airmoe.mesh.roster import Member, Roster, Serves, read_roster
from airmoe.runfolder import client_folders


@pytest.fixture
def run(own_copy: Path) -> Path:
    """A copy of the run, without identities."""
    return own_copy.parent.parent


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "authority")


def without_identities(run: Path) -> None:
    for folder in client_folders(run):
        shutil.rmtree(folder / IDENTITY, ignore_errors=True)


def nodes_of(roster: Roster) -> list[int]:
    return [member.node for member in roster.members]


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let it be some days later for who issues and for who keeps the journal."""
    now = now_utc() + datetime.timedelta(days=days)
    monkeypatch.setattr("airmoe.mesh.issuing.now_utc", lambda: now)
    monkeypatch.setattr("airmoe.mesh.certifying.now_utc", lambda: now)


def test_a_removed_node_does_not_come_back_while_its_old_key_holds(run: Path, authority: Authority) -> None:
    issue_identities(authority, run, {}, days=30)
    remove(authority, 2)
    without_identities(run)
    ends = authority.issued()[2].ends
    with pytest.raises(IdentityError) as raised:
        issue_identities(read_authority(authority._folder or ""), run, {})
    assert str(raised.value) == (
        f"node 2 was removed, and its certificate holds until {ends:%Y-%m-%d %H:%M} UTC: its old key "
        "would be let in again; expected --without 2 until then, or another authority"
    )
    assert not any((folder / IDENTITY).exists() for folder in client_folders(run))


def test_the_latest_certificate_of_a_removed_node_counts(
    run: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue_identities(authority, run, {}, days=2)
    renew(authority, run / "clients" / "02", days=20)
    remove(authority, 2)
    without_identities(run)
    later(monkeypatch, 19.9)
    with pytest.raises(IdentityError, match="node 2 was removed"):
        issue_identities(authority, run, {})
    later(monkeypatch, 20.1)
    assert nodes_of(issue_identities(authority, run, {})) == [0, 1, 2, 3]


def test_the_others_get_theirs_without_it(run: Path, authority: Authority) -> None:
    issue_identities(authority, run, {})
    remove(authority, 2)
    without_identities(run)
    roster = issue_identities(authority, run, {}, without=[2])
    assert (roster.number, nodes_of(roster)) == (3, [0, 1, 3])
    assert [(folder / IDENTITY).exists() for folder in client_folders(run)] == [True, True, False, True]
    with pytest.raises(InvalidInputError, match="node of --without is 4; expected one of 0, 1, 2, 3"):
        issue_identities(authority, run, {}, without=[4])
    with pytest.raises(InvalidInputError, match="node of --address is 2; expected one of 0, 1, 3"):
        issue_identities(authority, run, {2: ["10.0.0.1:1"]}, without=[2])
    with pytest.raises(InvalidInputError, match="expected not all nodes of the run"):
        issue_identities(authority, run, {}, without=[0, 1, 2, 3])


def test_a_box_that_is_let_in_again_alone_leaves_the_others_as_they_are(
    run: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    issue_identities(authority, run, {}, days=1)
    folder = run / "clients" / "02" / IDENTITY
    old = shutil.copytree(folder, tmp_path / "old")
    before = [(each / IDENTITY / KEY).read_bytes() for each in client_folders(run)]
    remove(authority, 2)
    shutil.rmtree(folder)
    later(monkeypatch, 1.1)
    roster = issue_identities(authority, run, {}, without=[0, 1, 3])
    assert nodes_of(roster) == [0, 1, 2, 3]
    after = [(each / IDENTITY / KEY).read_bytes() for each in client_folders(run)]
    assert [new == known for new, known in zip(after, before, strict=True)] == [True, True, False, True]
    with pytest.raises(IdentityError, match=r"is from before node-2 was removed on .* its old key stays out"):
        renew(authority, old)
    later(monkeypatch, 1.2)
    assert renew(authority, folder) == folder / CERTIFICATE


def test_a_roster_that_is_kept_by_hand_is_remembered_too(run: Path, authority: Authority) -> None:
    roster = issue_identities(authority, run, {})
    authority.keep(authority.sign(roster.without(1)))
    assert set(authority.journal.left_out()) == {1}


def test_an_identity_that_exists_is_refused_with_what_to_do(run: Path, authority: Authority) -> None:
    issue_identities(authority, run, {})
    with pytest.raises(
        InvalidInputError, match=r"00/identity exists; renew it .*, or remove the folder identity"
    ):
        issue_identities(authority, run, {})
    without_identities(run)
    assert issue_identities(authority, run, {}).number == 2


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("what", ["fill_identity", "Path.rename", "write_roster", "certificate_for"])
def test_it_is_all_or_nothing(
    what: str, error: BaseException, run: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue_identities(authority, run, {})
    without_identities(run)
    before, number = files_below(run.parent), 0
    places = {
        "fill_identity": (issuing, "fill_identity", 3),
        "Path.rename": (Path, "rename", 3),
        "write_roster": (authority_module, "write_roster", 1),
        "certificate_for": (Authority, "certificate_for", 3),
    }
    place, name, fails_at = places[what]
    original = getattr(place, name)

    def failing(*given: object, **more: object) -> object:
        nonlocal number
        number += 1
        if number == fails_at:
            raise error
        return original(*given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, failing)
        with pytest.raises(type(error)):
            issue_identities(authority, run, {})
    assert number == fails_at
    assert files_below(run.parent) == before
    assert not list(run.rglob("*identity*"))
    assert issue_identities(authority, run, {}).number == 2


def remove_in(folder: str, node: int) -> None:
    remove(read_authority(folder), node)


def all_at_once(calls: list[tuple[Callable[..., None], tuple[object, ...]]]) -> list[int | None]:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=call, args=given) for call, given in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_commands_at_once_lose_nothing(run: Path, authority: Authority, tmp_path: Path) -> None:
    issue_identities(authority, run, {})
    folder = str(authority._folder)
    calls = [(remove_in, (folder, node)) for node in (0, 1, 2)]
    assert all_at_once(calls) == [0, 0, 0]
    signed = authority.roster()
    assert signed is not None
    assert (signed.roster.number, nodes_of(signed.roster)) == (4, [3])
    assert set(authority.journal.left_out()) == {0, 1, 2}
    assert {path.name for path in Path(folder).iterdir()} == {
        *("authority.key", "authority.pem", "issued.jsonl", "roster.json")
    }


def test_whoever_waits_too_long_is_told_so(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airmoe.mesh.authority._WAIT_S", 0.1)
    other = read_authority(authority._folder or "")
    with (
        authority.alone(),
        authority.alone(),
        pytest.raises(IdentityError, match="changed by another command"),
    ):
        other.issue(0)
    other.issue(0)


def test_what_is_no_client_s_folder_is_not_looked_at(run: Path, authority: Authority) -> None:
    (run / "clients" / ".DS_Store").write_bytes(b"\x00")
    shutil.copytree(run / "clients" / "00", run / "clients" / "00-backup")
    issue_identities(authority, run, {})
    assert (run / "clients" / "00" / IDENTITY).is_dir()
    assert not (run / "clients" / "00-backup" / IDENTITY).exists()


def test_two_folders_of_one_node_are_refused_by_name(run: Path, authority: Authority) -> None:
    shutil.copytree(run / "clients" / "00", run / "clients" / "7")
    with pytest.raises(InvalidInputError, match=r"clients/00 and .*clients/7 are both of node 0"):
        issue_identities(authority, run, {})


def test_a_folder_of_another_model_is_refused_by_name(run: Path, authority: Authority) -> None:
    manifest = run / "clients" / "03" / "manifest.json"
    model = read_manifest(manifest.parent).model_hash
    manifest.write_text(manifest.read_text().replace(model, "0123456789abcdef"))
    with pytest.raises(InvalidInputError, match=r"one model: .*clients/03 has 0123456789abcdef"):
        issue_identities(authority, run, {})


def test_a_roster_that_nobody_could_read_is_not_signed(authority: Authority) -> None:
    serves = [Serves(model="0" * 16, layer=1, expert=number, hash="0" * 16) for number in range(40_000)]
    roster = Roster(mesh="lab", number=1, members=[Member(node=0, addresses=[], serves=serves)])
    with pytest.raises(
        InvalidInputError, match=r"size of the roster in bytes is \d{7}; expected at most 4194304"
    ):
        authority.sign(roster)


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ({0: ["0.0.0.0:7447"]}, "expected that of one machine"),
        ({0: ["224.0.0.1:7447"]}, "expected that of one machine"),
        ({0: ["255.255.255.255:7447"]}, "expected that of one machine"),
        ({0: ["999.1.1.1:80"]}, "'999.1.1.1' is no name of a host"),
        ({0: ["10.0.1:80"]}, "'10.0.1' is no name of a host"),
        ({0: ["10.0.0.1:\uff17\uff14\uff14\uff17"]}, "expected HOST:PORT"),
        ({0: ["[fe80::1%x#iface=lo]:7447"]}, "is no name of a host"),
        ({0: ["[::1%x#iface=lo]:7447"]}, "is no name of a host"),
        ({0: ["[fe80::1%eth0]:7447"]}, "is no name of a host"),
        (
            {0: ["[2001:db8::1]:7447"]},
            "expected an IPv4 address or a host name: links with TLS do not dial IPv6",
        ),
        (
            {0: ["10.0.0.1:1"], 1: ["10.0.0.1:1"]},
            "of node 0 is '10.0.0.1:1'; expected one of its own: .* node 1",
        ),
        ({0: ["box:1"], 1: ["BOX:1"]}, "expected one of its own: it is that of node 1, too"),
        ({0: ["box:1", "box:1"]}, "expected one of its own: it is that of node 0, too"),
    ],
)
def test_an_address_where_nobody_can_be_reached_is_refused(
    addresses: dict[int, list[str]], said: str, run: Path, authority: Authority
) -> None:
    with pytest.raises(AddressError, match=said) as raised:
        issue_identities(authority, run, addresses)
    assert "\n" not in str(raised.value)
    assert authority.roster() is None


def test_an_address_that_another_node_had_before_is_not_given_away(run: Path, authority: Authority) -> None:
    issue_identities(authority, run, {1: ["10.0.0.1:7447"]})
    without_identities(run)
    with pytest.raises(AddressError, match=r"address of node 0 is .* that of node 1, too"):
        issue_identities(authority, run, {0: ["10.0.0.1:7447"]})
    moved = issue_identities(authority, run, {0: ["10.0.0.1:7447"], 1: ["box-1.lan:7447"]})
    assert moved.addresses == ["10.0.0.1:7447", "box-1.lan:7447"]


def test_a_torn_last_line_of_the_journal_is_no_line(authority: Authority, tmp_path: Path) -> None:
    for node in (1, 2):
        authority.issue(node)
    journal = tmp_path / "authority" / "issued.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert [each.node for each in authority.issued()] == [1]
    authority.issue(3)
    assert [each.node for each in authority.issued()] == [1, 3]
    journal.write_bytes(journal.read_bytes().rstrip(b"\n"))
    authority.issue(4)
    assert [each.node for each in authority.issued()] == [1, 3, 4]
    journal.write_bytes(b"{}\n" + journal.read_bytes())
    with pytest.raises(
        IdentityError, match=r"issued\.jsonl, line 1 is damaged: KeyError: 'node'; expected what"
    ):
        authority.issued()


@pytest.fixture
def aged(tmp_path: Path) -> Iterator[Callable[[float], Authority]]:
    """Make an authority that began so many days ago."""

    def make(ago_days: float) -> Authority:
        make_authority(folder := tmp_path / "aged")
        key, then = new_key(), now_utc() - datetime.timedelta(days=ago_days)
        certificate: x509.Certificate = certificate_of_authority(
            key, "airmoe authority", then, AUTHORITY_DAYS
        )
        (folder / "authority.pem").write_bytes(Authority(certificate, key).pem)
        (folder / "authority.key").write_bytes(pem_of(key))
        return read_authority(folder)

    return make


@pytest.mark.parametrize(
    ("ago_days", "said"),
    [
        (AUTHORITY_DAYS + 1, "the authority's own certificate held until .*: another authority"),
        (-1, "the authority's own certificate holds from .* expected a clock that is right"),
    ],
)
def test_an_authority_out_of_its_days_issues_nothing(
    ago_days: float, said: str, run: Path, aged: Callable[[float], Authority]
) -> None:
    authority = aged(ago_days)
    with pytest.raises(IdentityError, match=said):
        issue_identities(authority, run, {})
    assert authority.issued() == []
    assert not any((folder / IDENTITY).exists() for folder in client_folders(run))


def test_a_pipe_or_a_device_as_a_roster_or_a_key_is_refused_at_once(run: Path, authority: Authority) -> None:
    issue_identities(authority, run, {})
    for name in ("roster.json", CERTIFICATE, KEY):
        files = Path(shutil.copytree(run / "clients" / "00" / IDENTITY, run / name))
        (files / name).unlink()
        os.mkfifo(files / name)
        with pytest.raises(IdentityError, match=f"cannot read .*{name}: it is no regular file"):
            read_identity(files)
    with pytest.raises(IdentityError, match="cannot read /dev/zero: it is no regular file"):
        read_roster(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"roster\.json is empty; expected a signed roster$"),
        (b"[" * 9, r"is no signed roster: Invalid JSON: EOF while parsing"),
        (b"7", r"is no signed roster: it is 7; expected a table"),
        (json.dumps({"roster": 1}).encode(), "roster is 1; expected a table"),
    ],
)
def test_what_is_no_roster_is_said_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "roster.json").write_bytes(content)
    with pytest.raises(IdentityError, match=said):
        read_roster(tmp_path / "roster.json")
