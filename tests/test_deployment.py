"""What lies in ``deploy``: its commands and options exist, and what can be checked without running it is."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main

from airmoe.cli.app import app
from airmoe.mesh.condition import STUCK_S, Condition
from airmoe.mesh.counts import Counts
from tests.mesh.ports import free_address

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNIT, CONTAINER, COMPOSE = DEPLOY / "airmoe@.service", DEPLOY / "Containerfile", DEPLOY / "compose.yaml"


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command line as the command itself reads it; a wrong one raises."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    return dict(command.make_context(name, words).params)


def settings(unit: str) -> dict[str, str]:
    """The settings of a unit file."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit, flags=re.MULTILINE))


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file, lines that go on joined."""
    text = re.sub(r"^#.*\n", "", CONTAINER.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line]
    return [(name, value.strip()) for name, _, value in (line.partition(" ") for line in lines)]


def instruction(name: str) -> str:
    return [value for each, value in instructions() if each == name][-1]


def test_the_command_of_the_unit_is_one_that_airmoe_takes() -> None:
    told = settings(UNIT.read_text(encoding="utf-8"))
    more = "--metrics 127.0.0.1:9447 --listen 10.0.0.1:7448"
    program, *words = shlex.split(told["ExecStart"].replace("%i", "client").replace("$AIRMOE_SERVE", more))
    assert program == "/opt/airmoe/bin/airmoe"
    read = parsed(words)
    assert read["folder"] == Path("/var/lib/airmoe/client")
    assert (read["log"], read["metrics"], read["listen"]) == ("json", "127.0.0.1:9447", "10.0.0.1:7448")
    with pytest.raises(Exception, match="No such option"):
        parsed([*words, "--metrix", "x"])


def test_the_unit_restarts_what_hangs_and_keeps_the_key_to_itself() -> None:
    told = settings(UNIT.read_text(encoding="utf-8"))
    assert (told["Type"], told["Restart"], told["WatchdogSignal"]) == ("notify", "on-failure", "SIGTERM")
    assert float(told["WatchdogSec"]) <= STUCK_S
    assert (told["User"], told["UMask"], told["LimitCORE"]) == ("airmoe", "0077", "0")
    assert "time-sync.target" in told["After"]
    assert told["ProtectSystem"] == "strict"
    assert told["StateDirectory"] == "airmoe", "a roster that is taken is written there"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8").replace("/opt/airmoe/bin/airmoe", "/bin/sh")

    def faults(text: str) -> str:
        unit = tmp_path / "airmoe@client.service"
        unit.write_text(text, encoding="utf-8")
        verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
        done = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if "airmoe@" in line)

    assert faults(text) == ""
    assert "WatchdogSeck" in faults(text.replace("WatchdogSec", "WatchdogSeck"))


def test_the_container_runs_a_command_that_airmoe_takes_as_a_user_without_rights() -> None:
    program, *words = [*json.loads(instruction("ENTRYPOINT")), *json.loads(instruction("CMD"))]
    assert program == "airmoe"
    assert parsed(words)["folder"] == Path("/client")
    assert instruction("USER") != "root"
    assert "torch" not in CONTAINER.read_text(encoding="utf-8").lower().replace("no pytorch", "")
    (copied, *_) = [value for name, value in instructions() if name == "COPY"]
    for name in copied.split()[:-1]:
        assert (DEPLOY.parent / name).exists(), name


def test_the_health_check_of_the_container_is_0_only_where_the_node_is_well() -> None:
    pytest.importorskip("prometheus_client", reason="needs airmoe[monitor]")
    from airmoe.monitor.node_endpoint import NodeEndpoint

    _, _, check = instruction("HEALTHCHECK").partition("CMD ")
    program, *words = json.loads(check)
    assert program == "python"
    known = parsed(json.loads(instruction("CMD")))["metrics"]
    assert f"http://{known}/health" in words[-1]
    address = free_address()
    words[-1] = words[-1].replace(known, address)

    def status() -> int:
        command = [sys.executable, *words]
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode

    assert status() != 0, "nobody listens"
    for is_closing in (False, True):
        ends = datetime(2099, 1, 1, tzinfo=UTC)
        now = Condition(0, "lab", "ab", Counts().now(), 0, 0, 0, 1, ends, is_closing, True)
        with NodeEndpoint(lambda now=now: now, address):  # type: ignore[misc]
            assert (status() == 0) is not is_closing


def test_the_three_nodes_of_the_composition_are_those_that_its_certificates_name() -> None:
    yaml = pytest.importorskip("yaml")
    text = COMPOSE.read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    assert list(services) == ["node-0", "node-1", "node-2"]
    placed = {}
    for number, service in enumerate(services.values()):
        (volume,) = service["volumes"]
        assert volume == f"${{AIRMOE_RUN:-../runs/mine}}/clients/{number:02}:/client"
        placed[number] = service["networks"]["mesh"]["ipv4_address"]
        assert service["build"]["dockerfile"] == os.path.relpath(CONTAINER, DEPLOY.parent)
        assert service["cap_drop"] == ["ALL"]
    lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   airmoe ")]
    commands = [parsed(shlex.split(line)[1:]) for line in lines]
    assert list(commands[1]["address"]) == [f"{node}={host}:7447" for node, host in placed.items()]
    assert commands[2]["client"] == Path("runs/mine/clients/00")
