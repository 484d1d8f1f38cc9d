"""What is no settings or no images is named in a sentence, before anything begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airmoe.channel_aware import train_channel_aware
from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.data import ImageSet, as_pixels
from airmoe.errors import InvalidInputError
from airmoe.networked import (
    NetworkedConfig,
    outlook,
    split_among_clients,
    train_central_moe,
    train_fedavg_network,
    train_run,
    train_stages,
)
from airmoe.runs import compare, dump_config
from airmoe.studies.demo.run import run_demo


def demonstrated(config: Any, images: Any, out: Path) -> None:
    run_demo(config, lambda: images, out, central_epochs=1, ask_images=100)


def centrally(config: Any, images: Any, out: Path) -> None:
    train_central_moe(config, images, 1)


Takes = Callable[[Any, Any, Path], object]
TAKE_SETTINGS_AND_IMAGES: list[Takes] = [
    train_run,
    demonstrated,
    centrally,
    lambda config, images, out: outlook(config, images),
    lambda config, images, out: split_among_clients(config, images),
]


@pytest.mark.parametrize("takes", TAKE_SETTINGS_AND_IMAGES)
@pytest.mark.parametrize("images", ["few", np.zeros((4, 1, 32, 32), np.uint8), None])
def test_what_is_no_image_set_is_named(takes: Takes, images: object, tmp_path: Path) -> None:
    expected = f"^type of images is '{type(images).__name__}'; expected ImageSet$"
    with pytest.raises(InvalidInputError, match=expected):
        takes(NetworkedConfig(), images, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("takes", TAKE_SETTINGS_AND_IMAGES)
@pytest.mark.parametrize("config", ["run.toml", {"seed": 0}, ChannelAwareConfig()])
def test_what_is_no_configuration_is_named(
    takes: Takes, config: object, few_digits: ImageSet, tmp_path: Path
) -> None:
    expected = f"^type of config is '{type(config).__name__}'; expected NetworkedConfig$"
    with pytest.raises(InvalidInputError, match=expected):
        takes(config, few_digits, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_channel_aware_training_names_them_too(few_digits: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^type of config is .*; expected ChannelAwareConfig$"):
        train_channel_aware(NetworkedConfig(), few_digits, tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"^type of images is 'str'; expected ImageSet$"):
        train_channel_aware(ChannelAwareConfig(), "few", tmp_path / "run")  # type: ignore[arg-type]


@pytest.mark.parametrize("train", [train_stages, train_fedavg_network])
def test_images_that_no_clients_share_yet_are_named(
    train: Callable[[Any, Any], object], few_digits: ImageSet
) -> None:
    with pytest.raises(InvalidInputError, match=r"^type of data is 'ImageSet'; expected ClientData$"):
        train(NetworkedConfig(), few_digits)


def test_so_are_a_run_settings_and_pixels_that_are_none(few_digits: ImageSet) -> None:
    with pytest.raises(InvalidInputError, match=r"^type of run is 'str'; expected Run$"):
        compare("runs/train", few_digits)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"^type of config is 'dict'; expected Section$"):
        dump_config({})  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"^images is 'list'; expected a NumPy array, uint8"):
        as_pixels([[0]])  # type: ignore[arg-type]
