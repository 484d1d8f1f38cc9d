"""An identity is checked before a session opens: what is wrong is said in one line."""

import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.errors import AddressError, IdentityError, InvalidInputError
from airmoe.manifest import read_manifest
from airmoe.mesh import MeshClient, Node
from airmoe.mesh.authority import make_authority, passing_authority, read_authority
from airmoe.mesh.identity import AUTHORITY, CERTIFICATE, IDENTITIES, IDENTITY, KEY, ROSTER, read_identity
from airmoe.mesh.issuing import issue_identities, remove, renew
from airmoe.mesh.local_identities import identity_of, local_identity
from airmoe.mesh.roster import SignedRoster, read_roster, write_roster
from tests.mesh.identities import IssuedRun, dated, issued_run, write_pair


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> IssuedRun:
    return issued_run(run_folder, tmp_path_factory.mktemp("issued"))


@pytest.fixture
def files(run: IssuedRun, tmp_path: Path) -> Path:
    """A copy of the identity of node 2, which a test may spoil."""
    return Path(shutil.copytree(run.files(2), tmp_path / "files"))


def test_an_identity_says_who_a_node_is_and_who_else_belongs(run: IssuedRun) -> None:
    identity = read_identity(run.files(2))
    assert (identity.node, identity.name) == (2, "node-2")
    assert identity.names == {"node-0", "node-1", "node-2", "node-3"}
    assert identity.roster.addresses == list(run.addresses)
    assert [member.schedules for member in identity.roster.members] == [True, False, False, False]
    left = identity.ends - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29) < left <= datetime.timedelta(days=30)
    manifest = read_manifest(run.folders[2])
    (serves,) = identity.member.serves
    assert (serves.model, serves.layer, serves.expert) == (manifest.model_hash, 1, 2)
    assert serves.hash == manifest.layer(1).hashes[2]


def test_its_folder_and_key_are_its_owner_s_alone(run: IssuedRun) -> None:
    assert run.files(2).stat().st_mode & 0o777 == 0o700
    assert (run.files(2) / KEY).stat().st_mode & 0o777 == 0o600
    assert run.authority_folder.stat().st_mode & 0o777 == 0o700


def missing(name: str) -> Callable[[Path, IssuedRun], None]:
    return lambda files, run: (files / name).unlink()


def truncated(name: str) -> Callable[[Path, IssuedRun], None]:
    def truncate(files: Path, run: IssuedRun) -> None:
        (files / name).write_bytes((files / name).read_bytes()[:90])

    return truncate


def readable_by_others(files: Path, run: IssuedRun) -> None:
    (files / KEY).chmod(0o640)


def key_of_another(files: Path, run: IssuedRun) -> None:
    shutil.copy(run.files(3) / KEY, files / KEY)


def of_another_authority(files: Path, run: IssuedRun) -> None:
    write_pair(files, *passing_authority().issue(2))


def over(files: Path, run: IssuedRun) -> None:
    write_pair(files, *dated(run.authority, "node-2", -7200, -3600))


def not_begun(files: Path, run: IssuedRun) -> None:
    write_pair(files, *dated(run.authority, "node-2", 3600, 7200))


def odd_name(files: Path, run: IssuedRun) -> None:
    write_pair(files, *dated(run.authority, "node-02", -60, 3600))


def not_in_the_roster(files: Path, run: IssuedRun) -> None:
    write_pair(files, *run.authority.issue(77))


def roster_changed(files: Path, run: IssuedRun) -> None:
    told = json.loads((files / ROSTER).read_text())
    told["roster"]["members"][0]["schedules"] = False
    (files / ROSTER).write_text(json.dumps(told))


def roster_of_another_authority(files: Path, run: IssuedRun) -> None:
    write_roster(files / ROSTER, passing_authority().sign(run.identity(2).roster))


def unknown_key(files: Path, run: IssuedRun) -> None:
    told = json.loads((files / ROSTER).read_text())
    told["roster"]["owner"] = "me"
    (files / ROSTER).write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing(CERTIFICATE), f"cannot read .*{CERTIFICATE}: No such file"),
        (missing(KEY), f"cannot read .*{KEY}: No such file"),
        (missing(AUTHORITY), f"cannot read .*{AUTHORITY}: No such file"),
        (missing(ROSTER), f"cannot read .*{ROSTER}: No such file"),
        (truncated(CERTIFICATE), f"{CERTIFICATE} is no certificate"),
        (truncated(KEY), f"{KEY} is no private key"),
        (truncated(ROSTER), f"{ROSTER} is no signed roster"),
        (readable_by_others, "has mode 640: others can read this private key; expected 600"),
        (key_of_another, f"{KEY} is the key of another certificate"),
        (of_another_authority, f"{CERTIFICATE} was not issued by the authority"),
        (over, f"{CERTIFICATE} held until .* expected one that holds: renew it"),
        (not_begun, "by the clock of this machine it is .* expected a clock that is right"),
        (odd_name, "is of 'node-02'; expected node-<number>"),
        (not_in_the_roster, "does not have node-77"),
        (roster_changed, "signature is not that of the authority"),
        (roster_of_another_authority, "signature is not that of the authority"),
        (unknown_key, "owner is 'me'; expected a known key"),
    ],
)
def test_an_identity_that_is_not_right_is_refused_in_one_line(
    spoil: Callable[[Path, IssuedRun], None], said: str, files: Path, run: IssuedRun
) -> None:
    read_identity(files)
    spoil(files, run)
    with pytest.raises(IdentityError, match=said) as raised:
        read_identity(files)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="nowhere does not exist"):
        read_identity(tmp_path / "nowhere")


