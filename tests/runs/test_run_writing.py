"""A run folder in the making is nobody else's, and none is begun that cannot get its name."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airmoe import newfolder
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.locks import sole_writer
from airmoe.networked.config import NetworkedConfig
from airmoe.newfolder import partial_of
from airmoe.runs.run_writing import begun_run


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_finishes_before_the_lock_is_had_is_not_begun_again(
    tmp_path: Path, few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    out = tmp_path / "run"
    if resume:
        partial_of(out).mkdir()

    @contextlib.contextmanager
    def after_another(out: Path) -> Iterator[None]:
        partial_of(out).mkdir(exist_ok=True)
        partial_of(out).rename(out)
        with sole_writer(out):
            yield

    monkeypatch.setattr(newfolder, "sole_writer", after_another)
    begun = begun_run(out, NetworkedConfig(), 0, few_digits, resume=resume)
    with pytest.raises(InvalidInputError, match="expected a folder that does not exist yet"), begun:
        pytest.fail("it has begun")


@pytest.mark.parametrize("out", [".", "/"])
def test_a_folder_without_a_name_of_its_own_is_refused(out: str) -> None:
    with pytest.raises(InvalidInputError, match="expected a folder that does not exist yet"):
        partial_of(Path(out))
