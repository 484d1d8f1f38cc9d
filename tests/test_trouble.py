"""Every kind of trouble that a user can end is told in one line that names the file or the value."""

import errno
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
import zenoh

from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.trouble import line_about


def every_error_of_airmoe() -> list[type[AirmoeError]]:
    kinds = [AirmoeError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return [kind for kind in kinds if kind is not InvalidInputError]


@pytest.mark.parametrize("kind", every_error_of_airmoe())
def test_an_error_of_airmoe_speaks_for_itself(kind: type[AirmoeError]) -> None:
    assert line_about(kind("a.txt is\n damaged")) == "a.txt is damaged"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENOTDIR])
@pytest.mark.parametrize("name", ["runs/out", b"runs/out", Path("runs/out")])
def test_trouble_with_a_file_names_the_file(number: int, name: object) -> None:
    line = line_about(OSError(number, os.strerror(number), name))
    assert line == f"runs/out: {os.strerror(number)}; expected to be able to use it"


def test_a_full_disk_is_told_where_safetensors_meets_it() -> None:
    with pytest.raises(Exception, match="Error while serializing") as met:
        safetensors.torch.save_file({"a": torch.ones(3)}, "/nowhere/a.safetensors")
    assert str(line_about(met.value)).startswith("a safetensors file: Error while serializing")


def test_what_zenoh_raises_is_told() -> None:
    with pytest.raises(zenoh.ZError) as met:
        zenoh.Config.from_json5("{")
    assert str(line_about(met.value)).startswith("the mesh: ")


UNMAPPED = ImportError("libtorch_cpu.so: failed to map segment from shared object")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("8 GiB"), UNMAPPED])
def test_too_little_memory_is_told(error: Exception) -> None:
    assert str(line_about(error)).startswith("out of memory; expected enough for this command (")


def test_a_home_that_is_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # no user of this machine
    with pytest.raises(RuntimeError) as met:
        Path.home()
    assert str(line_about(met.value)).startswith("there is no home folder; expected one")


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), ImportError("no"), KeyError("a"), AssertionError(), RecursionError()]
)
def test_a_bug_stays_one(error: Exception) -> None:
    assert line_about(error) is None
