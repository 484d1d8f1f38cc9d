"""What a run leaves behind: ONNX that says what PyTorch says, and a folder that is complete."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from airmoe.data import ImageSet
from airmoe.errors import RunFolderError
from airmoe.nn import LeNet5Extractor, LinearGate, MlpExpert
from airmoe.runfolder import (
    EXPERT_ONNX,
    EXTRACTOR_ONNX,
    GATE_ONNX,
    checked_file,
    client_folders,
    read_manifest,
)
from airmoe.training import load_config
from airmoe.training.export import export_onnx


def onnx(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(["output"], {"input": inputs})
    return outputs


@pytest.mark.parametrize("items", [1, 3, 100])
def test_onnx_says_what_pytorch_says_at_any_batch_size(
    run_folder: Path, digits: ImageSet, items: int
) -> None:
    extractor, gate = LeNet5Extractor(1).eval(), LinearGate(400, 4).eval()
    extractor.load_state_dict(load_file(run_folder / "shared" / "extractor.safetensors"))
    gate.load_state_dict(load_file(run_folder / "shared" / "gate.safetensors"))
    images = torch.from_numpy(digits.test_images[:items]).float() / 255
    with torch.no_grad():
        features_TF = extractor(images)
        scores_TE = gate(features_TF).scores_TE
    served = run_folder / "shared"
    np.testing.assert_allclose(onnx(served / "extractor.onnx", images.numpy()), features_TF, atol=1e-4)
    np.testing.assert_allclose(onnx(served / "gate.onnx", features_TF.numpy()), scores_TE, atol=1e-5)
    for folder in client_folders(run_folder):
        expert = MlpExpert(400, 10).eval()
        expert.load_state_dict(load_file(folder / "expert.safetensors"))
        with torch.no_grad():
            probability_TC = expert(features_TF)
        np.testing.assert_allclose(onnx(folder / EXPERT_ONNX, features_TF.numpy()), probability_TC, atol=1e-5)


def test_the_run_folder_is_complete(run_folder: Path) -> None:
    files = {path.relative_to(run_folder).as_posix() for path in run_folder.rglob("*") if path.is_file()}
    assert files == {
        *("config.toml", "run.json", "metrics.jsonl"),
        *(f"shared/{part}.{form}" for part in ("extractor", "gate") for form in ("safetensors", "onnx")),
        *(
            f"clients/{client:02d}/{name}"
            for client in range(4)
            for name in ("expert.safetensors", "expert.onnx", "manifest.json")
        ),
    }


def test_the_configuration_is_that_of_the_run(run_folder: Path) -> None:
    config = load_config(run_folder / "config.toml")
    assert (config.data.clients, config.features.rounds, config.gate.rounds) == (4, 8, 10)


def test_the_metrics_are_a_row_per_round(run_folder: Path) -> None:
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows if row["stage"] == "features"] == list(range(1, 9))
    assert [row["round"] for row in rows if row["stage"] == "gate"] == list(range(1, 11))
    assert all(0 <= row["macro_f1"] <= 1 for row in rows if "macro_f1" in row)


def test_versions_seed_and_host_are_written_down(run_folder: Path) -> None:
    run = json.loads((run_folder / "run.json").read_text())
    assert run["seed"] == 0
    assert run["versions"]["torch"] == torch.__version__
    assert run["host"]["machine"]


def test_manifests_tell_each_client_what_it_serves(run_folder: Path) -> None:
    manifests = [read_manifest(folder) for folder in client_folders(run_folder)]
    assert [m.client for m in manifests] == [m.expert for m in manifests] == [0, 1, 2, 3]
    assert len({m.model_hash for m in manifests}) == 1
    assert {(m.mesh, m.experts, m.features) for m in manifests} == {("lab", 4, 400)}
    assert sorted(label for m in manifests for label in m.holds) == sorted(list(range(10)) * 2)
    assert manifests[0].input.model_dump() == {"channels": 1, "height": 32, "width": 32}
    assert manifests[0].radio.mean_snr_db == 10.0


@pytest.mark.parametrize("name", [EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX])
def test_every_file_that_is_served_is_vouched_for(run_folder: Path, name: str) -> None:
    for folder in client_folders(run_folder):
        assert checked_file(folder, read_manifest(folder), name).is_file()


class Changeable(nn.Module):
    """Says one thing to the exporter and another afterwards."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (1.0 if torch.compiler.is_exporting() else 2.0)


class Unfinite(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * torch.nan


@pytest.mark.parametrize("module", [Changeable(), Unfinite()])
def test_an_export_that_says_something_else_is_refused(tmp_path: Path, module: nn.Module) -> None:
    with pytest.raises(RunFolderError, match=r"wrong\.onnx: ONNX and PyTorch outputs differ by"):
        export_onnx(module, torch.ones(2, 3), tmp_path / "wrong.onnx")
