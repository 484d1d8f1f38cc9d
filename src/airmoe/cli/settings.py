"""Settings of a run, from a file or built in; options of the command line change them."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from airmoe.errors import InvalidInputError
from airmoe.manifest import MOST_GAINS

if TYPE_CHECKING:
    from airmoe.channel_aware.config import ChannelAwareConfig
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


def networked_settings(
    data: str | None, config: Path | None, clients: int | None, seed: int | None
) -> "NetworkedConfig":
    """Return the settings of a networked run; without a file, those of the demonstration."""
    from airmoe.data import is_cifar
    from airmoe.networked.config import load_config, parse_config
    from airmoe.runs.settings import changed

    if config is not None:
        settings = load_config(config)
    else:
        text, name = _built_in("airmoe.networked", cifar=is_cifar(data or ""))
        settings = parse_config(text, name)
    values: dict[str, object] = {"data.name": data, "data.clients": clients, "seed": seed}
    if clients is not None and clients > 1:  # a subcarrier of its own for every link, as far as memory allows
        wanted = max(settings.links.subcarriers, clients * (clients - 1))
        values["links.subcarriers"] = min(wanted, MOST_GAINS // clients**2)
    return changed(settings, values, {"data.name": "data", "data.clients": "clients"})


def channel_aware_settings(
    data: str | None, config: Path | None, experts: int | None, seed: int | None
) -> "ChannelAwareConfig":
    """Return the settings of a channel-aware run; without a file, those for digits or for CIFAR."""
    from airmoe.channel_aware.config import ChannelAwareConfig
    from airmoe.data import is_cifar
    from airmoe.runs.settings import changed, parse_section, read_settings

    if config is not None:
        text, name = read_settings(config), config.name
    else:
        text, name = _built_in("airmoe.channel_aware", cifar=is_cifar(data or ""))
    settings = parse_section(ChannelAwareConfig, text, name)
    values = {"data.name": data, "model.experts": experts, "seed": seed}
    return changed(settings, values, {"data.name": "data", "model.experts": "clients"})


def _built_in(package: str, *, cifar: bool) -> tuple[str, str]:
    """Return the text and the name of the settings that a package brings."""
    name = "cifar10.toml" if cifar else "digits.toml"
    return files(package).joinpath(name).read_text(encoding="utf-8"), name
