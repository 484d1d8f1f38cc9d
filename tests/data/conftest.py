import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data import cifar_files


@pytest.fixture(scope="session")
def official_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("official") / cifar_files.FOLDER
    cifar_files.write_official_tree(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty user cache and no other place to find data in."""
    monkeypatch.delenv("AIRMOE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "airmoe"
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # 184 MB
