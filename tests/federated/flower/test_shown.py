"""What a SuperLink with an identity shows: the node's own files, under a name that they have."""

import ssl
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs airmoe[flower]")

from airmoe.errors import IdentityError, InvalidInputError
from airmoe.federated.flower.keys import EXECUTOR_SECRET, TOKEN, make_keys, read_secret
from airmoe.federated.flower.shown import (
    Shown,
    keep_renewed,
    named_hosts,
    own_name,
    shown_by_identity,
    shown_by_keys,
)
from airmoe.mesh.adding import add_nodes
from airmoe.mesh.authority import make_authority, read_authority
from airmoe.mesh.identity import AUTHORITY, CERTIFICATE, IDENTITY, KEY, read_identity
from airmoe.mesh.issuing import renew


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    addresses = {0: ["127.0.0.1:7447", "fl.example.org:7447"]}
    add_nodes(make_authority(tmp_path / "authority"), tmp_path / "nodes", [0, 1], addresses=addresses)
    return tmp_path / "nodes" / "00" / IDENTITY


def test_no_second_set_of_keys_is_made(identity: Path, tmp_path: Path) -> None:
    shown = shown_by_identity(read_identity(identity), tmp_path / "superlink", "127.0.0.1")
    files = identity / AUTHORITY, identity / CERTIFICATE, identity / KEY
    assert (shown.authority, shown.certificate, shown.key) == files
    assert shown.members is not None
    made = {path.name for path in shown.secrets.iterdir()}
    assert made == {TOKEN, EXECUTOR_SECRET, "authority.crt"}
    assert (shown.secrets / "authority.crt").read_bytes() == (identity / AUTHORITY).read_bytes()
    assert {each.stat().st_mode & 0o777 for each in (tmp_path / "superlink", shown.secrets)} == {0o700}


def test_secrets_stay_as_they_are_from_start_to_start(identity: Path, tmp_path: Path) -> None:
    token = [
        read_secret(shown_by_identity(read_identity(identity), tmp_path / "s", "127.0.0.1").secrets / TOKEN)
        for _ in range(2)
    ]
    assert token[0] == token[1]


def test_a_certificate_without_an_address_is_refused(identity: Path) -> None:
    other = identity.parents[1] / "01" / IDENTITY / CERTIFICATE
    with pytest.raises(IdentityError, match=r"names no address .* --address 1=HOST:PORT"):
        named_hosts(other)


@pytest.mark.parametrize(
    ("hosts", "host", "expected"),
    [
        (["10.0.0.1", "127.0.0.1"], "127.0.0.1", "127.0.0.1"),
        (["10.0.0.1", "fl.example.org"], "0.0.0.0", "10.0.0.1"),
        (["10.0.0.1", "fl.example.org"], "192.168.0.5", "fl.example.org"),
    ],
)
def test_this_machine_reaches_it_under_a_name_of_the_certificate(
    hosts: list[str], host: str, expected: str
) -> None:
    assert own_name(hosts, host) == expected


def test_an_address_that_the_certificate_does_not_name_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"host is '10.0.0.2'; expected .*10.0.0.1; or 0.0.0.0"):
        own_name(["10.0.0.1"], "10.0.0.2")


def test_with_keys_of_its_own_whoever_is_registered_may_come(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", [])
    shown = shown_by_keys(tmp_path / "keys", "0.0.0.0")
    assert (shown.reached, shown.members, shown.secrets) == ("127.0.0.1", None, tmp_path / "keys")


def serial_shown_by(server: ssl.SSLContext, shown: Shown) -> str:
    """The serial number that a handshake with a server gives."""
    trust = ssl.create_default_context(cafile=str(shown.authority))
    trust.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 has it without being told
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = trust.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = asking.getpeercert()
    assert found is not None
    return str(found["serialNumber"])


def test_a_renewed_certificate_is_shown_to_whoever_dials_from_then_on(identity: Path, tmp_path: Path) -> None:
    shown = shown_by_identity(read_identity(identity), tmp_path / "superlink", "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shown.certificate, shown.key)
    before, ends = serial_shown_by(server, shown), threading.Event()
    keeper = threading.Thread(target=keep_renewed, args=(server, shown, ends))
    keeper.start()
    try:
        time.sleep(0.1)  # it has looked once
        renew(read_authority(tmp_path / "authority"), identity, days=40)
        deadline = time.monotonic() + 120
        while serial_shown_by(server, shown) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        ends.set()
        keeper.join()
