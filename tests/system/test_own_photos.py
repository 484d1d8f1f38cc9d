"""Own photos of 128 pixels and a pretrained model in a folder: trained federatedly, served, and asked."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airmoe.manifest import read_manifest
from airmoe.runfolder import client_folders
from tests.mesh.ports import free_address
from tests.system.commands import AIRMOE_WITHOUT_TORCH, ended, ended_in_fork, running

CLASSES = ("blue", "green", "red")
FEATURES, SIDE = 12, 128
SETTINGS = """
[data]
clients = 3
[experts]
epochs = 40
batch_size = 8
learning_rate = 0.1
[gate]
rounds = 15
batch_size = 8
"""


def photo(folder: Path, name: str, number: int) -> Path:
    """A noisy picture, wider than high, bright in the channel of its class."""
    pixels_HWC = np.random.default_rng(number).integers(0, 100, (150, 200, 3), dtype=np.uint8)
    pixels_HWC[:, :, 2 - CLASSES.index(name)] += 150
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{number}.jpg"
    Image.fromarray(pixels_HWC).save(path)
    return path


@dataclass(frozen=True)
class Place:
    """A folder with a run that was trained on photos, and what its training said."""

    folder: Path
    said: str

    @property
    def run(self) -> Path:
        return self.folder / "run"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("own")
    for name in CLASSES:
        for number in range(8):
            photo(folder / "photos" / name, name, number)
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=FEATURES, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=24,
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder / "tiny-vit")
    described = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "tiny-vit" / "preprocessor_config.json").write_text(json.dumps(described))
    (folder / "short.toml").write_text(SETTINGS)
    options = ["--data", "folder:photos", "--size", SIDE, "--backbone", "hf:tiny-vit"]
    trained = ended_in_fork("train", *options, "--config", "short.toml", "--out", "run", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return Place(folder, trained.stdout)


def test_the_training_learns_and_says_what_is_ahead(place: Place) -> None:
    (f1,) = re.findall(r"^macro-F1 of top-1 routing on held-out images: ([\d.]+)$", place.said, re.MULTILINE)
    assert float(f1) > 0.9
    assert "18 images to train on, 6 held out, 3 x 128 x 128: " in place.said
    assert "the backbone is frozen: stage 1 is left out" in place.said


def test_every_client_knows_the_size_of_images_and_sends_pooled_features(place: Place) -> None:
    for folder in client_folders(place.run):
        manifest = read_manifest(folder)
        assert manifest.asks is not None
        spec = manifest.asks.input
        assert (spec.channels, spec.height, spec.width) == (3, SIDE, SIDE)
        assert manifest.layers[0].payload == [FEATURES]
        assert tuple(manifest.classes) == CLASSES


def test_nothing_of_the_frozen_backbone_was_exchanged(place: Place) -> None:
    rows = [json.loads(line) for line in (place.run / "metrics.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows if row.get("bytes")} == {"gate statistics", "gate"}


def test_photos_of_any_size_are_answered_by_other_processes(place: Place, tmp_path: Path) -> None:
    folders, asked = client_folders(place.run), [photo(tmp_path, name, 99) for name in CLASSES]
    first, second = free_address(), free_address()
    with (
        running("serve", folders[0], "--listen", first, program=AIRMOE_WITHOUT_TORCH) as one,
        running(
            "serve", folders[1], "--listen", second, "--connect", first, program=AIRMOE_WITHOUT_TORCH
        ) as other,
    ):
        one.wait_for_line("serving expert")
        other.wait_for_line("serving expert")
        told = ended(
            "predict", *asked, "--client", folders[2], "--connect", first, program=AIRMOE_WITHOUT_TORCH
        )
    assert told.returncode == 0, told.stderr
    for file, name in zip(asked, CLASSES, strict=True):
        assert f"{file}: {name} " in told.stdout
    assert "(remote, " in told.stdout


def test_the_run_is_evaluated_on_its_photos(place: Place) -> None:
    evaluated = ended_in_fork("evaluate", place.run, "--policy", "topk:2", cwd=place.folder)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "topk:2" in evaluated.stdout
