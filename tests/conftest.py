"""What is slow and shared: loaded or trained once per session. Never write into ``run_folder``: copy it."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet, load_images


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
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


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """1,797 handwritten digits, 1x32x32, 450 of them held out."""
    return load_images("digits")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """The run folder of a short federated run: 4 clients on a ring."""
    from airmoe.training import parse_config, train_run

    config = parse_config(
        "[data]\nclients = 4\n[features]\nrounds = 8\n[gate]\nrounds = 10\n[experts]\nepochs = 10\n",
        "short run",
    )
    out = tmp_path_factory.mktemp("run") / "run"
    train_run(config, digits, out)
    return out
