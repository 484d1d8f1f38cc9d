"""Settings of a run: those of a file, or built in, with what the command line's options say instead."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from airmoe.errors import InvalidInputError

if TYPE_CHECKING:
    from airmoe.channel_aware.config import TwoStageConfig
    from airmoe.networked.config import NetworkedConfig

NETWORKED, CHANNEL_AWARE = "networked", "channel-aware"


def method_of(config: Path | None) -> str:
    """Return the method that a file of settings is for; networked if it names none.

    Raises:
        InvalidInputError: the file cannot be read or is not TOML, or it names another method.
    """
    from airmoe.runs.settings import read_settings

    if config is None:
        return NETWORKED
    text = read_settings(config)
    try:
        method = tomllib.loads(text).get("method")
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(config.name, str(error), "valid TOML") from None
    if method not in (None, CHANNEL_AWARE):
        raise InvalidInputError(
            f"{config.name}: method", method, f"{CHANNEL_AWARE}, or no method for a {NETWORKED} run"
        )
    return method or NETWORKED


def federated_settings(
    data: str | None, config: Path | None, clients: int | None, seed: int | None
) -> "NetworkedConfig":
    """Return the settings of a federated run; without a file, those of the demonstration."""
    from airmoe.networked.config import load_config, parse_config
    from airmoe.runs.settings import dump_config

    if config is not None:
        settings = load_config(config)
    else:
        name = "cifar10.toml" if (data or "").startswith("cifar") else "digits.toml"
        settings = parse_config(_built_in("airmoe.networked", name), name)
    options = {"name": data, "clients": clients}
    split = settings.data.model_copy(
        update={key: value for key, value in options.items() if value is not None}
    )
    changes: dict[str, object] = {"data": split}
    if clients is not None:  # a subcarrier of its own for every link
        enough = max(settings.links.subcarriers, clients * (clients - 1))
        changes["links"] = settings.links.model_copy(update={"subcarriers": enough})
    if seed is not None:
        changes["seed"] = seed
    return parse_config(dump_config(settings.model_copy(update=changes)), "options")


def gated_settings(
    data: str | None, config: Path | None, experts: int | None, seed: int | None
) -> "TwoStageConfig":
    """Return the settings of a run in two stages; without a file, those for digits or for CIFAR."""
    from airmoe.channel_aware.config import TwoStageConfig
    from airmoe.runs.settings import dump_config, parse_section, read_settings

    if config is not None:
        settings = parse_section(TwoStageConfig, read_settings(config), config.name)
    else:
        name = f"{'cifar10' if (data or '').startswith('cifar') else 'digits'}.toml"
        settings = parse_section(TwoStageConfig, _built_in("airmoe.channel_aware", name), name)
    changes: dict[str, object] = {}
    if data is not None:
        changes["data"] = settings.data.model_copy(update={"name": data})
    if experts is not None:
        changes["model"] = settings.model.model_copy(update={"experts": experts})
    if seed is not None:
        changes["seed"] = seed
    return parse_section(TwoStageConfig, dump_config(settings.model_copy(update=changes)), "options")


def _built_in(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
