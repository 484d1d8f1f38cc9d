"""What a run leaves behind: ONNX that says what PyTorch says, and a folder that is complete."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import load as load_onnx
from safetensors.torch import load_file
from torch import Tensor, nn

import airmoe
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import AskingSpec, Manifest, RadioSpec, read_manifest
from airmoe.networked.config import load_config
from airmoe.nn import (
    BiasGate,
    ConcatGate,
    GateOutput,
    LeNet5Expert,
    LeNet5Extractor,
    LinearGate,
    MixtureOfExperts,
    MlpExpert,
    MlpGate,
    NoisyTopK,
    Pooling,
)
from airmoe.runfolder import EXTRACTOR, GATE, SERVER, checked_file, client_folders, expert_file
from airmoe.runs.onnx_files import export_gate, export_onnx
from airmoe.versions import kind_of_host
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
    for number, folder in enumerate(client_folders(run_folder)):
        expert = MlpExpert(400, 10).eval()
        expert.load_state_dict(load_file(folder / expert_file(number, "safetensors")))
        with torch.no_grad():
            probability_TC = expert(features_TF)
        actual_TC = onnx(folder / expert_file(number), features_TF.numpy())
        np.testing.assert_allclose(actual_TC, probability_TC, atol=1e-5)


def test_the_run_folder_is_complete(run_folder: Path) -> None:
    files = {path.relative_to(run_folder).as_posix() for path in run_folder.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith("identities/")}  # whoever served it made them
    assert files == {
        *("config.toml", "run.json", "metrics.jsonl", "tensorboard/events.out.tfevents.0.airmoe"),
        *(f"shared/{part}.{form}" for part in ("extractor", "gate") for form in ("safetensors", "onnx")),
        *(
            f"clients/{client:02d}/{name}"
            for client in range(4)
            for name in (
                *(f"expert-{client}.safetensors", f"expert-{client}.onnx"),
                *("extractor.onnx", "gate.onnx", "manifest.json"),
            )
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
    assert run["host"] == kind_of_host()
    assert run["threads"] == 1


def test_manifests_tell_each_client_what_it_serves(run_folder: Path) -> None:
    manifests = [read_manifest(folder) for folder in client_folders(run_folder)]
    assert [m.node for m in manifests] == [0, 1, 2, 3]
    assert [[each.expert for each in m.serves] for m in manifests] == [[0], [1], [2], [3]]
    assert len({m.model_hash for m in manifests}) == 1
    for manifest in manifests:
        assert (manifest.mesh, manifest.nodes) == ("lab", 4)
        (layer,) = manifest.layers
        assert (layer.layer, layer.payload, layer.placement) == (1, [400], [[0], [1], [2], [3]])
        assert (layer.output.kind, layer.output.shape) == ("probabilities", [10])
    assert sorted(label for m in manifests for label in m.holds) == sorted(list(range(10)) * 2)
    assert manifests[0].radio.mean_snr_db == 10.0


def asking(manifest: Manifest) -> AskingSpec:
    assert manifest.asks is not None
    return manifest.asks


def test_of_a_networked_run_every_client_asks_and_knows_no_snr(run_folder: Path) -> None:
    for number, folder in enumerate(client_folders(run_folder)):
        manifest = read_manifest(folder)
        asks = asking(manifest)
        assert asks.input.model_dump() == {"channels": 1, "height": 32, "width": 32}
        assert not asks.gates[0].sees_snr
        assert set(manifest.sha256) == {expert_file(number), EXTRACTOR, GATE}
        assert manifest.radio.transmission == "ideal"


def test_every_file_that_is_served_is_vouched_for(run_folder: Path) -> None:
    for folder in client_folders(run_folder):
        manifest = read_manifest(folder)
        for name in manifest.files:
            assert checked_file(folder, manifest, name).is_file()


def test_a_client_holds_the_shared_files_without_taking_room_for_them(run_folder: Path) -> None:
    for folder in client_folders(run_folder):
        for name in (EXTRACTOR, GATE):
            assert (folder / name).samefile(run_folder / "shared" / name)


def test_all_files_may_be_read_by_all(run_folder: Path) -> None:
    files = [path for path in run_folder.rglob("*") if path.is_file() and "identities" not in path.parts]
    modes = {path.stat().st_mode & 0o777 for path in files}
    assert modes == {0o644}


def test_where_there_are_no_hard_links_a_client_holds_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    export_maps(tmp_path / "run", map_model(), server=True)
    copy, shared = (tmp_path / "run" / part / GATE for part in ("clients/server", "shared"))
    assert not copy.samefile(shared)
    assert copy.read_bytes() == shared.read_bytes()


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
        *(f"clients/0{e}/expert-{e}.{form}" for e in (0, 1) for form in ("safetensors", "onnx")),
        *(f"clients/server/{name}" for name in ("extractor.onnx", "gate.onnx")),
        *(f"clients/{client}/manifest.json" for client in ("00", "01", "server")),
    }
    assert [folder.name for folder in client_folders(served)] == ["00", "01"]


def test_a_server_asks_and_its_experts_nodes_only_serve(served: Path) -> None:
    server = read_manifest(served / "clients" / SERVER)
    assert (server.node, server.nodes, server.serves, server.holds) == (2, 3, [], [])
    assert set(server.sha256) == {EXTRACTOR, GATE}
    assert asking(server).gates[0].sees_snr
    for number, folder in enumerate(client_folders(served)):
        node = read_manifest(folder)
        assert (node.node, node.nodes, node.holds) == (number, 3, [[0, 1], [2, 3]][number])
        assert [(each.layer, each.expert) for each in node.serves] == [(1, number)]
        assert set(node.sha256) == {expert_file(number)}
        assert node.asks is None
        assert (node.layer(1).payload, node.model_hash) == ([3, 5, 5], server.model_hash)


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts: the first on both of three nodes that serve, the third only asks."""
    folder = tmp_path_factory.mktemp("placed") / "run"
    export_maps(folder, map_model(), server=False, holds=[[0], [1], [2]], placement=[[1, 0], [1]])
    return folder


