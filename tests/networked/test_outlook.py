"""What is told before a long run."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.networked import outlook, split_among_clients, train_stages
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.outlook import BATCHES


def noise(side: int) -> ImageSet:
    images_TCHW = np.random.default_rng(0).integers(0, 256, (12, 3, side, side), dtype=np.uint8)
    labels_T = np.arange(12) % 2
    return ImageSet("noise", images_TCHW, labels_T, images_TCHW[:6], labels_T[:6], ("a", "b"))


def test_it_tells_the_memory_of_the_pixels_and_the_bits_of_an_image(
    tiny_config: Callable[..., NetworkedConfig],
) -> None:
    told = outlook(tiny_config(), noise(64))
    assert (
        told[0]
        == f"12 images to train on, 6 held out, 3 x 64 x 64: {18 * 3 * 64 * 64 * 4 / 1e6:.1f} MB of memory"
    )
    features = 16 * 13 * 13
    assert told[1] == f"{features:,} features travel to an expert: {features * 32 / 1000:.1f} kbit an image"


def test_the_bytes_of_stage_1_are_those_that_are_then_exchanged(
    tiny_config: Callable[..., NetworkedConfig],
) -> None:
    config, images = tiny_config(), noise(32)
    moe = train_stages(config, split_among_clients(config, images))
    exchanged_bytes = sum(row["bytes"] for row in moe.rows if row["stage"] == "features")
    stage_1 = outlook(config, images)[2]
    assert stage_1.startswith("stage 1: ")
    told = float(stage_1.split(", ")[1].split(" MB")[0])
    assert math.isclose(told, exchanged_bytes / 1e6, abs_tol=0.051)


def clock_of(batches_s: list[float]) -> Callable[[], float]:
    """A clock by which the batches take so long, one after another."""
    moments_s = iter([moment for length_s in batches_s for moment in (0.0, length_s)])
    return lambda: next(moments_s)


@pytest.mark.parametrize(
    ("batches_s", "said"),
    [
        ([1.0, 0.2, *(BATCHES - 1) * [0.02]], "about 6 s"),  # the first does not count, and one is nothing
        ([1.0, *4 * [0.02], *5 * [0.1]], "6 to 30 s"),
        ([1.0, 1.2, 1.2], "about 6 min"),  # they took long enough
        ([1.0, *BATCHES * [0.001]], "less than a second"),
    ],
)
def test_the_time_is_the_median_of_a_few_batches_or_a_range_where_they_differ(
    tiny_config: Callable[..., NetworkedConfig], batches_s: list[float], said: str
) -> None:
    """300 rounds of one batch each."""
    told = outlook(tiny_config(features={"rounds": 300}), noise(32), clock=clock_of(batches_s))
    assert told[2].startswith(f"stage 1: {said} on this machine, ")


def test_it_tries_batches_out_on_as_many_threads_as_the_training_uses(
    tiny_config: Callable[..., NetworkedConfig],
) -> None:
    seen = list[int]()

    def clock() -> float:
        seen.append(torch.get_num_threads())
        return float(len(seen))

    torch.set_num_threads(2)
    outlook(tiny_config(), noise(32), clock=clock)
    outlook(tiny_config(model={"backbone": "resnet18", "width": 4}), noise(32), clock=clock)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert set(seen[: len(seen) // 2]) == {1}
    assert set(seen[len(seen) // 2 :]) == {2}


def test_images_that_cannot_be_split_are_refused_before_a_batch_is_tried_out(
    tiny_config: Callable[..., NetworkedConfig],
) -> None:
    said = r"clients is 9; expected at most 6, .* training images of class a \(6\) are shared by 9 clients"
    with pytest.raises(InvalidInputError, match=said):
        outlook(tiny_config(data={"clients": 9}), noise(32), clock=clock_of([]))


@pytest.mark.parametrize(("clients", "partition"), [(9, "ring"), (33, "iid")])
def test_a_split_that_is_refused_says_how_many_images_are_for_training(
    tiny_config: Callable[..., NetworkedConfig], clients: int, partition: str
) -> None:
    said = "; there are 12 training images, and 6 more are held out$"
    with pytest.raises(InvalidInputError, match=said):
        outlook(tiny_config(data={"clients": clients, "partition": partition}), noise(32), clock=clock_of([]))


@pytest.mark.parametrize(
    ("name", "side", "hint"),
    [("folder:photos", 16, True), ("folder:photos", 32, False), ("cifar10", 16, False)],
)
def test_a_frozen_backbone_has_no_stage_1_and_asks_for_images_of_its_size(
    tiny_config: Callable[..., NetworkedConfig], tmp_path: Path, name: str, side: int, hint: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, hidden_size=12, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=24,
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    described = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(described))
    run = tiny_config(data={"name": name}, model={"backbone": f"hf:{tmp_path}"})
    told = outlook(run, noise(side))
    assert told[2].startswith("the backbone is frozen: stage 1 is left out; its features take ")
    assert told[3:] == ["the backbone enlarges images to 32 pixels: size 32 keeps their detail"] * hint


def test_it_leaves_the_random_streams_alone(tiny_config: Callable[..., NetworkedConfig]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    outlook(tiny_config(), noise(32))
    assert torch.equal(torch.rand(2), expected)
