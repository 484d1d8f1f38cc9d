"""The page "Put it on three boxes", command by command, on hosts in network namespaces, and a revocation."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.mesh.local_identities import identity_of
from tests.mesh.steering import wait_until
from tests.system.commands import ended
from tests.system.hosts import Hosts, hosts, why_no_hosts

pytestmark = pytest.mark.skipif(bool(why_no_hosts()), reason=why_no_hosts())

PAGE = Path(__file__).parents[2] / "docs" / "operate" / "identity.md"
BOXES = 3


def commands(heading: str) -> list[str]:
    """The commands of a section of the page, with the addresses of the hosts here."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.partition("  #")[0] for block in section.split("```")[1::2] for line in block.splitlines()]
    return [re.sub(r"\b10\.0\.0\.", "10.88.0.", line) for line in lines if line]


def airmoe(line: str) -> list[str]:
    """A command of the page, run by this interpreter."""
    program, *words = shlex.split(line)
    assert program == "airmoe", line
    return [sys.executable, "-m", "airmoe.cli", *words]


class Boxes:
    """Three hosts with a folder each, and the machine of whoever set them up."""

    def __init__(self, network: Hosts, owner: Path, open_: ExitStack) -> None:
        self.network, self.owner, self._open = network, owner, open_
        self.said = [owner.parent / f"said-{box}.txt" for box in range(BOXES)]

    def folder(self, box: int) -> Path:
        return self.owner.parent / f"box-{box}"

    def inside(self, box: int, line: str) -> list[str]:
        return ["ip", "netns", "exec", self.network.name(box), *airmoe(line)]

    def serve(self, box: int, line: str) -> None:
        with self.said[box].open("w") as said:
            process = subprocess.Popen(
                self.inside(box, line), cwd=self.folder(box), stdout=said, stderr=subprocess.STDOUT
            )
        self._open.callback(process.wait, 20)
        self._open.callback(process.terminate)

    def run(self, box: int, line: str) -> subprocess.CompletedProcess[str]:
        words = self.inside(box, line)
        return subprocess.run(
            words, cwd=self.folder(box), capture_output=True, text=True, check=False, timeout=120
        )


@pytest.fixture(scope="module")
def boxes(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxes]:
    """Everything that the page says, up to the three nodes that serve."""
    owner = tmp_path_factory.mktemp("boxes") / "owner"
    (owner / "runs").mkdir(parents=True)
    shutil.copytree(run_folder, owner / "runs" / "mine", ignore=shutil.ignore_patterns("identities"))
    init, issue, copy, serve, _ = commands("Put it on three boxes")
    for line in (init, issue):
        done = ended(*shlex.split(line)[1:], cwd=owner)
        assert done.returncode == 0, done.stderr
    assert copy.startswith("scp -pr runs/mine/clients/00 10.88.0.1:client")
    with ExitStack() as open_:
        made = Boxes(open_.enter_context(hosts(BOXES)), owner, open_)
        for box in range(BOXES):
            made.folder(box).mkdir()
            shutil.copytree(owner / "runs" / "mine" / "clients" / f"0{box}", made.folder(box) / "client")
            made.serve(box, serve)
        for box in range(BOXES):
            said = made.said[box]
            wait_until(lambda said=said: "mutual TLS as node-" in said.read_text(), 60.0)  # type: ignore[misc]
        yield made


def test_every_box_serves_at_its_own_address(boxes: Boxes) -> None:
    for box in range(BOXES):
        said = boxes.said[box].read_text()
        assert f"of mesh lab on 10.88.0.{box + 1}:7447" in said
        assert f"mutual TLS as node-{box}, one of 4 in roster 1" in said


def ask(boxes: Boxes, box: int, *more: str) -> subprocess.CompletedProcess[str]:
    line = commands("Put it on three boxes")[-1]
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(boxes.folder(box) / "cat.png")
    return boxes.run(box, " ".join([line, *more]))


def test_any_box_asks_the_others(boxes: Boxes) -> None:
    for box in range(BOXES):
        told = ask(boxes, box, "--policy", "all", "--deadline", "30")
        assert told.returncode == 0, told.stderr
        assert told.stdout.count("(remote, score") == BOXES - 1, told
        assert "3 of 4 experts can be asked" in told.stdout


def test_a_box_is_renewed_and_another_revoked_which_is_gone_for_all_within_5_s(boxes: Boxes) -> None:
    renew, remove = commands("Renew")[1], commands("Revoke")[0]
    assert ended(*shlex.split(renew)[1:], cwd=boxes.owner).returncode == 0
    renewed = boxes.owner / "runs" / "mine" / "clients" / "00" / "identity" / "node.pem"
    shutil.copy(renewed, boxes.folder(0) / "client" / "identity" / "node.pem")
    said = boxes.said[0]
    wait_until(lambda: "a newer certificate or roster holds from now on" in said.read_text(), 60.0)
    done = ended(*shlex.split(remove)[1:], cwd=boxes.owner)
    assert done.returncode == 0, done.stderr
    shutil.copy(boxes.owner / "authority" / "roster.json", boxes.folder(0) / "roster.json")
    begin_s = time.monotonic()
    told = boxes.run(0, "airmoe roster push client roster.json")
    assert told.stdout.splitlines()[:2] == ["node-0: taken", "node-1: taken"], told
    for box in (0, 1):
        said = boxes.said[box]
        wait_until(lambda said=said: "roster 2 in place of 1; node-2 left out" in said.read_text(), 5.0)  # type: ignore[misc]
    assert time.monotonic() - begin_s < 60, "it hangs"
    print(f"{time.monotonic() - begin_s:.2f} s from the command to the log of both others")
    told = ask(boxes, 1, "--policy", "all", "--deadline", "30")
    assert "2 of 4 experts can be asked" in told.stdout, told
    out = ask(boxes, 2, "--deadline", "5")
    assert "(remote" not in out.stdout, "nobody answers whoever is out, told or not"
    assert (
        "answered by expert 2 (here" in out.stdout or "node-2: it does not belong to the mesh" in out.stderr
    )
    identity = identity_of(boxes.folder(1) / "client")
    assert identity is not None
    assert [member.node for member in identity.roster.members] == [0, 1, 3]
