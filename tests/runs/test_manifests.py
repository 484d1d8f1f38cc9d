"""What cannot be written is found before training: no round is trained, and nothing is left."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from airmoe.channel_aware import train_channel_aware
from airmoe.channel_aware.config import ChannelAwareConfig, MixtureSettings, ServedLinks
from airmoe.cli.settings import networked_settings
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.manifest import MOST_GAINS, RadioSpec
from airmoe.networked import train_run
from airmoe.runs.manifests import rehearse_manifests

if TYPE_CHECKING:
    from airmoe.networked.config import NetworkedConfig

Tiny = Callable[..., "NetworkedConfig"]


def never(activity: str, done: int, total: int, note: str = "", /) -> None:
    raise AssertionError(f"{activity} has begun")


def strangely_named(images: ImageSet) -> ImageSet:
    """Images with a class whose folder has a name in Latin-1, as Python reads it."""
    return replace(images, class_names=(b"caf\xe9".decode(errors="surrogateescape"), *images.class_names[1:]))


def test_a_networked_run_is_rehearsed(tmp_path: Path, few_digits: ImageSet, tiny_config: Tiny) -> None:
    config = tiny_config(links={"subcarriers": 1 << 20}, data={"clients": 9})
    with pytest.raises(InvalidInputError, match=r"nodes\^2 x subcarriers"):
        train_run(config, few_digits, tmp_path / "made" / "run", progress=never)
    with pytest.raises(InvalidInputError, match="name of a class"):
        train_run(tiny_config(), strangely_named(few_digits), tmp_path / "made" / "run", progress=never)
    assert list(tmp_path.iterdir()) == []


def test_a_channel_aware_run_is_rehearsed(tmp_path: Path, few_digits: ImageSet) -> None:
    config = ChannelAwareConfig(
        model=MixtureSettings(experts=9), links=ServedLinks(subcarriers=1 << 20, transmission="analog")
    )
    with pytest.raises(InvalidInputError, match=r"nodes\^2 x subcarriers"):
        train_channel_aware(config, few_digits, tmp_path / "made" / "run", progress=never)
    with pytest.raises(InvalidInputError, match="name of a class"):
        train_channel_aware(
            ChannelAwareConfig(), strangely_named(few_digits), tmp_path / "made" / "run", progress=never
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clients", [1, 2, 11, 90, 91, 100, 256, 1000])
def test_the_command_line_chooses_subcarriers_that_can_be_written(clients: int) -> None:
    settings = networked_settings("digits", None, clients, None)
    wanted = max(128, clients * (clients - 1))
    assert settings.links.subcarriers == min(wanted, MOST_GAINS // clients**2)
    radio = RadioSpec(**settings.links.model_dump(), seed=0)
    holds: list[list[int]] = [[0]] * clients
    rehearse_manifests(mesh="lab", class_names=("a", "b"), holds=holds, radio=radio)


@pytest.mark.parametrize("server", [False, True])
def test_names_in_any_script_are_no_trouble(server: bool) -> None:
    names = ("café", "猫", "ß", "a\nb", "$x^", '<b>"')
    rehearse_manifests(
        mesh="lab", class_names=names, holds=[[0], [5]], radio=RadioSpec(seed=0), server=server
    )


def test_a_run_needs_no_metadata_of_packages(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    nothing = SimpleNamespace(
        version=unknown, packages_distributions=dict, PackageNotFoundError=metadata.PackageNotFoundError
    )
    monkeypatch.setattr("airmoe.versions.metadata", nothing)
    train_run(tiny_config(), few_digits, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["versions"]["numpy"] == np.__version__
