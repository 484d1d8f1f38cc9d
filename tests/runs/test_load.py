"""A finished run as an object: the model that was trained, its settings and its images."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from airmoe.data import ImageSet, as_pixels, load_images, partition
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.mesh.networks import OnnxNetwork
from airmoe.networked import NetworkedConfig, train_run
from airmoe.runs import load_run
from airmoe.runs.run_writing import images_digest


def test_a_networked_run_knows_how_it_was_made(run_folder: Path, digits: ImageSet) -> None:
    run = load_run(run_folder)
    assert (run.method, run.seed, run.has_server) == ("networked", 0, False)
    assert run.config["features"]["rounds"] == 8
    assert run.class_names == digits.class_names
    assert repr(run) == f"Run({str(run_folder)!r}: networked, digits, 4 experts, seed 0)"


def test_a_path_may_be_text(run_folder: Path) -> None:
    assert load_run(str(run_folder)).folder == run_folder


def test_a_run_of_a_server_is_asked_from_the_server(server_folder: Path) -> None:
    run = load_run(server_folder)
    assert (run.method, run.seed, run.has_server) == ("channel-aware", 3, True)
    assert run.model.layer.source == run.manifest.node == 2
    assert run.holds == ((), ())


@pytest.mark.parametrize("fixture", ["run_folder", "server_folder"])
def test_the_model_is_the_exported_one(
    fixture: str, request: pytest.FixtureRequest, digits: ImageSet
) -> None:
    run = load_run(request.getfixturevalue(fixture))
    node = "server" if run.has_server else "00"
    exported = OnnxNetwork(run.folder / "clients" / node / "extractor.onnx", {"input": (1, 32, 32)}, (400,))
    pixels = as_pixels(digits.test_images[:20])
    with torch.no_grad():
        payload = run.model.extractor(torch.from_numpy(pixels))
    np.testing.assert_allclose(exported(pixels), payload.numpy(), atol=1e-4)
    for expert, network in enumerate(run.model.layer.experts):
        stored = load_file(run.folder / "clients" / f"{expert:02d}" / f"expert-{expert}.safetensors")
        assert all(torch.equal(network.state_dict()[name], stored[name]) for name in stored)


def test_the_split_is_that_of_training(run_folder: Path, digits: ImageSet) -> None:
    run = load_run(run_folder)
    parts, expected = run.split(digits), partition(digits.train_labels, 4, "ring", seed=0)
    assert all(np.array_equal(one, other) for one, other in zip(parts, expected, strict=True))
    assert [np.unique(digits.train_labels[part]).tolist() for part in parts] == [list(h) for h in run.holds]


def test_a_server_split_no_images(server_folder: Path, digits: ImageSet) -> None:
    with pytest.raises(InvalidInputError, match="expected networked"):
        load_run(server_folder).split(digits)


def test_the_images_are_those_of_the_run(run_folder: Path, digits: ImageSet) -> None:
    assert np.array_equal(load_run(run_folder).load_images().test_images, digits.test_images)


def test_a_run_on_arrays_names_them_and_knows_that_it_does_not_hold_them(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    train, test = (
        images.repeat(2, axis=2).repeat(2, axis=3)
        for images in (few_digits.train_images, few_digits.test_images)
    )
    mine = replace(few_digits, name="my own", train_images=train, test_images=test)
    train_run(tiny_config(features={"rounds": 1}), mine, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert (run.config["data"]["name"], run.config["data"]["size"]) == ("my own", 64)
    with pytest.raises(RunFolderError, match="was trained on arrays, 'my own', which it does not hold"):
        run.load_images()


@pytest.mark.parametrize("fixture", ["run_folder", "server_folder"])
@pytest.mark.parametrize("size", [16, 32, 48])
def test_images_are_read_in_the_size_of_the_run(
    fixture: str, size: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for number in range(4):
        file = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (60 * number, 200, 10)).save(file)
    run = shutil.copytree(request.getfixturevalue(fixture), tmp_path / "run")
    photos = load_images(f"folder:{tmp_path / 'photos'}", size=size)
    record = json.loads((run / "run.json").read_text("utf-8")) | {"images": images_digest(photos)}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    settings = (run / "config.toml").read_text("utf-8").replace('name = "digits"', f'name = "{photos.name}"')
    (run / "config.toml").write_text(settings.replace("size = 32\n", f"size = {size}\n", 1), "utf-8")
    assert np.array_equal(load_run(run).load_images().test_images, photos.test_images)


def test_a_run_on_a_relative_folder_says_from_elsewhere_where_it_looked(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number in range(4):
        file = here / "photos" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (60 * number, 200, 10)).save(file)
    run = shutil.copytree(run_folder, tmp_path / "run")
    monkeypatch.chdir(here)
    photos = load_images("folder:photos")
    record = json.loads((run / "run.json").read_text("utf-8")) | {"images": images_digest(photos)}
    (run / "run.json").write_text(json.dumps(record), "utf-8")
    settings = (run / "config.toml").read_text("utf-8").replace('"digits"', '"folder:photos"')
    (run / "config.toml").write_text(settings, "utf-8")
    assert np.array_equal(load_run(run).load_images().test_images, photos.test_images)
    monkeypatch.chdir(elsewhere)
    with pytest.raises(RunFolderError) as refused:
        load_run(run).load_images()
    assert str(refused.value) == (
        f"{run} was trained with folder:photos, but there is no such folder (looked for in {elsewhere}); "
        f"go to the folder where it was trained, or correct data.name in {run / 'config.toml'}"
    )
    (run / "config.toml").write_text(settings.replace(":photos", f":{here / 'photos'}"), "utf-8")
    assert np.array_equal(load_run(run).load_images().test_images, photos.test_images)


def test_other_images_than_those_of_training_are_refused(server_folder: Path) -> None:
    # It was trained on a part of the digits, under the same name.
    with pytest.raises(RunFolderError, match="digits holds other images now than"):
        load_run(server_folder).load_images()


def test_a_channel_aware_gate_of_clients_is_loaded_with_its_worth_of_links(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(gate={"channel_aware": True}, links={"transmission": "analog"})
    trained = train_run(config, few_digits, tmp_path / "run")
    gate = load_run(tmp_path / "run").model.layer.gate
    for name, weights in trained.model.layer.gate.state_dict().items():
        assert torch.equal(gate.state_dict()[name], weights)


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["shared/gate.safetensors", "shared/extractor.safetensors", "clients/02/expert-2.safetensors"]
)
def test_damaged_weights_are_refused(copy: Path, name: str) -> None:
    flip_a_bit(copy / name)
    with pytest.raises(RunFolderError, match="is damaged: its weights have hash"):
        load_run(copy)


@pytest.mark.parametrize(
    "name", ["shared/extractor.safetensors", "clients/01/expert-1.safetensors", "run.json", "config.toml"]
)
def test_a_file_that_is_missing_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(RunFolderError, match=str(copy)):
        load_run(copy)


def test_a_record_without_the_digest_of_images_is_of_another_version(copy: Path) -> None:
    record = json.loads((copy / "run.json").read_text("utf-8"))
    del record["images"]
    (copy / "run.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(RunFolderError, match="another version: images is missing"):
        load_run(copy)


def test_an_unfinished_run_is_told_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    for folder in (tmp_path / "run", tmp_path / "run.partial"):
        with pytest.raises(
            RunFolderError, match=f"is not finished: go on with --resume --out {tmp_path}/run$"
        ):
            load_run(folder)


def test_what_is_no_run_folder_is_called_by_what_it_is(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is no run folder; expected a folder that airmoe train"):
        load_run(tmp_path)
    with pytest.raises(RunFolderError, match="is a client's folder"):
        load_run(run_folder / "clients" / "00")
