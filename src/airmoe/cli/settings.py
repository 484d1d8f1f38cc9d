"""Settings of a run, from a file or built in; options of the command line change them."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from airmoe.errors import InvalidInputError, one_of
from airmoe.manifest import MOST_GAINS
from airmoe.newfolder import CONFIG, partial_of

if TYPE_CHECKING:
    from airmoe.channel_aware.config import ChannelAwareConfig
    from airmoe.language.config import DmoeConfig
    from airmoe.networked.config import NetworkedConfig

NETWORKED, CHANNEL_AWARE, DMOE = "networked", "channel-aware", "dmoe"

_OPTIONS = {"data.name": "data", "data.size": "size", "model.backbone": "backbone"}
"""The options of the command line that change a setting of any method."""


SECTIONS_OF = {
    NETWORKED: {"features", "experts", "gate"},
    CHANNEL_AWARE: {"clean", "channel", "precision"},
    DMOE: {"dense", "branch", "mix"},
}
"""Keys that only the settings of one method have: they tell which one a file is for that names none."""


def method_of(config: Path | None, asked: str | None = None) -> str:
    """Return the method of a run: the one asked for, that of a file of settings, or networked.

    Raises:
        InvalidInputError: the file cannot be read or is not TOML, names a method that there is not, or is for
            another one than the one asked for.
    """
    from airmoe.files import read_toml_text

    if config is None:
        return asked or NETWORKED
    text = read_toml_text(config)
    try:
        keys = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(config.name, str(error), "valid TOML") from None
    named = keys.get("method")
    if named is None:
        fitting = [name for name, sections in SECTIONS_OF.items() if sections & keys.keys()]
        named = fitting[0] if len(fitting) == 1 else None
    elif named not in SECTIONS_OF:
        raise InvalidInputError(f"{config.name}: method", named, one_of(named, SECTIONS_OF))
    if asked and named and asked != named:
        raise InvalidInputError("method", asked, f"{named}: that is what {config.name} has settings for")
    return asked or named or NETWORKED


def begun_settings(out: Path) -> Path | None:
    """Return the settings that an interrupted run of ``out`` was begun with; None if there are none."""
    begun = partial_of(out) / CONFIG
    return begun if begun.exists() else None


def networked_settings(
    data: str | None,
    config: Path | None,
    clients: int | None,
    seed: int | None,
    *,
    size: int | None = None,
    backbone: str | None = None,
) -> "NetworkedConfig":
    """Return the settings of a networked run; without a file, those of the demonstration."""
    from airmoe.data import is_official
    from airmoe.networked.config import load_config, parse_config
    from airmoe.runs.settings import changed

    if config is not None:
        settings = load_config(config)
    else:
        text, name = _built_in("airmoe.networked", official=is_official(data or ""))
        settings = parse_config(text, name)
    values: dict[str, object] = {"data.name": data, "data.clients": clients, "seed": seed}
    values |= {"data.size": size, "model.backbone": backbone}
    if clients is not None and clients > 1:  # a subcarrier of its own for every link, as far as memory allows
        wanted = max(settings.links.subcarriers, clients * (clients - 1))
        values["links.subcarriers"] = min(wanted, MOST_GAINS // clients**2)
    return changed(settings, values, _OPTIONS | {"data.clients": "clients"})


def channel_aware_settings(
    data: str | None,
    config: Path | None,
    experts: int | None,
    seed: int | None,
    *,
    size: int | None = None,
    backbone: str | None = None,
) -> "ChannelAwareConfig":
    """Return the settings of a channel-aware run; without a file, those for digits or for CIFAR."""
    from airmoe.channel_aware.config import ChannelAwareConfig
    from airmoe.data import is_official
    from airmoe.files import read_toml_text
    from airmoe.runs.settings import changed, parse_section

    if config is not None:
        text, name = read_toml_text(config), config.name
    else:
        text, name = _built_in("airmoe.channel_aware", official=is_official(data or ""))
    settings = parse_section(ChannelAwareConfig, text, name)
    values = {"data.name": data, "model.experts": experts, "seed": seed}
    values |= {"data.size": size, "model.backbone": backbone}
    return changed(settings, values, _OPTIONS | {"model.experts": "clients"})


def dmoe_settings(
    data: str | None, config: Path | None, experts: int | None, seed: int | None
) -> "DmoeConfig":
    """Return the settings of a language model; without a file, the defaults."""
    from airmoe.files import read_toml_text
    from airmoe.language.config import DmoeConfig
    from airmoe.runs.settings import changed, parse_section

    settings = DmoeConfig()
    if config is not None:
        settings = parse_section(DmoeConfig, read_toml_text(config), config.name)
    values = {"data.name": data, "model.experts": experts, "seed": seed}
    return changed(settings, values, {"data.name": "data", "model.experts": "clients"})


def _built_in(package: str, *, official: bool) -> tuple[str, str]:
    """Return the text and the name of the settings that a package brings."""
    name = "cifar10.toml" if official else "digits.toml"
    return files(package).joinpath(name).read_text(encoding="utf-8"), name
