"""One demonstration by the real command, and the settings of others that are over in seconds."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.commands import ended, processes_about

ASKED = 40
"""Images that each client of the demonstration asks."""

DEMO_SETTINGS = """
[data]
clients = 5
[features]
rounds = 14
[gate]
rounds = 12
"""
TINY_SETTINGS = """
[data]
clients = 3
[features]
rounds = 2
[experts]
epochs = 2
[gate]
rounds = 2
"""


@dataclass(frozen=True)
class Demonstration:
    """What a finished demonstration left."""

    process: subprocess.CompletedProcess[str]
    out: Path
    processes_left: dict[int, str]

    @property
    def results(self) -> dict[str, Any]:
        return json.loads((self.out / "results.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    @property
    def page(self) -> str:
        return (self.out / "report.html").read_text(encoding="utf-8")

    def method(self, name: str) -> dict[str, Any]:
        (method,) = [method for method in self.results["methods"] if method["name"] == name]
        return method  # type: ignore[no-any-return]

    def over_analog_links(self, name: str) -> dict[str, Any]:
        (method,) = [method for method in self.results["analog"]["methods"] if method["name"] == name]
        return method  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """A whole demonstration: 5 clients, some images asked by each, also over analog links."""
    folder = tmp_path_factory.mktemp("demonstration")
    (folder / "settings.toml").write_text(DEMO_SETTINGS, encoding="utf-8")
    options = ["--config", folder / "settings.toml", "--ask", ASKED, "--central-epochs", 2, "--analog"]
    process = ended("demo", *options, "--out", folder / "out" / "run", timeout_s=500)
    return Demonstration(process, folder / "out" / "run", processes_about(folder))


@pytest.fixture
def tiny_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of 3 clients that are trained in two seconds; not in ``tmp_path``, which tests look into."""
    path = tmp_path_factory.mktemp("settings") / "tiny.toml"
    path.write_text(TINY_SETTINGS, encoding="utf-8")
    return path
