"""The seconds of each stage, over all processes that worked at a run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.data import ImageSet
from airmoe.errors import RunFolderError
from airmoe.networked import train_run
from airmoe.networked.config import NetworkedConfig
from airmoe.newfolder import CHECKPOINTS
from airmoe.progress import silent
from airmoe.runs.stage_times import SECONDS, StageTimes
from tests.networked.test_resume import Interrupted, stop_after


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_time_between_two_reports_is_that_of_the_later_one(tmp_path: Path) -> None:
    clock, told = Clock(), list[object]()
    times = StageTimes(tmp_path, clock)
    counted = times.counting(lambda *words: told.append(words))
    for stage, took_s in (("features", 2.0), ("features", 3.0), ("gate", 0.5)):
        clock.now_s += took_s
        counted(stage, 1, 2, "note")
    assert times.seconds == {"features": 5.0, "gate": 0.5}
    assert told == [("features", 1, 2, "note")] * 2 + [("gate", 1, 2, "note")]
    assert not list(tmp_path.iterdir())  # there is nothing to resume


def test_a_run_that_is_taken_up_goes_on_counting(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS).mkdir()
    clock = Clock()
    first = StageTimes(tmp_path, clock)
    clock.now_s += 2.0
    first.counting(silent)("features", 1, 2)
    clock.now_s += 50.0  # nobody works at it
    second = StageTimes(tmp_path, clock)
    clock.now_s += 4.0
    second.counting(silent)("features", 2, 2)
    assert second.seconds == {"features": 6.0}


@pytest.mark.parametrize("text", ["", "[1]", '{"features": "long"}'])
def test_seconds_that_are_damaged_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / SECONDS).write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"seconds\.json is damaged"):
        StageTimes(tmp_path)


def test_the_record_of_a_resumed_run_has_the_seconds_of_each_stage(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    with pytest.raises(Interrupted):
        train_run(tiny_config(), few_digits, tmp_path / "run", progress=stop_after("experts", 2))
    train_run(tiny_config(), few_digits, tmp_path / "run", resume=True)
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert set(record["seconds"]) == {"features", "experts", "gate"}
    assert all(0 < spent < 60 for spent in record["seconds"].values())
