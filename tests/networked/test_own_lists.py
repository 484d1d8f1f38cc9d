"""Runs whose clients hold the images that a file lists: the file is a part of the run."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airmoe.cli import app as cli
from airmoe.data import ImageSet
from airmoe.errors import DataError, RunFolderError
from airmoe.networked import split_among_clients, train_run
from airmoe.networked.config import NetworkedConfig
from airmoe.runs.load import load_run
from tests.networked.test_resume import Interrupted, stop_after

Config = Callable[..., NetworkedConfig]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    path = tmp_path / "lists.json"
    path.write_text(json.dumps([list(range(0, 120)), list(range(120, 200))]), encoding="utf-8")
    return path


@pytest.fixture
def config(lists: Path, tiny_config: Config) -> NetworkedConfig:
    return tiny_config(data={"partition": f"lists:{lists}"}, features={"rounds": 2}, gate={"rounds": 1})


def test_clients_hold_what_the_file_says(config: NetworkedConfig, few_digits: ImageSet) -> None:
    data = split_among_clients(config, few_digits)
    assert [len(labels) for labels in data.labels_T] == [120, 80]
    assert data.labels_T[1].tolist() == few_digits.train_labels[120:200].tolist()


def test_the_digest_stands_in_the_record_and_guards_the_split(
    tmp_path: Path, lists: Path, config: NetworkedConfig, few_digits: ImageSet
) -> None:
    train_run(config, few_digits, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.record["lists"] == hashlib.sha256(lists.read_bytes()).hexdigest()
    assert run.split(few_digits)[1].tolist() == list(range(120, 200))
    lists.write_text(json.dumps([[0], [1]]), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"lists.json holds other lists now than .*run was trained with"):
        run.split(few_digits)
    lists.unlink()
    with pytest.raises(DataError, match=r"lists.json cannot be read"):
        run.split(few_digits)


def test_a_run_is_not_resumed_with_other_lists(
    tmp_path: Path, lists: Path, config: NetworkedConfig, few_digits: ImageSet
) -> None:
    with pytest.raises(Interrupted):
        train_run(config, few_digits, tmp_path / "run", progress=stop_after("features", 1))
    begun = lists.read_text(encoding="utf-8")
    lists.write_text(json.dumps([list(range(0, 121)), list(range(121, 200))]), encoding="utf-8")
    with pytest.raises(RunFolderError, match="belongs to another configuration, data set or version"):
        train_run(config, few_digits, tmp_path / "run", resume=True)
    lists.write_text(begun, encoding="utf-8")
    train_run(config, few_digits, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.json").exists()


def test_the_command_refuses_another_number_of_clients_before_it_reads_images(
    tmp_path: Path, lists: Path
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[data]\nname = "folder:nowhere"\npartition = "lists:{lists}"\n', encoding="utf-8")
    arguments = ["train", "--config", str(settings), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli.app, arguments)
    assert "clients is 10; expected 2, the number of lists in" in str(result.exception)