def test_a_node_serves_no_expert_that_the_roster_does_not_let_it(
    run: IssuedRun, files: Path, address: str
) -> None:
    roster, manifest = run.identity(2).roster, read_manifest(run.folders[2])
    (expert,) = roster.members[2].serves
    other = expert.model_copy(update={"hash": "0" * 16})
    for serves, said in (([], "does not let node-2 serve expert 2"), ([other], "serve 0000000000000000")):
        members = [*roster.members]
        members[2] = members[2].model_copy(update={"serves": serves})
        changed = run.authority.sign(roster.model_copy(update={"members": members}))
        write_roster(files / ROSTER, changed)
        identity = read_identity(files)
        with pytest.raises(IdentityError, match=said):
            identity.refuse_other(manifest)
        with pytest.raises(IdentityError, match=said):
            Node(run.folders[2], address, identity=identity)


def test_a_node_that_may_not_schedule_does_not(run: IssuedRun, address: str) -> None:
    with pytest.raises(IdentityError, match="does not let node-1 schedule"):
        Node(run.folders[1], address, schedule="jesa:0.5:2", identity=run.identity(1))


def test_a_client_asks_as_itself_alone(run: IssuedRun) -> None:
    with pytest.raises(IdentityError, match="is of node-1; expected that of node 0"):
        MeshClient(run.folders[0], identity=run.identity(1))


def test_another_machine_is_reached_with_an_identity_alone(run: IssuedRun) -> None:
    with pytest.raises(AddressError, match="without an identity that an authority issued"):
        Node(run.folders[1], "10.99.0.1:7447")
    with pytest.raises(AddressError, match=r"cannot listen on 10\.99\.0\.1:7447"):
        Node(run.folders[1], "10.99.0.1:7447", identity=run.identity(1))


def test_an_ipv6_address_that_no_link_would_come_of_is_refused(run: IssuedRun) -> None:
    with pytest.raises(AddressError, match=r"'\[::1\]:7447'; expected IPv4 or the name of a host"):
        MeshClient(run.folders[0], ["[::1]:7447"], identity=run.identity(0))


def test_a_certificate_that_ran_out_while_a_process_ran_opens_no_session(
    run: IssuedRun, files: Path, address: str
) -> None:
    identity = read_identity(files)
    over(files, run)
    with pytest.raises(IdentityError, match="held until"):
        Node(run.folders[2], address, identity=identity)


def test_an_authority_is_read_back_and_knows_what_it_issued(tmp_path: Path) -> None:
    made = make_authority(tmp_path / "authority")
    made.issue(3)
    made.issue(1, days=2)
    read = read_authority(tmp_path / "authority")
    assert read.pem == made.pem
    assert [each.node for each in read.issued()] == [3, 1]
    assert (read.issued()[1].ends - read.issued()[1].begins).days == 2


def test_an_authority_is_never_overwritten(tmp_path: Path) -> None:
    made = make_authority(tmp_path / "authority")
    with pytest.raises(InvalidInputError, match="a folder that does not exist yet"):
        make_authority(tmp_path / "authority")
    assert read_authority(tmp_path / "authority").pem == made.pem


def test_an_authority_whose_key_others_can_read_is_refused(tmp_path: Path) -> None:
    make_authority(tmp_path / "authority")
    (tmp_path / "authority" / "authority.key").chmod(0o644)
    with pytest.raises(IdentityError, match="others can read"):
        read_authority(tmp_path / "authority")


@pytest.mark.parametrize("days", [0, -1, 4000, float("nan")])
def test_how_long_a_certificate_holds_has_limits(days: float) -> None:
    with pytest.raises(InvalidInputError, match="days is"):
        passing_authority().issue(0, days=days)


def test_identities_are_not_issued_twice(run: IssuedRun) -> None:
    with pytest.raises(InvalidInputError, match="exists"):
        issue_identities(run.authority, run.folder, {})


@pytest.mark.parametrize(
    ("addresses", "schedules", "said"),
    [
        ({4: ["10.0.0.1:1"]}, [], "node of --address is 4; expected one of 0, 1, 2, 3"),
        ({}, [9], "node of --schedules is 9"),
        ({0: ["10.0.0.1"]}, [], "expected HOST:PORT"),
        ({0: ["-bad-:1"]}, [], "is no name of a host"),
    ],
)
def test_what_is_issued_is_checked_first(
    addresses: dict[int, list[str]], schedules: list[int], said: str, own_copy: Path, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path / "authority")
    with pytest.raises((InvalidInputError, AddressError), match=said):
        issue_identities(authority, own_copy.parent.parent, addresses, schedules)
    assert authority.roster() is None
    assert not (own_copy / IDENTITY).exists()


