"""A SuperLink that runs is closed to strangers: to those with its certificate alone, and to unknown keys."""

import contextlib
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs airmoe[flower]")

import flwr
import httpx

from airmoe.federated.flower.connection import SuperLinkError, register_node
from airmoe.federated.flower.keys import TOKEN, make_keys, make_node_key, read_secret
from airmoe.federated.flower.lab import Lab
from airmoe.federated.flower.quiet import environment
from tests.system.commands import ended, left_after, processes_about, running

if any(letter.isspace() for letter in flwr.__file__):
    pytest.skip("Flower runs no SuperLink from a folder with a space", allow_module_level=True)

PROTOBUF = {"content-type": "application/protobuf", "accept": "application/protobuf"}
NOWHERE = "airmoe.nowhere:nothing"
WITHOUT_LOGIN = {"/health", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
"""What answers anybody: that it lives, and which interfaces there are."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A SuperLink without nodes."""
    with Lab(tmp_path_factory.mktemp("flower") / "lab", 0, NOWHERE, NOWHERE, NOWHERE, {"rounds": 1}) as lab:
        yield lab


def asked(lab: Lab, path: str, method: str = "POST", headers: dict[str, str] | None = None) -> httpx.Response:
    """What a stranger gets who has the authority's certificate."""
    trust = ssl.create_default_context(cafile=str(lab.authority))
    with httpx.Client(verify=trust, headers=PROTOBUF | (headers or {})) as client:
        return client.request(method, f"https://{lab.address}{path}", content=b"")


def token(lab: Lab) -> bytes:
    return read_secret(lab.folder / "keys" / TOKEN)


def test_every_interface_refuses_a_stranger_who_has_the_certificate(lab: Lab) -> None:
    paths = asked(lab, "/openapi.json", "GET").json()["paths"]
    open_ = {
        f"{method} {path}"
        for path, methods in paths.items()
        for method in methods
        if asked(lab, path, method.upper()).is_success and path not in WITHOUT_LOGIN
    }
    assert len(paths) > 70  # as many as Flower has: the list is not empty by mistake
    # Who logs in asks this first: it says that there is no page to log in at.
    assert open_ == {"post /v1/control/get-login-details"}


def test_the_token_opens_the_control_interface(lab: Lab) -> None:
    path = "/v1/control/list-nodes"
    assert asked(lab, path).status_code == 401
    wrong = {"Authorization": "Bearer " + "x" * 43}
    assert asked(lab, path, headers=wrong).status_code == 401
    right = {"Authorization": f"Bearer {token(lab).decode()}"}
    assert asked(lab, path, headers=right).is_success


def test_a_stranger_cannot_register_a_key_and_its_owner_can(lab: Lab, tmp_path: Path) -> None:
    public = make_node_key(tmp_path / "node.key")
    with pytest.raises(SuperLinkError, match="refuses to register client 0"):
        register_node(lab.address, lab.authority, b"guessed", public, 0)
    register_node(lab.address, lab.authority, token(lab), public, 0)
    with pytest.raises(SuperLinkError, match="Public key already in use"):
        register_node(lab.address, lab.authority, token(lab), public, 1)


def flwr(lab: Lab, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flwr.cli.app", *words],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_flowers_own_command_starts_no_run_without_the_token(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink.x]\naddress = "{lab.address}"\nroot-certificates = "{lab.authority}"\n'
    )
    refused = flwr(lab, home, "ls", "x")
    assert refused.returncode != 0
    assert "uthentication" in refused.stdout + refused.stderr
    allowed = flwr(lab, lab.folder / "home", "ls", "airmoe")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr


def node_of(lab: Lab, folder: Path, client: int) -> list[object]:
    """The words that start a node with the key in a folder."""
    return [
        *("flower", "node", "--client", client, "--superlink", lab.address, "--authority", lab.authority),
        *("--key", folder / "node.key", "--folder", folder / "node", "--participant", "builtins:dict"),
    ]


def test_a_key_that_is_not_registered_is_refused(lab: Lab, tmp_path: Path) -> None:
    make_node_key(tmp_path / "node.key")
    told = ended(*node_of(lab, tmp_path, 0))
    assert told.returncode == 2
    assert "is the key of client 0 registered?" in told.stderr


@pytest.mark.long
def test_a_node_with_a_registered_key_comes_and_its_death_takes_its_supernode_along(
    lab: Lab, tmp_path: Path
) -> None:
    register_node(lab.address, lab.authority, token(lab), make_node_key(tmp_path / "node.key"), 2)
    with running(*node_of(lab, tmp_path, 2)) as node:
        node.wait_until(lambda: "Activated node_id" in lab.log("superlink").read_text())
        assert len(processes_about(tmp_path)) == 2
        node.send(signal.SIGKILL)
        node.wait()
    assert left_after(tmp_path) == {}


@pytest.mark.long
def test_a_node_that_is_told_to_end_ends_in_order(lab: Lab, tmp_path: Path) -> None:
    register_node(lab.address, lab.authority, token(lab), make_node_key(tmp_path / "node.key"), 3)
    with running(*node_of(lab, tmp_path, 3)) as node:
        node.wait_until(lambda: len(processes_about(tmp_path)) == 2)
        node.send(signal.SIGTERM)
        assert node.wait() == 0
    assert left_after(tmp_path) == {}


@pytest.mark.long
def test_a_supernode_gives_its_tasks_to_nobody_without_its_secret(lab: Lab, tmp_path: Path) -> None:
    register_node(lab.address, lab.authority, token(lab), make_node_key(tmp_path / "node.key"), 4)
    with running(*node_of(lab, tmp_path, 4)) as node:
        node.wait_until(lambda: len(processes_about(tmp_path)) == 2)
        (port,) = {
            line.rsplit(" --port ", 1)[1].split()[0]
            for line in processes_about(tmp_path).values()
            if " --port " in line
        }
        url = f"http://127.0.0.1:{port}/v1/runtime/acquire-task"
        node.wait_until(lambda: answers(url))
        assert httpx.post(url, content=b"", headers=PROTOBUF).status_code == 401
    assert (tmp_path / "node").stat().st_mode & 0o077 == 0


def answers(url: str) -> bool:
    try:
        httpx.post(url)
    except httpx.TransportError:
        return False
    return True


def test_a_node_cannot_register_itself(lab: Lab) -> None:
    from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    private, public = generate_key_pairs()
    speaks = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(private, public),
    ]
    with (
        FleetHttpClient.from_server_address(
            lab.address, False, lab.authority.read_bytes(), interceptors=speaks
        ) as fleet,
        pytest.raises(httpx.HTTPStatusError) as refused,
    ):
        fleet.RegisterNode(RegisterNodeFleetRequest(public_key=public_key_to_bytes(public)))
    assert refused.value.response.status_code == 412


def test_a_node_does_not_speak_to_a_superlink_of_another_authority(lab: Lab, tmp_path: Path) -> None:
    make_keys(tmp_path / "others", [])
    public = make_node_key(tmp_path / "node.key")
    with pytest.raises(SuperLinkError, match="no SuperLink answers"):
        register_node(lab.address, tmp_path / "others" / "authority.crt", token(lab), public, 0)


def test_what_is_not_encrypted_is_not_served(lab: Lab) -> None:
    host, port = lab.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10.0) as plain:
        plain.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        plain.settimeout(10.0)
        with contextlib.suppress(ConnectionResetError):
            assert b"200" not in plain.recv(1000)


def test_it_listens_at_loopback_only(lab: Lab) -> None:
    port = int(lab.address.split(":")[1])
    listening = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    }
    assert listening == {f"0100007F:{port:04X}"}
