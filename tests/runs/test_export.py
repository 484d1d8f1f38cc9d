"""What a run leaves behind: ONNX that says what PyTorch says, and a folder that is complete."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX, read_manifest
from airmoe.networked.config import load_config
from airmoe.nn import (
    BiasGate,
    ConcatGate,
    GateOutput,
    LeNet5Extractor,
    LinearGate,
    MixtureOfExperts,
    MlpExpert,
    MlpGate,
    NoisyTopK,
    Pooling,
)
from airmoe.runfolder import SERVER, checked_file, client_folders
from airmoe.runs.export import export_gate, export_onnx
from tests.mesh.exported import export_maps, map_model


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
    assert {(m.mesh, m.experts, *m.payload) for m in manifests} == {("lab", 4, 400)}
    assert sorted(label for m in manifests for label in m.holds) == sorted(list(range(10)) * 2)
    assert manifests[0].input.model_dump() == {"channels": 1, "height": 32, "width": 32}
    assert manifests[0].radio.mean_snr_db == 10.0


@pytest.mark.parametrize("name", [EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX])
def test_every_file_that_is_served_is_vouched_for(run_folder: Path, name: str) -> None:
    for folder in client_folders(run_folder):
        assert checked_file(folder, read_manifest(folder), name).is_file()


def test_of_a_networked_run_every_client_asks_and_knows_no_snr(run_folder: Path) -> None:
    for folder in client_folders(run_folder):
        manifest = read_manifest(folder)
        assert manifest.asks
        assert not manifest.gate_sees_snr
        assert manifest.nodes == 4
        assert set(manifest.sha256) == {EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX}
        assert manifest.radio.transmission == "ideal"


@pytest.fixture(scope="module")
def noisy_model() -> MixtureOfExperts:
    """Maps instead of vectors, and a gate that sees SNR behind noise while it trains."""
    return map_model()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, noisy_model: MixtureOfExperts) -> Path:
    """The same with a server."""
    folder = tmp_path_factory.mktemp("maps") / "run"
    export_maps(folder, noisy_model, server=True)
    return folder


def test_a_run_with_a_server_is_complete(served: Path) -> None:
    files = {path.relative_to(served).as_posix() for path in served.rglob("*") if path.is_file()}
    assert files == {
        *(f"shared/{part}.{form}" for part in ("extractor", "gate") for form in ("safetensors", "onnx")),
        *(f"clients/0{e}/{name}" for e in (0, 1) for name in ("expert.safetensors", "expert.onnx")),
        *(f"clients/{client}/manifest.json" for client in ("00", "01", "server")),
    }
    assert [folder.name for folder in client_folders(served)] == ["00", "01"]


def test_a_server_asks_and_its_experts_nodes_only_serve(served: Path) -> None:
    server = read_manifest(served / "clients" / SERVER)
    assert (server.client, server.expert, server.experts, server.nodes) == (2, None, 2, 3)
    assert set(server.sha256) == {EXTRACTOR_ONNX, GATE_ONNX}
    assert (server.asks, server.gate_sees_snr, server.holds) == (True, True, [])
    for number, folder in enumerate(client_folders(served)):
        node = read_manifest(folder)
        assert (node.client, node.expert, node.holds) == (number, number, [[0, 1], [2, 3]][number])
        assert set(node.sha256) == {EXPERT_ONNX}
        assert not node.asks
        assert (node.payload, node.features, node.model_hash) == ([3, 5, 5], 75, server.model_hash)
        checked_file(folder, node, EXPERT_ONNX)
    for name in (EXTRACTOR_ONNX, GATE_ONNX):
        checked_file(served / "clients" / SERVER, server, name)


@pytest.mark.parametrize("items", [1, 2, 50])
def test_a_gate_that_sees_snr_takes_payload_and_snr_of_any_value(
    served: Path, noisy_model: MixtureOfExperts, items: int
) -> None:
    rng = np.random.default_rng(items)
    payload_T = rng.random((items, 3, 5, 5), np.float32)
    snr_db_TE = rng.uniform(-40, 60, (items, 2)).astype(np.float32)
    snr_db_TE[0] = np.inf, -np.inf
    session = onnxruntime.InferenceSession(served / "shared/gate.onnx", providers=["CPUExecutionProvider"])
    (actual_TE,) = session.run(["output"], {"input": payload_T, "snr_db": snr_db_TE})
    with torch.no_grad():
        gate = noisy_model.layer.gate
        expected = gate(torch.from_numpy(payload_T).mean(dim=(2, 3)), torch.from_numpy(snr_db_TE))
    np.testing.assert_allclose(actual_TE, expected.scores_TE, atol=1e-5)
    (other_TE,) = session.run(["output"], {"input": payload_T, "snr_db": snr_db_TE[:, ::-1].copy()})
    assert np.abs(other_TE - actual_TE).max() > 1e-3, "it does look at the SNR"


def test_of_a_gate_with_noise_the_gate_itself_is_kept(served: Path, noisy_model: MixtureOfExperts) -> None:
    kept, inner = load_file(served / "shared/gate.safetensors"), noisy_model.layer.gate.gate.state_dict()
    assert kept.keys() == inner.keys()
    assert all(torch.equal(kept[name], inner[name]) for name in kept)


def test_experts_and_extractor_take_and_give_maps(served: Path, noisy_model: MixtureOfExperts) -> None:
    images = torch.rand(7, 1, 20, 20)
    with torch.no_grad():
        payload_T = noisy_model.extractor(images)
        np.testing.assert_allclose(
            onnx(served / "shared/extractor.onnx", images.numpy()), payload_T, atol=1e-5
        )
        for folder, expert in zip(client_folders(served), noisy_model.layer.experts, strict=True):
            np.testing.assert_allclose(
                onnx(folder / EXPERT_ONNX, payload_T.numpy()), expert(payload_T), atol=1e-5
            )


@pytest.mark.parametrize(
    ("pooling", "payload_T", "pooled_TF"),
    [
        ("vector", torch.rand(6, 8), lambda payload_T: payload_T),
        ("map", torch.rand(6, 8, 3, 2), lambda payload_T: payload_T.mean(dim=(2, 3))),
        ("tokens", torch.rand(6, 5, 8), lambda payload_T: payload_T[:, 0]),
    ],
    ids=["vector", "map", "tokens"],
)
def test_a_gate_blind_to_the_channel_takes_payloads_alone_and_pools_them(
    tmp_path: Path, pooling: Pooling, payload_T: Tensor, pooled_TF: Callable[[Tensor], Tensor]
) -> None:
    gate = MlpGate(8, 3).eval()
    nn.init.normal_(gate.last.weight)
    export_gate(gate, payload_T, 3, tmp_path / "gate.onnx", pooling)
    with torch.no_grad():
        expected_TE = gate(pooled_TF(payload_T)).scores_TE
    np.testing.assert_allclose(onnx(tmp_path / "gate.onnx", payload_T.numpy()), expected_TE, atol=1e-5)


def test_a_gate_that_is_told_to_be_blind_is_served_as_it_was_trained(tmp_path: Path) -> None:
    gate, features_TF = ConcatGate(8, 3).eval(), torch.rand(6, 8)
    nn.init.normal_(gate.last.weight)
    gate.sees_snr = False
    export_gate(gate, features_TF, 3, tmp_path / "gate.onnx")
    with torch.no_grad():
        expected_TE = gate(features_TF).scores_TE
    np.testing.assert_allclose(onnx(tmp_path / "gate.onnx", features_TF.numpy()), expected_TE, atol=1e-5)


@pytest.mark.parametrize(
    ("gate", "sees"),
    [
        (LinearGate(4, 2), False),
        (MlpGate(4, 2), False),
        (ConcatGate(4, 2), True),
        (BiasGate(MlpGate(4, 2)), True),
        (NoisyTopK(LinearGate(4, 2), 4, 2, 1), False),
        (NoisyTopK(ConcatGate(4, 2), 4, 2, 1), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_gate_says_whether_it_sees_snr(gate: nn.Module, sees: bool) -> None:
    assert gate.sees_snr is sees
    pooled_TF, snr_db_TE = torch.rand(3, 4), torch.full((3, 2), 5.0)
    for weights in gate.parameters():
        nn.init.normal_(weights, generator=torch.Generator().manual_seed(1))
    gate.eval()
    snr_db_TE[:, 1] = -5.0
    moved = not torch.equal(gate(pooled_TF, snr_db_TE).scores_TE, gate(pooled_TF).scores_TE)
    assert moved is sees


class Mute(nn.Module):
    """A gate that does not say."""

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        scores_TE = torch.full((len(pooled_TF), 2), 0.5)
        return GateOutput(scores_TE, scores_TE.log())


def test_a_gate_that_does_not_say_whether_it_sees_snr_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"gate is 'Mute'; expected one that says by a bool"):
        export_maps(tmp_path / "run", map_model(Mute()), server=False)
    assert not (tmp_path / "run").exists()


class OneSize(nn.Module):
    """Counts its items, which fixes their number in an export."""

    def forward(self, inputs: Tensor, others: Tensor) -> Tensor:
        return inputs * len(others) + others


def test_a_network_for_one_number_of_items_is_refused(tmp_path: Path) -> None:
    inputs = {"first": torch.ones(3, 2), "second": torch.ones(3, 2)}
    with pytest.raises(RunFolderError, match=r"one\.onnx: the number of items of first, second came out"):
        export_onnx(OneSize(), inputs, tmp_path / "one.onnx")


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
        export_onnx(module, {"input": torch.ones(2, 3)}, tmp_path / "wrong.onnx")
