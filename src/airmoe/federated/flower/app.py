"""The folder that ``flwr run`` wants: it only names parts that are installed, and ships no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tomli_w

from airmoe.errors import InvalidInputError
from airmoe.versions import version_of

Settings = Mapping[str, str | int | float | bool]
"""What a run is told: names and values."""


def write_app(folder: Path, server: str, client: str, settings: Settings) -> None:
    """Write the folder.

    Args:
        folder: to make.
        server: ``module:attribute`` of the ServerApp.
        client: of the ClientApp.
        settings: what ``flwr run --run-config`` may change, with what holds otherwise.

    Raises:
        InvalidInputError: the folder exists.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InvalidInputError("folder", str(folder), "one that does not exist") from None
    project = {
        "project": {
            "name": "airmoe-run",
            "version": version_of("airmoe", "airmoe"),
            "description": "Names what airmoe has installed; holds no code",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "airmoe",
                    "components": {"serverapp": server, "clientapp": client},
                    "config": dict(settings),
                }
            }
        },
    }
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project), encoding="utf-8")
