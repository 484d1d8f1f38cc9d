"""Checkpoints: what is saved is loaded, whole or not at all."""

import json
from pathlib import Path

import pytest
import torch

from airmoe.errors import RunFolderError
from airmoe.runs.checkpoint import Checkpoint


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "new" / "folder", "x")
    weights = {"layers.0.weight": torch.randn(3, 4)}
    clients = {f"client {i}": {"part/known": torch.tensor([True, i == 12])} for i in (0, 12)}
    checkpoint.save("gate", {"server": {"layers.0.weight": torch.zeros(3, 4)}}, [])
    checkpoint.save(
        "gate", {"server": weights, "client 3": {}, **clients}, [{"stage": "gate", "round": 1, "loss": 0.1}]
    )
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert loaded.groups.keys() == {"server", "client 0", "client 12"}  # an empty group is none
    assert torch.equal(loaded.groups["server"]["layers.0.weight"], weights["layers.0.weight"])
    assert loaded.groups["client 0"]["part/known"].tolist() == [True, False]
    assert loaded.groups["client 12"]["part/known"].tolist() == [True, True]
    assert loaded.rows == [{"stage": "gate", "round": 1, "loss": 0.1}]


def test_each_stage_has_its_own(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "x")
    checkpoint.save("features", {"model": {"w": torch.zeros(1)}}, [])
    assert checkpoint.load("gate") is None
    assert [path.name for path in tmp_path.iterdir()] == ["features.safetensors"]


def test_what_does_not_lie_in_one_piece_is_saved_too(tmp_path: Path) -> None:
    checkpoint, matrix = Checkpoint(tmp_path, "x"), torch.arange(6.0).reshape(2, 3)
    checkpoint.save("gate", {"model": {"w": matrix.T}}, [])
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert torch.equal(loaded.groups["model"]["w"], matrix.T)


def test_tensors_that_share_memory_are_saved_each(tmp_path: Path) -> None:
    checkpoint, whole = Checkpoint(tmp_path, "x"), torch.arange(6.0).reshape(2, 3)
    shared = {"tied": whole, "again": whole, "part": whole[1:], "turned": whole.T, "column": whole[:, 1]}
    checkpoint.save("gate", {"server": shared, "client 0": {"tied": whole}}, [])
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert loaded.groups["server"].keys() == shared.keys()
    for name, tensor in shared.items():
        assert torch.equal(loaded.groups["server"][name], tensor), name
    assert torch.equal(loaded.groups["client 0"]["tied"], whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64])
def test_tensors_of_any_type_and_shape_are_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = Checkpoint(tmp_path, "x")
    tensors = {"scalar": torch.ones((), dtype=dtype), "none": torch.ones(0, 3, dtype=dtype)}
    checkpoint.save("gate", {"server": tensors}, [])
    loaded = checkpoint.load("gate")
    assert loaded is not None
    for name, tensor in tensors.items():
        assert (loaded.groups["server"][name].dtype, loaded.groups["server"][name].shape) == (
            dtype,
            tensor.shape,
        )
        assert torch.equal(loaded.groups["server"][name], tensor)


def test_one_of_another_configuration_is_refused(tmp_path: Path) -> None:
    """Of whatever stage, so that two runs never mix in one folder."""
    Checkpoint(tmp_path, "mine").save("gate", {"model": {"w": torch.zeros(1)}}, [])
    with pytest.raises(RunFolderError, match="belongs to another configuration, data set or version"):
        Checkpoint(tmp_path, "yours")


def test_one_that_was_begun_by_other_rules_of_training_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr("airmoe.runs.checkpoint._FORMAT", "airmoe checkpoint 2")
        Checkpoint(tmp_path, "mine").save("gate", {"model": {"w": torch.zeros(1)}}, [])
    with pytest.raises(RunFolderError, match="belongs to another configuration, data set or version"):
        Checkpoint(tmp_path, "mine")


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "x")
    checkpoint.save("gate", {"model": {"w": torch.ones(1)}}, [])
    with pytest.raises(TypeError):
        checkpoint.save("gate", {"model": {"w": torch.zeros(1)}}, [{"stage": object()}])  # type: ignore[dict-item]
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert loaded.groups["model"]["w"].tolist() == [1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["gate.safetensors"]


def test_the_metrics_of_all_stages_are_written_whenever_one_is_saved(tmp_path: Path) -> None:
    def written() -> list[dict[str, object]]:
        return [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]

    folder, metrics = tmp_path / "checkpoint", tmp_path / "metrics.jsonl"
    model = {"model": {"w": torch.ones(1)}}
    first, second = ({"stage": "features", "round": round_, "loss": 0.5} for round_ in (1, 2))
    checkpoint = Checkpoint(folder, "x", metrics)
    assert not metrics.exists()
    checkpoint.save("features", model, [first])
    assert written() == [first]
    checkpoint.save("features", model, [first, second])
    assert written() == [first, second]
    resumed, third = Checkpoint(folder, "x", metrics), {"stage": "gate", "round": 1, "loss": 0.25}
    resumed.load("features")
    resumed.save("gate", model, [third])
    assert written() == [first, second, third]
