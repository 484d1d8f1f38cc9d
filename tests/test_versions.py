"""A version is told however a package was installed; of a machine only its kind."""

import platform
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from airmoe.versions import kind_of_host, version_of


def test_it_is_that_of_the_distribution() -> None:
    assert version_of("numpy") == metadata.version("numpy")


def test_a_distribution_of_another_name_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "seen_gpu-4.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: seen-gpu\nVersion: 4.5\n", encoding="utf-8")
    (info / "top_level.txt").write_text("seen\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("seen") == "seen-gpu 4.5"


@pytest.mark.parametrize(("told", "expected"), [("1.2", "1.2"), (None, "unknown")])
def test_without_metadata_it_is_what_the_module_says(
    told: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("unpacked")
    if told is not None:
        module.__version__ = told  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unpacked", module)
    assert version_of("no-such-distribution", "unpacked") == expected


def test_of_a_machine_nothing_is_told_that_other_machines_lack() -> None:
    host = kind_of_host()
    assert host.keys() == {"machine", "system", "cores"}
    assert host["system"] in {"Linux", "Darwin", "Windows"}
    for build in filter(None, (platform.release(), platform.version(), platform.node())):
        assert build not in str(host)
