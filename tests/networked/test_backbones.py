"""Every backbone, and images of any size, in federated training.

Shape suffixes: T items, C channels, H height, W width.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.networked import (
    ClientData,
    NetworkedMoe,
    parse_config,
    split_among_clients,
    train_central_moe,
    train_fedavg_network,
    train_run,
    train_stages,
)
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import network_extractor
from airmoe.nn import LeNet5Extractor, PooledExtractor, build_extractor, pool
from airmoe.runs import load_run

CLASSES = 3
BACKBONES: dict[str, tuple[dict[str, Any], int, int]] = {
    "lenet5": ({}, 28, 256),
    "resnet18": ({"width": 4}, 64, 16),
    "vit": ({"width": 12}, 40, 12),
    "hf": ({}, 48, 12),
}
"""For each backbone its options, the side of the images that it gets here, and the features that it gives."""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny vision transformer with random weights, in a folder as Hugging Face makes it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=12, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=24,
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    described = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return f"hf:{folder}"


def coloured(side: int, images: int = 24) -> ImageSet:
    """Noisy pictures whose class is the channel that is bright."""
    random = np.random.default_rng(0)
    labels_T = np.arange(images) % CLASSES
    images_TCHW = random.integers(0, 128, (images, 3, side, side), dtype=np.uint8)
    images_TCHW[np.arange(images), labels_T] += 127
    return ImageSet("colours", images_TCHW, labels_T, images_TCHW, labels_T, ("red", "green", "blue"))


Trained = tuple[NetworkedConfig, ClientData, NetworkedMoe]


@pytest.fixture(scope="module")
def trained(tiny_config: Callable[..., NetworkedConfig], pretrained: str) -> Callable[[str], Trained]:
    """A run of each backbone by its name, trained when it is first asked for."""
    runs: dict[str, Trained] = {}

    def run(backbone: str) -> Trained:
        if backbone not in runs:
            options, side, _ = BACKBONES[backbone]
            name = pretrained if backbone == "hf" else backbone
            config = tiny_config(
                model={"backbone": name, **options},
                features={"rounds": 8, "learning_rate": 0.1, "batch_size": 8},
                experts={"epochs": 60, "learning_rate": 0.1, "batch_size": 8},
                gate={"rounds": 5},
            )
            data = split_among_clients(config, coloured(side))
            runs[backbone] = config, data, train_stages(config, data)
        return runs[backbone]

    return run


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_trained_federatedly_on_images_of_another_size(
    trained: Callable[[str], Trained], backbone: str
) -> None:
    _, data, moe = trained(backbone)
    _, side, features = BACKBONES[backbone]
    assert data.test_images_TCHW.shape[1:] == (3, side, side)
    assert moe.model.extractor.payload_shape == (features,)
    assert moe.model(data.test_images_TCHW[:5]).y_TC.shape == (5, CLASSES)
    assert moe.rows[-1]["macro_f1"] > 0.9


@pytest.mark.parametrize("backbone", BACKBONES)
def test_experts_and_gate_see_the_pooled_payload_of_the_backbone(
    trained: Callable[[str], Trained], backbone: str
) -> None:
    config, data, moe = trained(backbone)
    images_TCHW = data.test_images_TCHW[:4]
    extractor = moe.model.extractor
    whole = extractor.extractor if isinstance(extractor, PooledExtractor) else extractor
    with torch.no_grad():
        torch.testing.assert_close(extractor(images_TCHW), pool(whole(images_TCHW), whole.pooling))
    assert type(whole) is type(
        build_extractor(config.model.backbone, 3, size=(images_TCHW.shape[2], images_TCHW.shape[3]))
    )


def test_nothing_of_a_frozen_backbone_is_trained_or_exchanged(
    trained: Callable[[str], Trained], pretrained: str
) -> None:
    config, data, moe = trained("hf")
    loaded = network_extractor(config.model, (3, 48, 48)).state_dict()
    for name, tensor in moe.model.extractor.state_dict().items():
        if "pooler" in name:  # not in the folder, and not used
            continue
        assert torch.equal(tensor, loaded[name]), name
    assert {row["stage"] for row in moe.rows} == {"experts", "gate statistics", "gate"}
    assert moe.rows[0]["bytes"] == 0
    features, clients = 12, config.data.clients
    gate_bytes = 4 * (features + 1) * clients
    letters_bytes = 2 * 4 * (features + CLASSES) * len(data.labels_T[0]) * clients
    for row in moe.rows[2:]:
        assert row["bytes"] <= 2 * gate_bytes * clients + letters_bytes + 1000


def test_one_fedavg_network_on_a_frozen_backbone_exchanges_its_head_alone(
    trained: Callable[[str], Trained],
) -> None:
    config, data, _ = trained("hf")
    network, rows = train_fedavg_network(config, data)
    head_bytes = sum(4 * tensor.numel() for tensor in network.head.state_dict().values())
    for row in rows:
        numbers_bytes = row["bytes"] - 2 * config.data.clients * head_bytes
        assert 0 <= numbers_bytes <= 100 * config.data.clients
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_central_baseline_takes_every_backbone_and_size(
    trained: Callable[[str], Trained], backbone: str
) -> None:
    config, _, _ = trained(backbone)
    images = coloured(BACKBONES[backbone][1], images=6)
    model, rows = train_central_moe(config, images, epochs=1)
    assert len(rows) == 1
    pixels_TCHW = torch.zeros(2, *images.train_images.shape[1:])
    assert model(pixels_TCHW).y_TC.shape == (2, CLASSES)


def test_resnet18_normalises_groups_in_federated_training(
    trained: Callable[[str], Trained],
) -> None:
    modules = list(trained("resnet18")[2].model.extractor.modules())
    assert any(isinstance(module, torch.nn.GroupNorm) for module in modules)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in modules)


def test_a_normalisation_that_a_backbone_lacks_is_refused_in_words_of_the_settings(
    tiny_config: Callable[..., NetworkedConfig],
) -> None:
    config = tiny_config(model={"backbone": "vit", "norm": "none"})
    with pytest.raises(InvalidInputError, match="norm is 'none'; expected it left out: vit offers no choice"):
        train_stages(config, split_among_clients(config, coloured(32)))


@pytest.mark.parametrize(
    ("size", "at_once"), [((32, 32), 500), ((28, 28), 653), ((128, 128), 31), ((1024, 1024), 1)]
)
def test_larger_images_are_evaluated_fewer_at_once(size: tuple[int, int], at_once: int) -> None:
    assert LeNet5Extractor(1, size=size).images_at_once == at_once


def test_pooled_features_have_no_rest_of_the_network() -> None:
    pooled = PooledExtractor(build_extractor("resnet18", 3, width=4))
    with pytest.raises(InvalidInputError, match="expected a width: experts see pooled features alone"):
        pooled.tail(CLASSES)


def test_a_pretrained_backbone_that_is_not_there_is_named(
    tiny_config: Callable[..., NetworkedConfig], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    config = tiny_config(model={"backbone": f"hf:{tmp_path / 'none'}"})
    with pytest.raises(InvalidInputError, match="expected an existing folder"):
        train_stages(config, split_among_clients(config, coloured(32)))


def test_a_run_is_not_taken_up_with_other_pretrained_weights(
    tiny_config: Callable[..., NetworkedConfig], pretrained: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pretrained.removeprefix("hf:"), folder)
    config, images = tiny_config(model={"backbone": f"hf:{folder}"}), coloured(48)

    def stop(activity: str, done: int, total: int, note: str = "", /) -> None:
        if (activity, done) == ("gate", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config, images, tmp_path / "run", progress=stop)
    weights = load_file(folder / "model.safetensors")
    changed = {name: weight + 0.5 for name, weight in weights.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunFolderError, match="belongs to another configuration, data set or version"):
        train_run(config, images, tmp_path / "run", resume=True)


def test_a_run_is_evaluated_with_the_pretrained_model_of_its_training_alone(
    tiny_config: Callable[..., NetworkedConfig],
    pretrained: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    here, run = tmp_path / "here", tmp_path / "run"
    shutil.copytree(pretrained.removeprefix("hf:"), here / "tiny")
    monkeypatch.chdir(here)
    train_run(tiny_config(model={"backbone": "hf:tiny"}), coloured(48), run)
    assert load_run(run).config["model"]["backbone"] == "hf:tiny"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFolderError) as refused:
        load_run(run)
    assert "was trained with hf:tiny, but source is 'tiny'; expected an existing folder" in str(refused.value)
    assert f"(looked for in {tmp_path}); go to the folder where it was trained" in str(refused.value)
    settings = (run / "config.toml").read_text("utf-8")
    (run / "config.toml").write_text(settings.replace("hf:tiny", f"hf:{here / 'tiny'}"), "utf-8")
    load_run(run)
    weights = load_file(here / "tiny" / "model.safetensors")
    changed = {name: weight + 0.5 for name, weight in weights.items()}
    save_file(changed, here / "tiny" / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunFolderError, match=r"is another model now than .*run was trained with"):
        load_run(run)


@pytest.mark.long
def test_a_pretrained_backbone_may_be_tuned(
    tmp_path: Path, tiny_config: Callable[..., NetworkedConfig], pretrained: str
) -> None:
    config = tiny_config(
        model={"backbone": pretrained, "tuned": True}, features={"rounds": 3, "learning_rate": 0.1}
    )
    images = coloured(32)
    trained = train_run(config, images, tmp_path / "run")
    first, *_, last = [row for row in trained.rows if row["stage"] == "features"]
    assert float(last["loss"]) < float(first["loss"])
    loaded = network_extractor(config.model, (3, 32, 32)).state_dict()
    tuned = trained.model.extractor.state_dict()
    assert any(not torch.equal(tuned[name], loaded[name]) for name in loaded)
    (told,) = [row["bytes"] for row in trained.rows if row["stage"] == "experts"]
    assert told == config.data.clients * sum(tensor.nbytes for tensor in tuned.values())
    again = load_run(tmp_path / "run").model.extractor.state_dict()
    assert all(torch.equal(again[name], tuned[name]) for name in tuned)


def test_a_backbone_that_is_trained_anyhow_is_not_tuned() -> None:
    with pytest.raises(InvalidInputError, match=r"model\.tuned is True; expected False: stage 1 trains"):
        parse_config("[model]\ntuned = true", "test")
