"""The environment of Flower's processes: a home of their own, and nothing that calls home."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # airmoe is installed already; no downloads
}


def environment(home: Path) -> dict[str, str]:
    """Return the environment for a process of Flower.

    Args:
        home: where Flower keeps its configuration and unpacks runs; a folder per process.
    """
    commands = str(Path(sys.executable).parent)  # Flower starts its own commands by name
    path = os.pathsep.join([commands, os.environ.get("PATH", os.defpath)])
    return {**os.environ, **_QUIET, "FLWR_HOME": str(home), "PATH": path}


def be_quiet(home: Path) -> None:
    """Give this process that environment; before anything of Flower is imported."""
    os.environ.update(environment(home))
