"""Nothing calls home, and no file that is shared tells of the machine or the user who made it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import airmoe
from tests.machine import traces_of_a_machine
from tests.system.watched import Seen, watched, why_unwatched

TRAIN = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from airmoe.data import load_images
from airmoe.networked import train_run
from airmoe.networked.config import parse_config

photos, random = Path.home() / "photos", np.random.default_rng(0)
for label in ("cats", "dogs"):
    (photos / label).mkdir(parents=True)
    for number in range(20):
        Image.fromarray(random.integers(0, 255, (32, 32), np.uint8)).save(photos / label / f"{number}.png")
name = f"folder:{photos}"
rounds = "features.rounds = 1\\ngate.rounds = 1\\nexperts.epochs = 1\\nmodel.expert_hidden = 8"
config = parse_config(f'data.name = "{name}"\\ndata.clients = 2\\nmesh = "home"\\n{rounds}', "tiny")
train_run(config, load_images(name), Path(sys.argv[1]))
for picture in photos.rglob("*.png"):
    picture.unlink()
"""

SERVE_AND_ASK = """
import sys
from pathlib import Path
import numpy as np
from airmoe.mesh import MeshClient, Node
from airmoe.scheduling import make_policy

run, address = Path(sys.argv[1], "clients"), "127.0.0.1:17447"
with Node(run / "01", address), MeshClient(run / "00", [address], policy=make_policy("all")) as client:
    client.wait_for_nodes(1, 60)
    answer = client.predict(np.zeros((3, 1, 32, 32), np.uint8), deadline_s=60)
    assert answer.received_bytes > 0
"""

LOAD_ALL = """
import importlib, json, pkgutil, sys
from pathlib import Path
import airmoe
for module in pkgutil.walk_packages(airmoe.__path__, "airmoe."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

import transformers
settings = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 24}
config = transformers.ViTConfig(image_size=16, patch_size=8, **settings)
transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(sys.argv[1])
described = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.2] * 3}
Path(sys.argv[1], "preprocessor_config.json").write_text(json.dumps(described | {"rescale_factor": 1 / 255}))
airmoe.nn.backbones.pretrained.PretrainedExtractor(sys.argv[1])
"""

ASK_FOR_A_NAME = """
import socket
try:
    socket.getaddrinfo("example.org", 80)
except OSError:
    pass
"""
CONNECT = """
import socket
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        socket.socket(family).connect((address, 80))
    except OSError:
        pass
"""
ASK_BY_LOOPBACK = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"example.org?", ("127.0.0.53", 53))
"""
STAY_HERE = """
import pathlib, socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).sendall(b"hello")
pathlib.Path("~/.cache").expanduser().mkdir()
pathlib.Path("~/.cache/device-id").expanduser().touch()
"""


def sent_by(seen: Seen) -> dict[str, int]:
    if seen.sent is None:
        pytest.skip(f"no network of its own can be made here: {why_unwatched()}")
    return seen.sent


@pytest.mark.parametrize("code", [ASK_FOR_A_NAME, CONNECT, ASK_BY_LOOPBACK])
def test_what_is_sent_is_seen(tmp_path: Path, code: str) -> None:
    assert sent_by(watched(tmp_path / "ada", code))


def test_what_is_left_is_seen_and_a_connection_by_loopback_is_no_matter(tmp_path: Path) -> None:
    seen = watched(tmp_path / "ada", STAY_HERE)
    assert seen.left == [".cache/device-id"]
    assert sent_by(seen) == {}


@dataclass(frozen=True)
class Training:
    """A run that a user trained on photos in the home folder."""

    seen: Seen
    user: str
    home: Path
    run: Path


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Training]:
    """The same run by two users, whose airmoe lies in different places."""
    made = []
    for user in ("ada-lovelace", "charles-babbage"):
        place = tmp_path_factory.mktemp("of") / user
        source = place / "software"
        shutil.copytree(Path(airmoe.__file__).parent, source / "airmoe")
        home, run = place / "home" / user, place / "runs" / "photos"
        made.append(Training(watched(home, TRAIN, run, source=source), user, home, run))
    return made[0], made[1]


def test_training_and_export_leave_nothing_in_the_home_folder(trainings: tuple[Training, Training]) -> None:
    for training in trainings:
        assert training.seen.left == []


def test_training_and_export_send_nothing(trainings: tuple[Training, Training]) -> None:
    for training in trainings:
        assert sent_by(training.seen) == {}


def test_nodes_and_clients_leave_nothing_in_the_home_folder_and_send_nothing(
    tmp_path: Path, trainings: tuple[Training, Training]
) -> None:
    seen = watched(tmp_path / "ada", SERVE_AND_ASK, trainings[0].run)
    assert seen.left == []
    assert sent_by(seen) == {}


def test_every_module_and_a_pretrained_model_leave_nothing_and_send_nothing(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    seen = watched(tmp_path / "ada", LOAD_ALL, tmp_path / "vit")
    assert [name for name in seen.left if not name.startswith(".cache/matplotlib/")] == []  # a list of fonts
    assert sent_by(seen) == {}


def test_no_file_of_a_run_tells_who_made_it_where(trainings: tuple[Training, Training]) -> None:
    for training in trainings:
        place = str(training.home.parent.parent)
        assert traces_of_a_machine(training.run, training.user, place) == []
        settings = (training.run / "config.toml").read_text(encoding="utf-8")
        assert 'name = "folder:~/photos"' in settings  # as airmoe reads it back


def test_the_same_run_of_another_user_is_the_same_to_the_byte(trainings: tuple[Training, Training]) -> None:
    first, second = (
        {
            path.relative_to(training.run).as_posix(): path.read_bytes()
            for path in sorted(training.run.rglob("*"))
            if path.is_file() and path.name != "run.json" and path.parent.name != "tensorboard"  # times
        }
        for training in trainings
    )
    assert "clients/00/extractor.onnx" in first
    assert first.keys() == second.keys()
    assert [name for name, content in first.items() if second[name] != content] == []


@pytest.mark.parametrize("told", ["0", "", "1"])
def test_whatever_the_environment_says_telemetry_is_off_once_airmoe_is_loaded(told: str) -> None:
    off = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    ended = subprocess.run(
        [sys.executable, "-c", f"import airmoe, os; print(*(os.environ[name] for name in {list(off)}))"],
        env={**os.environ, **dict.fromkeys(off, told)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == list(off.values())