def test_nodes_serve_the_experts_that_the_placement_puts_there(placed: Path) -> None:
    manifests = [read_manifest(folder) for folder in client_folders(placed)]
    assert [[each.expert for each in m.serves] for m in manifests] == [[0], [0, 1], []]
    for manifest in manifests:
        assert manifest.layer(1).placement == [[0, 1], [1]]
        assert manifest.asks is not None
        assert manifest.nodes == 3


def test_replicas_are_the_same_file_and_weights_are_kept_once(placed: Path) -> None:
    first, second, third = client_folders(placed)
    assert (first / expert_file(0)).samefile(second / expert_file(0))
    assert sorted(path.name for path in placed.rglob("expert-*.safetensors")) == [
        "expert-0.safetensors",
        "expert-1.safetensors",
    ]
    assert (first / "expert-0.safetensors").exists()
    assert not list(third.glob("expert-*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"placement": [[0]]}, r"placement is \[\[0\]\]; expected for each of 2 experts one or more"),
        ({"placement": [[0], []]}, "expected for each of 2 experts one or more of the 2 clients"),
        ({"placement": [[0], [2]]}, "expected for each of 2 experts one or more of the 2 clients"),
        (
            {"placement": [[0], [0]], "server": True},
            "expected an expert at each of the 2 clients",
        ),
        ({"gate_sees_snr": True}, "gate_sees_snr is True; expected False: LinearGate cannot see the links"),
    ],
)
def test_a_placement_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    model = map_model(LinearGate(3, 2))
    with pytest.raises(InvalidInputError, match=said):
        export_maps(tmp_path / "run", model, **({"server": False} | options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mesh": "My Mesh"}, r"mesh is 'My Mesh'; expected a text that matches \^\[a-z0-9\]"),
        ({"holds": [[0, 1], [2, 4]]}, "holds is 4; expected less than 4"),
        ({"holds": [[0, 1], [2, -1]]}, r"holds.1 is -1; expected at least 0"),
        ({"holds": [0, 1]}, r"holds is \[0, 1\]; expected for each client a list of class numbers"),
        ({"placement": [0, 1]}, r"placement is \[0, 1\]; expected for each expert a list of the nodes"),
        ({"placement": 3}, "placement is 3; expected for each expert a list"),
        ({"placement": [[0], ["1"]]}, "placement is .*; expected for each expert a list"),
        ({"output": "certainties"}, "kind is 'certainties'; expected 'probabilities', 'logits' or 'hidden"),
        ({"class_names": ("a", "b", "c")}, r"shape of the probabilities of layer 1 is \[4\]; expected \[3\]"),
        ({"radio": 10}, "radio is 10; expected "),
        ({"radio": RadioSpec(subcarriers=1 << 20, seed=0), "holds": [[0]] * 9}, r"nodes\^2 x subcarriers is"),
        ({"example_TCHW": torch.rand(1, 20, 20)}, r"shape of example_TCHW is \(1, 20, 20\); expected"),
        ({"example_TCHW": torch.rand(0, 1, 20, 20)}, r"shape of example_TCHW is \(0, 1, 20, 20\)"),
        (
            {"example_TCHW": torch.rand(1, 3, 20, 20)},
            r"shape of example_TCHW is \(1, 3, 20, 20\); expected im",
        ),
        (
            {"example_TCHW": np.zeros((1, 1, 20, 20), np.float32)},
            "type of example_TCHW is 'ndarray'",
        ),
        (
            {"example_TCHW": torch.ones(1, 1, 20, 20).byte()},
            "dtype of example_TCHW is 'torch.uint8'",
        ),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_in_a_sentence_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said) as raised:
        export_maps(tmp_path / "run", map_model(LinearGate(3, 2)), **({"server": False} | options))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_mixture_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^type of model is 'str'; expected MixtureOfExperts$"):
        export_maps(tmp_path / "run", "runs/train", server=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "example", "said"),
    [
        ("network", torch.rand(1, 3), "type of module is 'str'; expected Module"),
        (
            nn.Linear(3, 2),
            np.zeros((1, 3), np.float32),
            "type of inputs: input is 'ndarray'",
        ),
        (
            nn.Linear(3, 2),
            torch.rand(1, 4),
            r"shapes of inputs is 'input \(1, 4\)'; expected those",
        ),
    ],
)
def test_a_network_that_does_not_take_its_inputs_is_refused_in_a_sentence(
    tmp_path: Path, module: Any, example: Any, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{said}"):
        export_onnx(module, {"input": example}, tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "seed is None; expected a value"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"seed": 0, "subcarriers": 0}, "subcarriers is 0; expected at least 1"),
        ({"seed": 0, "snr": 3}, "snr is 3; expected a known key"),
    ],
)
def test_a_radio_that_is_none_is_refused_in_a_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{said}$"):
        RadioSpec(**values)


