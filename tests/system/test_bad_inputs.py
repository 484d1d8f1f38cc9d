"""What a user gets wrong: one line naming the value and what is expected, status 2, nothing written."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.mesh.ports import free_address
from tests.system.commands import all_under, ended, ended_in_fork

NOWHERE = free_address()
ASK = ["--client", "run/clients/00", "--connect", NOWHERE]
CIFAR = ["--data", "cifar10", "--data-dir"]


@dataclass(frozen=True)
class Wrong:
    """A command that cannot work, and what its one line must say."""

    arguments: list[str]
    said: list[str]
    environment: dict[str, str] = field(default_factory=dict)


WRONG = {
    "unknown command": Wrong(["fly"], ["'fly'"]),
    "unknown option": Wrong(["demo", "--clint", "9"], ["--clint", "--clients"]),
    "missing option": Wrong(
        ["predict", "zero.png", "--client", "run/clients/00"],
        ["connect is None; expected --connect"],
    ),
    "no number": Wrong(["demo", "--clients", "ten"], ["--clients", "integer"]),
    "unknown data set": Wrong(
        ["demo", "--data", "mnist"],
        ["'mnist'", "digits, cifar10, cifar100, fashion-mnist, several of these joined by +, or folder:PATH"],
    ),
    "too few clients to kill two": Wrong(["demo", "--clients", "2"], ["clients is 2", "at least 3"]),
    "too many clients": Wrong(["demo", "--clients", "5000"], ["clients is 5000", "at most 1000"]),
    "no subcarriers": Wrong(["demo", "--config", "few.toml"], ["subcarriers", "is 0"]),
    "negative seed": Wrong(["train", "--seed", "-1"], ["seed is -1", "at least 0"]),
    "too few questions": Wrong(["demo", "--ask", "5"], ["ask is 5", "at least 13 of 450"]),
    "no epochs": Wrong(["demo", "--central-epochs", "0"], ["central_epochs is 0", "at least 1"]),
    "unknown key": Wrong(["demo", "--config", "key.toml"], ["key.toml: data.clientz is 3", "a known key"]),
    "no settings file": Wrong(["demo", "--config", "no.toml"], ["'no.toml'", "a readable TOML file"]),
    "run folder exists": Wrong(["demo", "--out", "run"], ["out is 'run'", "does not exist yet"]),
    "run folder with too long a name": Wrong(
        ["train", *CIFAR, "cut", "--out", "runs/" + 250 * "n"], ["out is 'runs/nnn", "at most 247 bytes"]
    ),
    "run folder under a file": Wrong(["demo", "--out", "zero.png/run"], ["zero.png", "expected"]),
    "nothing to resume": Wrong(["train", "--resume", "--out", "new"], ["new.partial", "nothing to resume"]),
    "no CIFAR-10 and no network": Wrong(
        ["demo", *CIFAR, "empty"],
        ["cannot be downloaded", "data_batch_1.bin", "--data-dir"],
        {"https_proxy": f"http://{NOWHERE}", "no_proxy": ""},
    ),
    "folder that is not read": Wrong(["demo", "--data-dir", "empty"], ["data-dir is 'empty'", "digits"]),
    "truncated CIFAR-10": Wrong(["demo", *CIFAR, "cut"], ["data_batch_1.bin: has 1000 bytes", "30730000"]),
    "no image file": Wrong(["predict", "no.png", *ASK], ["no.png: no such file"]),
    "unreadable image": Wrong(["predict", "text.png", *ASK], ["text.png: cannot be read as an image"]),
    "unknown policy": Wrong(["predict", "zero.png", *ASK, "--policy", "best"], ["'best'", "topk:K"]),
    "unknown wire type": Wrong(["predict", "zero.png", *ASK, "--wire-type", "int8"], ["'int8'", "float16"]),
    "no client folder": Wrong(["serve", "run/clients/77"], ["run/clients/77/manifest.json does not exist"]),
    "all of a run": Wrong(
        ["serve", "run"], ["folder is", "clients/<id> in it, or --all to serve every node"]
    ),
    "damaged manifest": Wrong(["serve", "harmed/clients/00"], ["manifest.json is damaged"]),
    "damaged expert": Wrong(["serve", "harmed/clients/01"], ["expert-1.onnx is damaged", "expects"]),
    "not loopback": Wrong(
        ["serve", "run/clients/00", "--listen", "0.0.0.0:7447"],
        ["'0.0.0.0:7447'", "expected a loopback address"],
    ),
    "no address": Wrong(["serve", "run/clients/00", "--listen", "7447"], ["'7447'", "expected HOST:PORT"]),
    "peer not loopback": Wrong(
        ["serve", "run/clients/00", "--listen", NOWHERE, "--connect", "192.0.2.1:7447"],
        ["'192.0.2.1:7447'", "expected a loopback address"],
    ),
    "empty peer": Wrong(
        ["serve", "run/clients/00", "--listen", NOWHERE, "--connect", ""], ["address is ''", "HOST:PORT"]
    ),
    "a node twice in a roster": Wrong(
        ["predict", "zero.png", *ASK, "--connect", "twice.txt"],
        ["twice.txt, line 2: address is 'localhost:7447'", "expected every node once: line 1 has it, too"],
    ),
    "an unknown name in a roster": Wrong(
        ["serve", "run/clients/00", "--listen", NOWHERE, "--connect", "names.txt"],
        ["names.txt, line 1: address is 'barn:7447'", "expected a loopback address"],
    ),
    "a roster that is an image": Wrong(
        ["predict", "zero.png", *ASK, "--connect", "zero.png"], ["zero.png is no text", "HOST:PORT"]
    ),
    "no roster of that name": Wrong(
        ["predict", "zero.png", *ASK, "--connect", "no.txt"],
        ["address is 'no.txt'", "HOST:PORT", "or a file with one on each line"],
    ),
    "no time to answer": Wrong(
        ["predict", "zero.png", *ASK, "--deadline", "-1"], ["deadline is -1.0", "a number from 0 to 3600"]
    ),
    "a page for other machines": Wrong(
        ["monitor", "run/clients/00", "--connect", NOWHERE, "--listen", "0.0.0.0:8470", "--timeout-s", "0"],
        ["listen is '0.0.0.0:8470'", "expected a loopback HOST:PORT"],
    ),
    "a page whose policy is unknown": Wrong(
        ["monitor", "run/clients/00", "--connect", NOWHERE, "--policy", "best"], ["'best'", "topk:K"]
    ),
    "a page of nothing": Wrong(["monitor", "run/clients/00"], ["connect is None", "HOST:PORT of a node"]),
    "unknown form of log": Wrong(
        ["predict", "zero.png", *ASK, "--log", "xml"], ["--log is 'xml'", "'short', 'full', 'json'"]
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    """A folder with everything that the commands name."""
    place = tmp_path_factory.mktemp("bad_inputs")
    shutil.copytree(run_folder, place / "run")
    shutil.copytree(run_folder, place / "harmed")
    manifest = place / "harmed" / "clients" / "00" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-50])
    with (place / "harmed" / "clients" / "01" / "expert-1.onnx").open("rb+") as expert:
        expert.seek(200)
        expert.write(b"\0\0\0\0")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(place / "zero.png")
    (place / "text.png").write_text("not an image", encoding="utf-8")
    (place / "key.toml").write_text("[data]\nclientz = 3\n", encoding="utf-8")
    (place / "few.toml").write_text("[links]\nsubcarriers = 0\n", encoding="utf-8")
    (place / "twice.txt").write_text("127.0.0.1:7447\nlocalhost:7447\n", encoding="utf-8")
    (place / "names.txt").write_text("barn:7447 # by the road\n", encoding="utf-8")
    (place / "empty").mkdir()
    (place / "cut").mkdir()
    (place / "cut" / "batches.meta.txt").write_text("a b c d e f g h i j", encoding="utf-8")
    (place / "cut" / "data_batch_1.bin").write_bytes(bytes(1000))
    return place


@dataclass(frozen=True)
class Outcomes:
    """Every wrong command, run in the same folder, and what the folder held before and after all of them."""

    ended: dict[str, subprocess.CompletedProcess[str]]
    before: dict[str, bytes | None]
    after: dict[str, bytes | None]


@pytest.fixture(scope="module")
def outcomes(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    before = all_under(place)
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "AIRMOE_DATA": ""}

    def run(wrong: Wrong) -> subprocess.CompletedProcess[str]:
        return ended_in_fork(*wrong.arguments, cwd=place, environment=cache | wrong.environment)

    return Outcomes({name: run(wrong) for name, wrong in WRONG.items()}, before, all_under(place))


@pytest.mark.parametrize("name", WRONG)
def test_it_is_one_line_that_names_the_value_and_what_is_expected(outcomes: Outcomes, name: str) -> None:
    said = outcomes.ended[name].stderr
    assert re.fullmatch(r"airmoe: [^\n]+\n", said), said
    for words in WRONG[name].said:
        assert words in said


@pytest.mark.parametrize("name", WRONG)
def test_the_exit_status_is_2(outcomes: Outcomes, name: str) -> None:
    assert outcomes.ended[name].returncode == 2


def test_nothing_is_written_and_nothing_changed(outcomes: Outcomes) -> None:
    after = {name: what for name, what in outcomes.after.items() if "identities" not in name.split("/")}
    assert after.keys() == outcomes.before.keys()
    assert after == outcomes.before


@pytest.fixture
def address_in_use() -> Iterator[str]:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield f"127.0.0.1:{busy.getsockname()[1]}"


def test_a_port_in_use_is_named(run_folder: Path, address_in_use: str) -> None:
    refused = ended("serve", run_folder / "clients" / "00", "--listen", address_in_use)
    assert refused.returncode == 2
    assert refused.stderr == f"airmoe: cannot listen on {address_in_use}: Address already in use\n"
