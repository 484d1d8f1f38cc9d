"""Exported networks."""

from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import RunFolderError
from airmoe.mesh.networks import OnnxNetwork


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_an_expert_answers_each_row_with_probabilities(run_folder: Path, rows: int) -> None:
    expert = OnnxNetwork(run_folder / "clients/00/expert.onnx", (400,), 10)
    features_TF = np.random.default_rng(0).random((rows, 400), np.float32)
    probability_TC = expert(features_TF)
    assert probability_TC.shape == (rows, 10)
    assert probability_TC.dtype == np.float32
    np.testing.assert_allclose(probability_TC.sum(axis=1), 1, rtol=1e-5)


def test_a_network_for_items_of_another_shape_is_refused(run_folder: Path) -> None:
    path = run_folder / "shared/extractor.onnx"
    with pytest.raises(RunFolderError) as raised:
        OnnxNetwork(path, (3, 32, 32), 400)
    assert str(raised.value) == f"{path} takes items of shape (1, 32, 32); the manifest says (3, 32, 32)"


def test_a_network_with_outputs_of_another_width_is_refused(run_folder: Path) -> None:
    with pytest.raises(RunFolderError, match=r"gives items of shape \(10,\); the manifest says \(11,\)"):
        OnnxNetwork(run_folder / "clients/00/expert.onnx", (400,), 11)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "first half"])
def test_a_damaged_network_is_named(run_folder: Path, tmp_path: Path, damage: str) -> None:
    whole = (run_folder / "clients/00/expert.onnx").read_bytes()
    path = tmp_path / "expert.onnx"
    if damage != "missing":
        path.write_bytes({"empty": b"", "text": b"not onnx", "first half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(RunFolderError) as raised:
        OnnxNetwork(path, (400,), 10)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
