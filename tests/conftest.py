"""What is slow and shared: loaded or trained once per session. Never write into ``run_folder``: copy it."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airmoe import parts
from airmoe.data import ImageSet, load_images
from airmoe.plugins import unload_plugins

if TYPE_CHECKING:
    from airmoe.networked.config import NetworkedConfig


def pytest_configure() -> None:
    """Hear SIGINT, as every process that a test starts then does, even in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, lest one worker is left with them at the end."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.parent not in (here / "system", here))
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: runs with --long"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks: more threads cost more than they bring, and a busy machine makes it far worse."""
    try:
        import torch
    except ImportError:  # the core's tests run without PyTorch
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def operators_read_once() -> None:
    """Read PyTorch's ONNX operators once a session: it parses 1,500 functions anew for every export."""
    try:
        from torch.onnx._internal.exporter import _registration
    except ImportError:  # no PyTorch, or another one
        return
    apis = _registration.onnxscript_apis
    apis.get_torchlib_ops = functools.cache(apis.get_torchlib_ops)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests that all of its workers share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def networks_traced_once(shared_folder: Path) -> Iterator[None]:
    """Trace networks of one form once a session, wherever they are exported: see ``tests/traces.py``."""
    with pytest.MonkeyPatch.context() as patch:
        if "airmoe.runs.onnx_files" in sys.modules:  # some test loads it; for others it would take seconds
            from tests.traces import remember_traces

            remember_traces(shared_folder, patch)
        yield


@pytest.fixture
def traced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace every network, for tests of the traces themselves."""
    from airmoe.runs import onnx_files
    from tests.traces import TRACED

    monkeypatch.setattr(onnx_files, "_traced", TRACED)


@pytest.fixture(autouse=True)
def no_part_stays() -> Iterator[None]:
    """Forget what a test registered by name: examples and plugins bring parts of their own."""
    known = dict(parts._parts)
    yield
    unload_plugins()
    parts._parts.clear()
    parts._parts.update(known)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """1,797 handwritten digits, 1x32x32, 450 of them held out."""
    return load_images("digits")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """The run folder of a short federated run: 4 clients on a ring."""
    from airmoe.networked import train_run
    from airmoe.networked.config import parse_config

    config = parse_config(
        "[data]\nclients = 4\n[features]\nrounds = 8\n[gate]\nrounds = 10\n[experts]\nepochs = 10\n",
        "short run",
    )
    out = tmp_path_factory.mktemp("run") / "run"
    train_run(config, digits, out)
    return out


@pytest.fixture(scope="session")
def few_digits(digits: ImageSet) -> ImageSet:
    """200 digits to train on, 60 held out."""
    return replace(
        digits,
        train_images=digits.train_images[:200],
        train_labels=digits.train_labels[:200],
        test_images=digits.test_images[:60],
        test_labels=digits.test_labels[:60],
    )


@pytest.fixture(scope="session")
def tiny_config() -> "Callable[..., NetworkedConfig]":
    """A run of a second, with changes by section: ``tiny_config(gate={"rounds": 5})``."""

    from airmoe.networked.config import NetworkedConfig, parse_config

    def build(**changes: object) -> NetworkedConfig:
        settings: dict[str, object] = {
            "data": {"clients": 2},
            "model": {"expert_hidden": 8},
            "features": {"rounds": 3},
            "experts": {"epochs": 2},
            "gate": {"rounds": 3},
        }
        for section, values in changes.items():
            before = settings.get(section)
            settings[section] = before | values if isinstance(before, dict) else values  # type: ignore[operator]
        return NetworkedConfig.model_validate(settings)

    # The two ways to make a configuration agree.
    assert build() == parse_config(
        "data.clients = 2\nmodel.expert_hidden = 8\nfeatures.rounds = 3\nexperts.epochs = 2\ngate.rounds = 3",
        "tiny",
    )
    return build
