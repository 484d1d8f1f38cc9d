"""Checkpoints: what is saved is loaded, whole or not at all."""

from pathlib import Path

import pytest
import torch

from airmoe.errors import RunFolderError
from airmoe.runs.checkpoint import Checkpoint


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "new" / "folder", "x")
    state = {"layers.0.weight": torch.randn(3, 4)}
    memories = {client: {"known": torch.tensor([client, 0], dtype=torch.uint8)} for client in (0, 12)}
    checkpoint.save("gate", {"layers.0.weight": torch.zeros(3, 4)}, {}, [])
    checkpoint.save("gate", state, memories, [{"stage": "gate", "round": 1, "loss": 0.1}])
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert torch.equal(loaded[0]["layers.0.weight"], state["layers.0.weight"])
    assert loaded[1].keys() == {0, 12}
    assert loaded[1][12]["known"].tolist() == [12, 0]
    assert loaded[2] == [{"stage": "gate", "round": 1, "loss": 0.1}]


def test_each_stage_has_its_own(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "x")
    checkpoint.save("features", {"w": torch.zeros(1)}, {}, [])
    assert checkpoint.load("gate") is None
    assert [path.name for path in tmp_path.iterdir()] == ["features.safetensors"]


def test_what_does_not_lie_in_one_piece_is_saved_too(tmp_path: Path) -> None:
    checkpoint, matrix = Checkpoint(tmp_path, "x"), torch.arange(6.0).reshape(2, 3)
    checkpoint.save("gate", {"w": matrix.T}, {}, [])
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert torch.equal(loaded[0]["w"], matrix.T)


def test_one_of_another_configuration_is_refused(tmp_path: Path) -> None:
    """Of whatever stage, so that two runs never mix in one folder."""
    Checkpoint(tmp_path, "mine").save("gate", {"w": torch.zeros(1)}, {}, [])
    with pytest.raises(RunFolderError, match="belongs to another configuration, data set or version"):
        Checkpoint(tmp_path, "yours")


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, "x")
    checkpoint.save("gate", {"w": torch.ones(1)}, {}, [])
    with pytest.raises(TypeError):
        checkpoint.save("gate", {"w": torch.zeros(1)}, {}, [{"stage": object()}])  # type: ignore[dict-item]
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError):  # safetensors refuses tensors that share memory
        checkpoint.save("gate", {"w": shared[:2], "v": shared}, {}, [])
    loaded = checkpoint.load("gate")
    assert loaded is not None
    assert loaded[0]["w"].tolist() == [1.0]
    assert [path.name for path in tmp_path.iterdir()] == ["gate.safetensors"]
