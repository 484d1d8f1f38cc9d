"""One demonstration by the real command, and the settings of others that are over in seconds."""

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from airmoe.data import ImageSet
from airmoe.report import DemoResults, read_results
from airmoe.report.measured import AnalogResults, Figures, MethodId
from tests.system.commands import ended, processes_about

ASKED = 40
"""Images that each client of the demonstration asks."""

DEMO_SETTINGS = """
[data]
clients = 5
[features]
rounds = 14
[gate]
rounds = 30
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

    @cached_property
    def results(self) -> DemoResults:
        return read_results(self.out)

    @property
    def analog(self) -> AnalogResults:
        assert self.results.analog is not None
        return self.results.analog

    @property
    def page(self) -> str:
        return (self.out / "report.html").read_text(encoding="utf-8")

    def figures(self, method: MethodId) -> Figures:
        return self.results.method(method).figures


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


@pytest.fixture(scope="session")
def ten_nodes(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """The run folder of a short federated run of 10 clients."""
    from airmoe.networked import train_run
    from airmoe.networked.config import parse_config

    settings = "[features]\nrounds = 10\n[gate]\nrounds = 20\n"
    out = tmp_path_factory.mktemp("ten") / "run"
    train_run(parse_config(settings, "ten clients"), digits, out)
    return out
