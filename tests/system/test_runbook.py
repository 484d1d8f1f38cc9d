"""The page "Runbook", command by command, on loopback: a client keeps asking, and loses no query."""

import re
import shlex
import shutil
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from airmoe.data import ImageSet
from airmoe.manifest import MANIFEST, read_manifest
from airmoe.mesh import Answer, MeshClient
from airmoe.mesh.fleet import free_addresses
from airmoe.mesh.local_identities import identity_of
from airmoe.runfolder import client_folders
from tests.mesh.steering import LONG_S, answer_to, prefer, wait_until
from tests.system.commands import Command, ended, running

pytest.importorskip("prometheus_client", reason="needs airmoe[monitor]")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here"),
]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operate" / "runbook.md").read_text(encoding="utf-8")
UNIT = (ROOT / "deploy" / "airmoe@.service").read_text(encoding="utf-8")
BOXES = 3
PORTS = 7447, 7448, 9447, 9448
NOT_HERE = ("python3", "pip", "useradd", "chown", "journalctl", "status", "airmoe@.service")
"""What installs programs and users, and what only shows."""

IMAGE = np.zeros((1, 1, 32, 32), np.uint8)


def blocks(heading: str) -> list[list[str]]:
    """The commands of a section, by block; without a heading those above the first."""
    below = PAGE.partition(f"\n## {heading}\n")[2] if heading else PAGE
    section = below.partition("\n## ")[0]
    return [[line for line in block.splitlines() if line] for block in section.split("```")[1::2]]


class Machines:
    """Three boxes and the machine of whoever runs them: folders here, and free ports for their addresses."""

    def __init__(self, folder: Path, open_: ExitStack) -> None:
        self.folder, self.owner, self._open = folder, folder / "owner", open_
        free = iter(free_addresses(BOXES * len(PORTS)))
        self._at = {(box, port): next(free) for box in range(BOXES) for port in PORTS}
        self.services: dict[tuple[int, str], Command] = {}
        self.heard: list[str] = []

    def follow(self, heading: str, number: int, boxes: Iterable[int] = range(BOXES)) -> None:
        """Do what a block says: on boxes what begins with sudo, curl or echo, the rest on the own machine."""
        for whole in blocks(heading)[number]:
            line, _, remark = whole.partition("      #")
            if line.startswith(("sudo", "curl", "echo")):
                for box in boxes:
                    self._on_box(box, line)
            elif "likewise" in remark:
                for box in range(BOXES):
                    own = line.replace("clients/00", f"clients/0{box}")
                    self._on_own(own.replace("10.0.0.1:", f"10.0.0.{box + 1}:"))
            else:
                self._on_own(line)

    def box(self, box: int) -> Path:
        return self.folder / f"box-{box}"

    def _on_own(self, line: str) -> None:
        program, *words = shlex.split(line)
        if program == "scp":
            source, (host, _, path) = self.owner / words[-2], words[-1].partition(":")
            target = self.box(int(host.rpartition(".")[2]) - 1) / path
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, target)
            return
        assert program == "airmoe", line
        line = re.sub(r"10\.0\.0\.(\d):(\d+)", lambda found: self._at[int(found[1]) - 1, int(found[2])], line)
        done = ended(*shlex.split(line)[1:], cwd=self.owner)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        self.heard += done.stdout.splitlines()

    def _on_box(self, box: int, line: str) -> None:
        line = line.replace("10.0.0.1:", f"10.0.0.{box + 1}:")
        line = re.sub(r"10\.0\.0\.\d:(\d+)", lambda found: self._at[box, int(found[1])], line)
        line = re.sub(r"127\.0\.0\.1:(\d{4})\b", lambda found: self._at[box, int(found[1])], line)
        for place in ("/var/lib/airmoe", "/etc/airmoe"):
            line = line.replace(place, str(self.box(box)) + place)
        words = [word for word in shlex.split(line) if word != "sudo"]
        if any(word in " ".join(words[:3]).replace("/", " ").split() for word in NOT_HERE):
            return
        match words:
            case ["mkdir", "-p", *folders]:
                for folder in folders:
                    Path(folder).mkdir(parents=True, exist_ok=True)
            case ["mv", source, target]:
                (self.box(box) / source).rename(target)
            case ["install", "-o", "airmoe", "-m", mode, source, target]:
                shutil.copyfile(self.box(box) / source, target)
                Path(target).chmod(int(mode, 8))
            case ["echo", text, "|", "tee", file]:
                Path(file).write_text(f"{text}\n", encoding="utf-8")
            case ["systemctl", "enable", "--now", unit]:
                self._start(box, unit.removeprefix("airmoe@"))
            case ["systemctl", "disable", "--now", unit]:
                service = self.services.pop((box, unit.removeprefix("airmoe@")))
                service.send(signal.SIGTERM)
                assert service.wait() == 0, service.output
            case ["curl", url]:
                with urllib.request.urlopen(url, timeout=60) as answer:
                    self.heard += answer.read().decode().splitlines()
            case _:
                raise AssertionError(f"the test does not know: {line}")

    def _start(self, box: int, name: str) -> None:
        """Start what the unit starts, and wait, as systemd does, until it says that it serves."""
        (command,) = re.findall(r"^ExecStart=(.*)$", UNIT, flags=re.MULTILINE)
        more = (self.box(box) / f"etc/airmoe/{name}.env").read_text(encoding="utf-8").partition("=")[2]
        command = command.replace("/var/lib/airmoe/%i", f"{self.box(box)}/var/lib/airmoe/{name}")
        _, *words = shlex.split(command.replace("$AIRMOE_SERVE", more))
        heard = self.folder / f"notify-{box}-{name}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, pytest.MonkeyPatch.context() as new:
            heard.unlink(missing_ok=True)
            systemd.bind(str(heard))
            systemd.settimeout(120)
            new.setenv("NOTIFY_SOCKET", str(heard))
            self.services[box, name] = self._open.enter_context(
                running(*words, program=(sys.executable, "-m", "airmoe.cli"))
            )
            assert systemd.recv(100) == b"READY=1"

    def ports(self, port: int) -> list[str]:
        return [self._at[box, port] for box in range(BOXES)]


