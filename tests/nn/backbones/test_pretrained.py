"""Vision models of Hugging Face as frozen extractors: tiny ones with random weights, saved and loaded.

Shape suffixes: T items, C channels, H height, W width.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from airmoe.errors import InvalidInputError, MissingExtraError
from airmoe.nn import MlpExpert, PretrainedExtractor, build_extractor, build_model, pool
from airmoe.runs.onnx_files import export_onnx

transformers = pytest.importorskip("transformers")
huggingface_hub = pytest.importorskip("huggingface_hub")

MEAN, STD = [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]
SIZE = {"height": 16, "width": 16}
ATTENTION = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 24}


def vit(**options: Any) -> nn.Module:
    return transformers.ViTModel(
        transformers.ViTConfig(image_size=16, patch_size=8, **(ATTENTION | options)), add_pooling_layer=False
    )


def resnet() -> nn.Module:
    return transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    )


def swin() -> nn.Module:
    """Tokens, and no class token among them."""
    config = transformers.SwinConfig(
        image_size=16, patch_size=4, embed_dim=8, depths=[1], num_heads=[2], window_size=2
    )
    return transformers.SwinModel(config, add_pooling_layer=False)


def saved(model: nn.Module, folder: Path, **settings: Any) -> str:
    model.save_pretrained(folder)
    described = {"size": SIZE, "image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return str(folder)


def normalised(images_TCHW: Tensor) -> Tensor:
    return (images_TCHW - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(vit(), tmp_path_factory.mktemp("vit"))


@pytest.mark.parametrize(
    ("make", "shape", "features"), [(vit, (5, 12), 12), (resnet, (8, 2, 2), 8), (swin, (17, 8), 8)]
)
def test_the_payload_is_the_last_hidden_state(
    make: Callable[[], nn.Module], shape: tuple[int, ...], features: int, tmp_path: Path
) -> None:
    model = make().eval()
    extractor = PretrainedExtractor(saved(model, tmp_path))
    assert (extractor.payload_shape, extractor.features) == (shape, features)
    images_TCHW = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        hidden_T = model(pixel_values=normalised(images_TCHW)).last_hidden_state
        payload_T = extractor(images_TCHW)
    assert payload_T.shape == (3, *shape)
    torch.testing.assert_close(payload_T[:, -hidden_T.shape[1] :], hidden_T)
    if make is swin:
        torch.testing.assert_close(pool(payload_T, extractor.pooling), hidden_T.mean(dim=1))


def test_images_are_resized_as_pillow_does(vit_folder: str) -> None:
    extractor = PretrainedExtractor(vit_folder)
    for side in (8, 32):  # to be made larger and smaller
        bytes_HWC = torch.randint(256, (side, side, 3), dtype=torch.uint8).numpy()
        bands = [Image.fromarray(bytes_HWC[:, :, channel]).convert("F") for channel in range(3)]
        resized = [band.resize((16, 16), Image.Resampling.BILINEAR) for band in bands]
        expected_1CHW = torch.stack([torch.from_numpy(np.array(band)) for band in resized]).unsqueeze(0)
        given_1CHW = torch.tensor(bytes_HWC).permute(2, 0, 1).unsqueeze(0) / 255
        torch.testing.assert_close(extractor(given_1CHW), extractor(expected_1CHW / 255))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"size": 16}, (16, 16)),
        ({"size": {"height": 16, "width": 24}}, (16, 24)),
        ({"size": {"shortest_edge": 20}}, (20, 20)),
        ({"size": {"shortest_edge": 20}, "crop_size": SIZE, "do_center_crop": True}, (16, 16)),
        ({"size": {"shortest_edge": 20}, "crop_size": 16, "do_center_crop": False}, (20, 20)),
    ],
)
def test_the_size_is_what_the_model_was_trained_on(
    settings: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    assert PretrainedExtractor(saved(resnet(), tmp_path, **settings)).size == size


def test_a_model_that_wants_pixels_as_they_are_gets_them(tmp_path: Path) -> None:
    folder = saved(vit(), tmp_path, do_normalize=False, image_mean=None, image_std=None)
    extractor, images_TCHW = PretrainedExtractor(folder), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(
        extractor(images_TCHW), extractor.model(pixel_values=images_TCHW).last_hidden_state
    )


def test_grey_images_are_repeated_for_a_model_of_colour_images(vit_folder: str) -> None:
    extractor, images_TCHW = PretrainedExtractor(vit_folder, channels=1), torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(extractor(images_TCHW), extractor(images_TCHW.repeat(1, 3, 1, 1)))


def test_a_model_of_pixels_up_to_255_gets_them(tmp_path: Path) -> None:
    mean, std = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
    described = {"do_rescale": False, "image_mean": mean, "image_std": std}
    images_TCHW = torch.rand(2, 3, 16, 16)
    mean_C11, std_C11 = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))
    for settings, given_TCHW in (
        (described, (255 * images_TCHW - mean_C11) / std_C11),
        (described | {"do_normalize": False}, 255 * images_TCHW),
    ):
        extractor = PretrainedExtractor(saved(vit(), tmp_path, **settings))
        expected_T = extractor.model(pixel_values=given_TCHW).last_hidden_state
        torch.testing.assert_close(extractor(images_TCHW), expected_T)


def test_weights_in_half_precision_are_read_as_float32(tmp_path: Path) -> None:
    extractor = PretrainedExtractor(saved(vit().half(), tmp_path))
    assert {parameter.dtype for parameter in extractor.parameters()} == {torch.float32}


def test_training_leaves_the_extractor_as_it_is(tmp_path: Path) -> None:
    folder = saved(vit(hidden_dropout_prob=0.5), tmp_path)
    model = build_model(f"hf:{folder}", classes=4, experts=2, expert_hidden=4, gate="concat")
    model.train()
    assert not any(module.training for module in model.extractor.modules())
    assert all(type(expert) is MlpExpert for expert in model.layer.experts)
    before = {name: tensor.clone() for name, tensor in model.extractor.state_dict().items()}
    images_TCHW, labels_T = torch.rand(6, 3, 32, 32), torch.arange(6) % 4
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
    functional.nll_loss(model(images_TCHW).y_TC.log(), labels_T).backward()
    optimiser.step()
    assert all(parameter.grad is None for parameter in model.extractor.parameters())
    for name, tensor in model.extractor.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.usefixtures("traced_anew")
def test_it_exports_with_a_free_batch_axis(vit_folder: str, tmp_path: Path) -> None:
    network = nn.Sequential(
        build_extractor(f"hf:{vit_folder}", 3), MlpExpert(12, 4, hidden=4, pooling="tokens")
    ).eval()
    export_onnx(network, {"input": torch.rand(2, 3, 32, 32)}, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    images_TCHW = torch.rand(5, 3, 32, 32)
    (probability_TC,) = session.run(["output"], {"input": images_TCHW.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(probability_TC), network(images_TCHW), atol=1e-5, rtol=0)


def test_a_pretrained_model_has_no_tail_of_its_own(vit_folder: str) -> None:
    with pytest.raises(InvalidInputError, match="expert_hidden is None; expected a width"):
        build_model(f"hf:{vit_folder}", classes=4, experts=2, expert_hidden=None)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[llm\]"):
        build_extractor("hf:somebody/something", 3)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Exception], None]:
    """Let the hub answer with an error, and its cache be empty; nobody may ask twice."""

    def answers(error: Exception) -> None:
        def model_info(*_: object, **__: object) -> None:
            raise error

        def never(*_: object, **__: object) -> None:
            raise AssertionError("the hub is asked again")

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
        monkeypatch.setattr("huggingface_hub.utils._http.get_session", never)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    return answers


@pytest.mark.parametrize(
    ("source", "relative"),
    [
        ("/nowhere/at/all", False),
        ("~/nowhere/at/all", False),
        ("./nowhere", True),
        ("../nowhere/at", True),
        ("nowhere", True),
        ("a/b/c", True),
        ("models/vit", True),
        ("models/", True),
    ],
)
def test_what_looks_like_a_folder_is_not_asked_for_on_the_hub(
    source: str,
    relative: bool,
    hub: Callable[[Exception], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    hub(AssertionError("asked"))
    (tmp_path / "models" / "another").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError) as refused:
        PretrainedExtractor(source)
    told = "expected an existing folder, or a name on the Hugging Face hub, ORG/NAME"
    if source == "models/":
        told = "it has no config.json"
    elif relative:
        told += f" (looked for in {tmp_path})"
    assert str(refused.value).endswith(told)


def test_a_hub_that_cannot_be_asked_costs_one_question_and_one_line(
    hub: Callable[[Exception], None], capfd: pytest.CaptureFixture[str]
) -> None:
    hub(OSError("no route\nto it"))
    capfd.readouterr()
    with pytest.raises(InvalidInputError) as refused:
        PretrainedExtractor("somebody/something")
    assert str(refused.value) == (
        "source is 'somebody/something'; expected a model in the cache, or a hub that can be asked "
        "(no route to it)"
    )
    assert capfd.readouterr() == ("", "")


def test_a_name_that_the_hub_does_not_know_is_refused(hub: Callable[[Exception], None]) -> None:
    error = huggingface_hub.errors.RepositoryNotFoundError
    hub(error.__new__(error))
    with pytest.raises(InvalidInputError, match="it has no such model, or none that you may see"):
        PretrainedExtractor("somebody/something")


def test_a_model_in_the_cache_is_read_without_the_hub(
    hub: Callable[[Exception], None], tmp_path: Path
) -> None:
    hub(OSError("no route"))
    place = tmp_path / "cache" / "models--somebody--something"
    folder = place / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    saved(vit(), folder)
    cached, local = PretrainedExtractor("somebody/something"), PretrainedExtractor(str(folder))
    assert cached.digest() == local.digest()


def test_the_digest_is_that_of_weights_settings_and_images(tmp_path: Path) -> None:
    model = resnet()
    first, moved = (PretrainedExtractor(saved(model, tmp_path / name)).digest() for name in ("a", "b"))
    assert first == moved
    others = [
        saved(model, tmp_path / "size", size={"height": 24, "width": 16}),
        saved(model, tmp_path / "mean", image_mean=[0.5, 0.5, 0.5]),
    ]
    model.config.hidden_act = "gelu"
    others.append(saved(model, tmp_path / "activation"))
    model.config.hidden_act = "relu"
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] += 1e-3
    others.append(saved(model, tmp_path / "weights"))
    assert len({first, *(PretrainedExtractor(other).digest() for other in others)}) == 5


def test_what_was_not_loaded_is_no_part_of_the_digest(vit_folder: str) -> None:
    """A pooler that nobody asks is drawn at random each time."""
    assert PretrainedExtractor(vit_folder).digest() == PretrainedExtractor(vit_folder).digest()


def test_loading_says_nothing_of_what_is_not_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved(vit(), tmp_path)  # without a pooler, which nobody asks
    capfd.readouterr()
    PretrainedExtractor(folder)
    assert capfd.readouterr() == ("", "")


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    model = vit()
    folder = saved(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidInputError, match="a vision model of Hugging Face with safetensors weights"):
        PretrainedExtractor(folder)


def test_code_that_lies_beside_the_weights_is_not_run(tmp_path: Path) -> None:
    folder, marker = saved(vit(), tmp_path), tmp_path / "ran"
    (tmp_path / "modeling.py").write_text(
        f"open({str(marker)!r}, 'w')\nclass Config: ...\nclass Model: ...\n"
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "modeling.Config", "AutoModel": "modeling.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInputError, match="trust_remote_code"):
        PretrainedExtractor(folder)
    assert not marker.exists()


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    folder = saved(vit(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(InvalidInputError, match=r"weights for all of the model; .*layers?\.1\..* has none"):
        PretrainedExtractor(folder)


def test_a_model_that_masks_at_random_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTMAEConfig(image_size=16, patch_size=4, **ATTENTION)
    with pytest.raises(InvalidInputError, match="the same each time for the same image"):
        PretrainedExtractor(saved(transformers.ViTMAEModel(config), tmp_path))


def test_a_model_of_something_else_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=8, max_position_embeddings=8, **ATTENTION)
    with pytest.raises(InvalidInputError, match="expected a vision model of Hugging Face"):
        PretrainedExtractor(saved(transformers.BertModel(config, add_pooling_layer=False), tmp_path))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"size": {}}, "names no height and width"),
        ({"size": -1}, "preprocessor_config.json: size"),
        ({"size": None}, "preprocessor_config.json: size"),
        ({"image_mean": [0.5]}, "image_mean and image_std are not 3 numbers each"),
        ({"image_mean": None}, "image_mean and image_std are not 3 numbers each"),
        ({"image_std": [0.5, 0.0, 0.5]}, "preprocessor_config.json: image_std"),
        ({"rescale_factor": 1 / 127.5}, "preprocessor_config.json: rescale_factor"),
        ({"do_flip_channel_order": True}, "preprocessor_config.json: do_flip_channel_order"),
        ({"do_resize": False}, "preprocessor_config.json: do_resize"),
    ],
)
def test_images_that_are_described_wrongly_or_unusually_are_refused(
    settings: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    folder = saved(vit(), tmp_path, **settings)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        PretrainedExtractor(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["preprocessor_config.json", "config.json", "model.safetensors"])
def test_a_folder_without_a_file_of_the_model_is_told_which(missing: str, tmp_path: Path) -> None:
    folder = saved(vit(), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InvalidInputError) as refused:
        PretrainedExtractor(folder)
    assert str(refused.value) == (
        f"source is {folder!r}; expected a vision model of Hugging Face with safetensors weights, a folder "
        "with config.json, model.safetensors and preprocessor_config.json; it has no "
        + missing.replace("model.", "*.")
    )