@pytest.mark.parametrize("part", ["shared", "clients"])
def test_a_folder_that_holds_a_run_is_refused_and_kept(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir()
    (tmp_path / part / "kept").touch()
    with pytest.raises(
        InvalidInputError, match=f"folder is '{tmp_path}'; expected one without {part}/ in it"
    ):
        export_maps(tmp_path, map_model(), server=False)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [part, f"{part}/kept"]


@pytest.mark.parametrize("beside", [True, pytest.param(False, marks=pytest.mark.long)])
def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run"
    if beside:
        (folder / ".export" / "shared").mkdir(parents=True)  # of a process that was killed
        (folder / "metrics.jsonl").touch()
    monkeypatch.setattr("airmoe.runs.export.write_manifest", fail)
    with pytest.raises(OSError, match="No space left"):
        export_maps(folder, map_model(), server=False)
    assert [path.name for path in tmp_path.rglob("*")] == (["run", "metrics.jsonl"] if beside else [])
    monkeypatch.undo()
    export_maps(folder, map_model(), server=False)
    assert {path.name for path in folder.iterdir()} == {"shared", "clients", *["metrics.jsonl"] * beside}


def hash_of(folder: Path) -> str:
    (model_hash,) = {read_manifest(client).model_hash for client in client_folders(folder)}
    return model_hash


CHANGES: dict[str, Callable[[MixtureOfExperts], None]] = {
    "extractor": lambda model: nn.init.zeros_(model.extractor[0].bias),
    "gate": lambda model: nn.init.zeros_(model.layer.gate.gate.last.weight),
    "expert 0": lambda model: nn.init.zeros_(model.layer.experts[0][0].bias),
    "expert 1": lambda model: nn.init.zeros_(model.layer.experts[1][3].weight),
}


def test_the_model_hash_covers_every_weight_and_what_the_outputs_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airmoe.runs.export.export_onnx", lambda _, inputs, path, **__: path.touch())
    monkeypatch.setattr(
        "airmoe.runs.export.export_gate", lambda gate, payload, experts, path, *_, **__: path.touch()
    )
    hashes = []
    for name, change in CHANGES.items():
        model = map_model()
        change(model)
        export_maps(tmp_path / name, model, server=False)
        hashes.append(hash_of(tmp_path / name))
    for name, options in {
        "same": {},
        "classes": {"class_names": ("b", "a", "c", "d")},
        "logits": {"output": "logits"},
    }.items():
        export_maps(tmp_path / name, map_model(), server=False, **options)
        hashes.append(hash_of(tmp_path / name))
    assert len(set(hashes)) == len(hashes)
    export_maps(tmp_path / "again", map_model(), server=False, mesh="another", placement=[[0, 1], [1]])
    assert hash_of(tmp_path / "again") == hash_of(tmp_path / "same")  # where experts lie is no matter


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
        for number, folder in enumerate(client_folders(served)):
            expected_TC = noisy_model.layer.experts[number](payload_T)
            actual_TC = onnx(folder / expert_file(number), payload_T.numpy())
            np.testing.assert_allclose(actual_TC, expected_TC, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "payload_T", "pooled_TF"),
    [
        ("vector", torch.rand(6, 8), lambda payload_T: payload_T),
        ("map", torch.rand(6, 8, 3, 2), lambda payload_T: payload_T.mean(dim=(2, 3))),
        ("tokens", torch.rand(6, 5, 8), lambda payload_T: payload_T[:, 0]),
    ],
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
    export_gate(gate, features_TF, 3, tmp_path / "gate.onnx", sees_snr=False)
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


def notes_in(message: Any) -> list[str]:
    """The fields of a protobuf message, at any depth, that hold remarks and not the network."""
    found = []
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            found.append(field.full_name)
        if field.message_type is not None:
            inner = [value] if hasattr(value, "ListFields") else value
            found += [name for each in inner for name in notes_in(each)]
    return found


class Branching(nn.Module):
    """Has graphs within its graph."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cond(inputs.sum() > 0, lambda some: some * 2, lambda some: some - 1, (inputs,))


@pytest.mark.usefixtures("traced_anew")
@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (LeNet5Extractor(1), torch.rand(2, 1, 32, 32)),
        (LeNet5Expert(10), torch.rand(2, 400)),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), torch.rand(2, 1, 5, 5)),
        (Branching(), torch.rand(2, 3)),
    ],
    ids=["extractor", "expert", "batch norm", "branches"],
)
def test_an_onnx_file_holds_the_network_and_no_remarks(
    tmp_path: Path, network: nn.Module, inputs: Tensor
) -> None:
    export_onnx(network, {"input": inputs}, tmp_path / "network.onnx")
    written = load_onnx(tmp_path / "network.onnx")
    assert notes_in(written) == []
    assert (written.producer_name, written.producer_version) == ("airmoe", airmoe.__version__)
    weights_bytes = sum(weights.nbytes for weights in network.state_dict().values())
    assert (tmp_path / "network.onnx").stat().st_size < weights_bytes + 8000
    (tmp_path / "elsewhere").mkdir()
    export_onnx(network, {"input": inputs}, tmp_path / "elsewhere" / "again.onnx")
    again = (tmp_path / "elsewhere" / "again.onnx").read_bytes()
    assert again == (tmp_path / "network.onnx").read_bytes()


class OneSize(nn.Module):
    """Counts its items, which fixes their number in an export."""

    def forward(self, inputs: Tensor, others: Tensor) -> Tensor:
        return inputs * len(others) + others


@pytest.mark.usefixtures("traced_anew")
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


@pytest.mark.usefixtures("traced_anew")
@pytest.mark.parametrize("module", [Changeable(), Unfinite()])
def test_an_export_that_says_something_else_is_refused(tmp_path: Path, module: nn.Module) -> None:
    with pytest.raises(RunFolderError, match=r"wrong\.onnx: ONNX and PyTorch outputs differ by"):
        export_onnx(module, {"input": torch.ones(2, 3)}, tmp_path / "wrong.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, traced_anew: None) -> list[nn.Module]:
    """The networks that PyTorch's exporter was given."""
    modules: list[nn.Module] = []
    export = torch.onnx.export

    def watched(module: nn.Module, *args: Any, **options: Any) -> Any:
        modules.append(module)
        return export(module, *args, **options)

    monkeypatch.setattr(torch.onnx, "export", watched)
    return modules


@pytest.mark.parametrize(
    ("one", "other", "payload_T"),
    [
        (MlpExpert(4, 3), MlpExpert(4, 3), torch.rand(5, 4)),
        (LeNet5Expert(10), LeNet5Expert(10), torch.rand(5, 400)),
    ],
    ids=["mlp", "lenet5"],
)
def test_a_network_of_the_same_form_is_written_without_a_trace_as_if_it_had_been_traced(
    tmp_path: Path, traced: list[nn.Module], one: nn.Module, other: nn.Module, payload_T: Tensor
) -> None:
    export_onnx(one, {"input": payload_T}, tmp_path / "one.onnx")
    export_onnx(other, {"input": payload_T}, tmp_path / "like.onnx", like=tmp_path / "one.onnx")
    assert traced == [one]
    export_onnx(other, {"input": payload_T}, tmp_path / "traced.onnx")
    assert (tmp_path / "like.onnx").read_bytes() == (tmp_path / "traced.onnx").read_bytes()
    assert (tmp_path / "like.onnx").read_bytes() != (tmp_path / "one.onnx").read_bytes()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4), nn.Tanh())),
        (nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 2))),
        (nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))),
    ],
    ids=["another function", "another width", "another depth"],
)
def test_a_network_of_another_form_is_traced(
    tmp_path: Path, traced: list[nn.Module], one: nn.Module, other: nn.Module
) -> None:
    inputs_TF = torch.randn(6, 4)
    export_onnx(one, {"input": inputs_TF}, tmp_path / "one.onnx")
    export_onnx(other, {"input": inputs_TF}, tmp_path / "other.onnx", like=tmp_path / "one.onnx")
    assert traced == [one, other]
    with torch.no_grad():
        np.testing.assert_allclose(
            onnx(tmp_path / "other.onnx", inputs_TF.numpy()), other(inputs_TF), atol=1e-5
        )


def test_of_experts_of_one_form_only_the_first_is_traced(tmp_path: Path, traced: list[nn.Module]) -> None:
    model = map_model()
    export_maps(tmp_path / "run", model, server=False)
    assert traced[0] is model.extractor
    assert traced[2:] == [model.layer.experts[0]]
