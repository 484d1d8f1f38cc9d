"""Certificates, keys and secrets: whom they name, who can read them, and that none is overwritten."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs airmoe[flower]")

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.federated.flower.keys import make_keys, make_node_key, read_secret


def names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(each.value) for each in extension.value]


def test_the_certificate_names_the_hosts_and_this_machine(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", ["fl.example.org", "192.0.2.7"])
    certificate = x509.load_pem_x509_certificate((tmp_path / "keys" / "server.crt").read_bytes())
    assert names(certificate) == ["fl.example.org", "192.0.2.7", "localhost", "127.0.0.1"]
    lasts = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=820) < lasts < timedelta(days=826)


def test_the_authority_signed_it_and_can_sign_no_further_authority(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", [])
    read = [
        x509.load_pem_x509_certificate((tmp_path / "keys" / f"{name}.crt").read_bytes())
        for name in ("authority", "server")
    ]
    read[1].verify_directly_issued_by(read[0])
    constraints = [each.extensions.get_extension_for_class(x509.BasicConstraints).value for each in read]
    assert [(each.ca, each.path_length) for each in constraints] == [(True, 0), (False, None)]


def test_openssl_accepts_the_chain(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", [])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "keys" / "server.crt", tmp_path / "keys" / "server.key")
    trust = ssl.create_default_context(cafile=str(tmp_path / "keys" / "authority.crt"))
    trust.verify_flags |= ssl.VERIFY_X509_STRICT
    client, server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = trust.wrap_bio(client, server, server_hostname="localhost")
    answering = context.wrap_bio(server, client, server_side=True)
    for side in (asking, answering, asking):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert asking.version() == "TLSv1.3"


def test_nobody_else_can_read_what_is_secret(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", [])
    make_node_key(tmp_path / "node.key")
    secret = {"authority.key", "server.key", "control.token", "executor.secret"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == secret
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "node.key").stat().st_mode & 0o777 == 0o600


def test_the_key_of_a_node_is_one_that_flower_takes(tmp_path: Path) -> None:
    public = make_node_key(tmp_path / "new" / "node.key")
    key = load_ssh_private_key((tmp_path / "new" / "node.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp384r1"
    known = load_ssh_public_key(public.read_bytes())
    assert isinstance(known, ec.EllipticCurvePublicKey)
    assert known.public_numbers() == key.public_key().public_numbers()


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys", [])
    make_node_key(tmp_path / "node.key")
    before = (tmp_path / "node.key").read_bytes()
    with pytest.raises(InvalidInputError, match="it would lose its key"):
        make_node_key(tmp_path / "node.key")
    with pytest.raises(InvalidInputError, match="one that does not exist"):
        make_keys(tmp_path / "keys", [])
    assert (tmp_path / "node.key").read_bytes() == before


def test_two_federations_share_no_secret(tmp_path: Path) -> None:
    for name in ("one", "other"):
        make_keys(tmp_path / name, [])
    for file in ("control.token", "executor.secret", "authority.key"):
        assert read_secret(tmp_path / "one" / file) != read_secret(tmp_path / "other" / file)


def test_a_host_that_no_certificate_can_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="a name in ASCII or an address"):
        make_keys(tmp_path / "keys", ["münchen"])
    assert not (tmp_path / "keys").exists()


def test_a_secret_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o640)
    with pytest.raises(RunFolderError, match="can be read by others"):
        read_secret(tmp_path / "open")


def test_a_missing_or_empty_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_secret(tmp_path / "none")
    (tmp_path / "empty").touch(mode=0o600)
    with pytest.raises(RunFolderError, match="is empty"):
        read_secret(tmp_path / "empty")