@pytest.fixture
def machines(tmp_path: Path, digits: ImageSet) -> Iterator[Machines]:
    """Two models of the same mesh on the own machine, and boxes on which nothing is yet."""
    from airmoe.networked import train_run
    from airmoe.networked.config import parse_config

    runs = tmp_path / "owner" / "runs"
    runs.mkdir(parents=True)
    tiny = "[data]\nclients = 3\n[features]\nrounds = 2\n[experts]\nepochs = 2\n[gate]\nrounds = 2\n"
    train_run(parse_config(tiny, "three boxes"), digits, runs / "mine")
    shutil.copytree(runs / "mine", runs / "new")
    for folder in client_folders(runs / "new"):
        text, model = (folder / MANIFEST).read_text(encoding="utf-8"), read_manifest(folder).model_hash
        (folder / MANIFEST).write_text(text.replace(model, "0123456789abcdef"), encoding="utf-8")
    with ExitStack() as open_:
        machines = Machines(tmp_path, open_)
        for box in range(BOXES):
            machines.box(box).mkdir()
        yield machines


@contextmanager
def asking(folder: Path, experts: tuple[int, ...] = (0,)) -> Iterator[None]:
    """A client of node 1 asks other nodes again and again; at the end every query must have been answered."""
    answers, is_over = list[Answer](), threading.Event()
    gates = [prefer(*(0.9 if each == expert else 0.05 for each in range(BOXES))) for expert in experts]
    with MeshClient(folder, identity=identity_of(folder), hedge_s=LONG_S) as client:
        client.wait_for_nodes(BOXES, 60)

        def ask() -> None:
            while not is_over.is_set():
                answers.extend(answer_to(client, IMAGE, gate=gate) for gate in gates)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
            asked = len(answers)
            wait_until(lambda: len(answers) > asked + 5, 60)
        finally:
            is_over.set()
            thread.join()
    lost = [number for number, answer in enumerate(answers) if answer.degraded_T.any()]
    assert lost == [], f"of {len(answers)}"
    print(f"{len(answers)} queries, none lost")


def test_whoever_follows_the_page_renews_upgrades_rolls_back_and_revokes_without_losing_a_query(
    machines: Machines,
) -> None:
    mine, new = (machines.owner / "runs" / run / "clients" / "01" for run in ("mine", "new"))
    machines.follow("", 0)
    for block in range(3):
        machines.follow("Start on boot", block)
    machines.follow("Look", 0)
    assert "3 of 3 answer" in machines.heard
    machines.follow("Look", 1)
    assert sum('"healthy": true' in line for line in machines.heard) == BOXES
    assert sum(line.startswith("airmoe_node_info{") for line in machines.heard) == BOXES

    with asking(mine, experts=(0, 2)):
        machines.follow("Renew", 0)
        before = identity_of(machines.box(0) / "var/lib/airmoe/client")
        machines.follow("Renew", 1, boxes=(0,))
        machines.services[0, "client"].wait_for_line_with("a newer certificate or roster holds from now on")
        after = identity_of(machines.box(0) / "var/lib/airmoe/client")
        assert before is not None
        assert after is not None
        assert after.ends > before.ends

        machines.follow("Upgrade a model", 0)
        for box in range(BOXES):
            service = machines.services[box, "client"]
            service.wait_for_line_with("a newer certificate or roster holds from now on")
        machines.follow("Upgrade a model", 1)
        machines.heard.clear()
        machines.follow("Upgrade a model", 2)
        assert machines.heard.count("3 of 3 answer") == 2, "both models"

    with asking(new, experts=(0, 2)):
        machines.follow("Upgrade a model", 3)
        assert {name for _, name in machines.services} == {"new"}
        machines.follow("Roll back", 0)
    machines.follow("Roll back", 1)
    assert {name for _, name in machines.services} == {"client"}
    machines.follow("Look", 0)

    with asking(mine, experts=(0,)):
        machines.heard.clear()
        machines.follow("Revoke", 0)
        assert "node-0: taken" in machines.heard
        for box in (0, 1):
            machines.services[box, "client"].wait_for_line_with("node-2 left out")
    machines.follow("Stop", 0)
    assert machines.services == {}
