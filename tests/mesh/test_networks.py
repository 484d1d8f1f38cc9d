"""Exported networks."""

from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import Manifest, read_manifest
from airmoe.mesh.networks import OnnxGate, OnnxNetwork, expert_of
from tests.mesh.exported import ServerRun


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_an_expert_answers_each_row_with_probabilities(run_folder: Path, rows: int) -> None:
    expert = OnnxNetwork(run_folder / "clients/00/expert-0.onnx", {"input": (400,)}, (10,))
    features_TF = np.random.default_rng(0).random((rows, 400), np.float32)
    probability_TC = expert(features_TF)
    assert probability_TC.shape == (rows, 10)
    assert probability_TC.dtype == np.float32
    np.testing.assert_allclose(probability_TC.sum(axis=1), 1, rtol=1e-5)


def test_a_network_for_items_of_another_shape_is_refused(run_folder: Path) -> None:
    path = run_folder / "shared/extractor.onnx"
    with pytest.raises(RunFolderError) as raised:
        OnnxNetwork(path, {"input": (3, 32, 32)}, (400,))
    assert str(raised.value) == f"{path} takes items of shape (1, 32, 32); the manifest says (3, 32, 32)"


def test_a_network_with_outputs_of_another_width_is_refused(run_folder: Path) -> None:
    with pytest.raises(RunFolderError, match=r"gives items of shape \(10,\); the manifest says \(11,\)"):
        OnnxNetwork(run_folder / "clients/00/expert-0.onnx", {"input": (400,)}, (11,))


def test_a_gate_that_sees_snr_takes_it_beside_payloads(server_run: ServerRun) -> None:
    gate = OnnxGate(server_run.server / "gate.onnx", read_manifest(server_run.server).layer(1), True)
    payload_T = np.random.default_rng(0).random((3, 400), np.float32)
    snr_db_TE = np.array([[20.0, -10, 20, 20], [np.inf, -np.inf, 0, 0], [5, 5, 5, 5]])
    scores_TE = gate(payload_T, snr_db_TE)
    assert scores_TE.dtype == np.float32
    np.testing.assert_allclose(scores_TE.sum(axis=1), 1, rtol=1e-5)
    clipped_TE = np.clip(snr_db_TE, -10, 30)
    np.testing.assert_allclose(gate(payload_T, clipped_TE), scores_TE, rtol=1e-5)
    with pytest.raises(InvalidInputError, match=r"snr_db_TE is None; expected \(T, E\) in dB"):
        gate(payload_T, None)


def test_a_gate_blind_to_the_channel_does_not_look_at_it(run_folder: Path, manifest: Manifest) -> None:
    gate = OnnxGate(run_folder / "shared/gate.onnx", manifest.layer(1), False)
    payload_T = np.random.default_rng(0).random((3, 400), np.float32)
    np.testing.assert_array_equal(gate(payload_T, None), gate(payload_T, np.full((3, 4), -10.0)))


def test_a_gate_with_an_input_that_the_manifest_does_not_name_is_refused(
    server_run: ServerRun, manifest: Manifest
) -> None:
    with pytest.raises(RunFolderError, match=r"gate.onnx takes input, snr_db; the manifest says input"):
        OnnxGate(server_run.server / "gate.onnx", manifest.layer(1), False)


def test_an_expert_takes_and_gives_what_its_layer_says(own_copy: Path) -> None:
    manifest = read_manifest(own_copy)
    assert expert_of(own_copy, manifest, manifest.serves[0])(np.zeros((2, 400), np.float32)).shape == (2, 10)
    wide = manifest.layers[0].model_copy(update={"payload": [401]})
    with pytest.raises(RunFolderError, match=r"takes items of shape \(400,\); the manifest says \(401"):
        expert_of(own_copy, manifest.model_copy(update={"layers": [wide]}), manifest.serves[0])


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "first half"])
def test_a_damaged_network_is_named(run_folder: Path, tmp_path: Path, damage: str) -> None:
    whole = (run_folder / "clients/00/expert-0.onnx").read_bytes()
    path = tmp_path / "expert.onnx"
    if damage != "missing":
        path.write_bytes({"empty": b"", "text": b"not onnx", "first half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(RunFolderError) as raised:
        OnnxNetwork(path, {"input": (400,)}, (10,))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
