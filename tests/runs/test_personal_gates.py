"""A run whose clients have gates of their own: each asks by its own, in one process and in the mesh."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import read_manifest
from airmoe.mesh import MeshClient
from airmoe.nn import LinearGate, MixtureOfExperts, MoeLayer, PersonalGates
from airmoe.runfolder import client_folders
from airmoe.runs import compare, export_run, load_run
from tests.mesh.ports import free_address
from tests.mesh.processes import node_processes

CLIENTS = 4


def personal_model(run_folder: Path) -> MixtureOfExperts:
    """The short run's mixture, in which client i shuns expert (i + 1) mod 4 and prefers its own."""
    model = load_run(run_folder).model
    gates = [LinearGate(400, CLIENTS) for _ in range(CLIENTS)]
    for client, gate in enumerate(gates):
        gate.load_state_dict(model.layer.gate.state_dict())
        with torch.no_grad():
            gate.linear.bias[(client + 1) % CLIENTS] -= 4.0
            gate.linear.bias[client] += 0.5
    return MixtureOfExperts(model.extractor, MoeLayer(PersonalGates(gates), list(model.layer.experts))).eval()


def export(folder: Path, model: nn.Module, run_folder: Path, digits: ImageSet, **options: object) -> None:
    of_run = load_run(run_folder)
    export_run(
        folder,
        model,  # type: ignore[arg-type]
        torch.from_numpy(digits.test_images[:16]).float() / 255,
        mesh="lab",
        class_names=digits.class_names,
        holds=of_run.holds,
        radio=of_run.manifest.radio,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def personal(run_folder: Path, digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("personal") / "run"
    folder.mkdir()
    for name in ("config.toml", "run.json"):
        shutil.copy(run_folder / name, folder / name)
    export(folder, personal_model(run_folder), run_folder, digits)
    return folder


def test_every_client_has_its_own_gate_and_nobody_has_a_shared_one(run_folder: Path, personal: Path) -> None:
    shared = {path.name for path in (personal / "shared").iterdir()}
    assert shared == {"extractor.onnx", "extractor.safetensors"}
    trained = personal_model(run_folder).layer.gate.gates
    written = {(folder / "gate.onnx").read_bytes() for folder in client_folders(personal)}
    assert len(written) == CLIENTS
    for folder, gate in zip(client_folders(personal), trained, strict=True):
        weights = load_file(folder / "gate.safetensors")
        assert all(torch.equal(weights[name], each) for name, each in gate.state_dict().items())


def test_a_loaded_run_scores_by_the_gate_of_who_asks(
    run_folder: Path, personal: Path, digits: ImageSet
) -> None:
    loaded, trained = load_run(personal).model, personal_model(run_folder)
    images_TCHW = torch.from_numpy(digits.test_images[:40]).float() / 255
    source_T = np.arange(40) % CLIENTS
    with torch.no_grad():
        output = loaded(images_TCHW, source_T)
        assert torch.equal(output.scores_TE, trained(images_TCHW, source_T).scores_TE)
    assert not torch.equal(output.scores_TE[0::4].mean(dim=0), output.scores_TE[1::4].mean(dim=0))


def test_evaluation_asks_each_image_by_the_gate_of_its_client(personal: Path, digits: ImageSet) -> None:
    run = load_run(personal)
    (row,) = (row for row in compare(run, digits, links="perfect", seeds=1).rows if row.policy == "topk:1")
    local = []
    with torch.no_grad():
        features_TF = run.model.extractor(torch.from_numpy(digits.test_images).float() / 255)
        for client, gate in enumerate(run.model.layer.gate.gates):
            local.append((gate(features_TF).scores_TE.argmax(dim=1) == client).float().mean())
    assert row.local_share == pytest.approx(float(torch.stack(local).mean()), abs=1e-6)
    assert row.local_share > 1 / CLIENTS


def test_the_mesh_answers_as_one_process_whoever_asks(personal: Path, digits: ImageSet) -> None:
    model, images = load_run(personal).model, digits.test_images[:64]
    folders = client_folders(personal)
    addresses = [free_address() for _ in folders]
    with node_processes(folders, addresses):
        for client in (0, 2):
            with MeshClient(folders[client], addresses, policy="topk:2") as asking:
                asking.wait_for_nodes(CLIENTS)
                answer = asking.predict(images)
            with torch.no_grad():
                pixels, source_T = torch.from_numpy(images).float() / 255, np.full(len(images), client)
                expected = model(pixels, source_T, policy="topk:2")
            np.testing.assert_allclose(answer.scores_TE, expected.scores_TE.numpy(), atol=1e-5, rtol=0)
            np.testing.assert_allclose(answer.probability_TC, expected.y_TC.numpy(), atol=1e-5, rtol=0)


def test_the_model_hash_is_over_the_gates_of_all_clients(personal: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(personal, tmp_path / "copy")
    hashes = {read_manifest(folder).model_hash for folder in client_folders(copy)}
    assert hashes == {load_run(personal).manifest.model_hash}
    last = copy / "clients" / "03" / "gate.safetensors"
    last.write_bytes((copy / "clients" / "02" / "gate.safetensors").read_bytes())
    with pytest.raises(RunFolderError, match="is damaged: its weights have hash"):
        load_run(copy)
    last.unlink()
    with pytest.raises(RunFolderError, match=r"clients/03/gate\.safetensors cannot be read"):
        load_run(copy)


def test_a_server_and_another_number_of_gates_are_refused(
    run_folder: Path, digits: ImageSet, tmp_path: Path
) -> None:
    model = personal_model(run_folder)
    with pytest.raises(InvalidInputError, match="number of personal gates is 4; expected one gate"):
        export(tmp_path / "server", model, run_folder, digits, server=True)
    model.layer.gate = PersonalGates(list(model.layer.gate.gates)[:3])
    with pytest.raises(InvalidInputError, match="number of personal gates is 3; expected one for each of 4"):
        export(tmp_path / "three", model, run_folder, digits)
    assert not list(tmp_path.iterdir())