def test_a_second_model_has_its_place_beside_the_first_in_the_roster(
    run_folder: Path, own_copy: Path, tmp_path: Path
) -> None:
    first = issued_run(run_folder, tmp_path / "first")
    other = own_copy.parent.parent
    for folder in sorted((other / "clients").iterdir()):
        text = (folder / "manifest.json").read_text()
        model = read_manifest(folder).model_hash
        (folder / "manifest.json").write_text(text.replace(model, "0123456789abcdef"))
    roster = issue_identities(first.authority, other, {})
    assert roster.number == 2
    assert roster.addresses == list(first.addresses)
    models = {first.manifest.model_hash, "0123456789abcdef"}
    assert all({each.model for each in member.serves} == models for member in roster.members)


def test_a_renewed_certificate_holds_longer_and_fits_the_same_key(run: IssuedRun, files: Path) -> None:
    write_pair(files, *run.authority.issue(2, days=1))
    before = read_identity(files)
    assert renew(run.authority, files) == files / CERTIFICATE
    after = read_identity(files)
    assert after.ends - before.ends > datetime.timedelta(days=28)


def test_a_certificate_that_is_over_can_be_renewed(run: IssuedRun, files: Path) -> None:
    over(files, run)
    renew(run.authority, files / CERTIFICATE)
    assert read_identity(files).name == "node-2"


def test_neither_another_s_certificate_nor_that_of_whoever_is_out_is_renewed(
    run_folder: Path, run: IssuedRun, tmp_path: Path
) -> None:
    other = issued_run(run_folder, tmp_path / "other")
    with pytest.raises(IdentityError, match="was not issued by this authority"):
        renew(other.authority, run.files(1))
    removed = remove(other.authority, 1)
    assert (removed.number, [member.node for member in removed.members]) == (2, [0, 2, 3])
    with pytest.raises(IdentityError, match="node-1, which is not in this authority's roster"):
        renew(other.authority, other.folders[1])


def test_a_roster_survives_a_round_trip_and_no_change(run: IssuedRun, tmp_path: Path) -> None:
    signed = read_roster(run.files(0) / ROSTER)
    write_roster(tmp_path / "roster.json", signed)
    assert read_roster(tmp_path / "roster.json") == signed
    assert signed.verified(run.authority.certificate) == run.identity(0).roster
    other = SignedRoster(roster=signed.roster, signature="00" * 70)
    with pytest.raises(IdentityError, match="not that of the authority"):
        other.verified(run.authority.certificate)


def test_a_run_gets_identities_for_this_machine_where_it_has_none(own_copy: Path) -> None:
    assert identity_of(own_copy) is None
    made = local_identity(own_copy)
    assert (made.node, made.roster.addresses) == (0, [])
    run = own_copy.parent.parent
    assert made.folder == (run / IDENTITIES / "00").absolute()
    assert (run / IDENTITIES).stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (run / IDENTITIES).iterdir()} == {".gitignore", "00", "01", "02", "03"}
    assert not list(run.rglob("authority.key")), "nobody can issue another one"
    assert local_identity(own_copy) == made
    assert identity_of(own_copy) == made


def test_identities_for_this_machine_that_are_not_right_are_made_anew(own_copy: Path) -> None:
    before = local_identity(own_copy)
    (before.folder / CERTIFICATE).write_bytes(b"")
    assert local_identity(own_copy).roster == before.roster
    read_identity(before.folder)


def test_what_holds_on_this_machine_alone_is_told_by_its_authority(
    own_copy: Path, run: IssuedRun, tmp_path: Path
) -> None:
    local = local_identity(own_copy)
    assert not local.holds_elsewhere
    assert not read_identity(shutil.copytree(local.folder, tmp_path / "another-name")).holds_elsewhere
    (tmp_path / IDENTITIES).mkdir()
    issued = read_identity(shutil.copytree(run.files(0), tmp_path / IDENTITIES / "00"))
    assert issued.holds_elsewhere
    assert issued.with_roster(issued.roster).holds_elsewhere
    assert not local.with_roster(local.roster).holds_elsewhere


def test_a_client_s_folder_elsewhere_needs_an_identity_of_its_own(own_copy: Path, tmp_path: Path) -> None:
    shutil.copytree(own_copy, tmp_path / "box")
    with pytest.raises(IdentityError, match=r"expected .*box/identity, which `airmoe cert issue` makes"):
        local_identity(tmp_path / "box")


def test_an_identity_in_the_client_s_folder_comes_first(run: IssuedRun) -> None:
    assert local_identity(run.folders[1]).folder == run.files(1)
    assert not (run.folder / IDENTITIES).exists()
