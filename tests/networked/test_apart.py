"""Nodes that are elsewhere: the mixture of one process, whatever the method, whoever was killed or late."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("flwr", reason="needs airmoe[flower]")

from airmoe.data import ImageSet
from airmoe.errors import DataError, InvalidInputError, RunFolderError
from airmoe.federated import Client, Message
from airmoe.federated.flower.engine import FlowerReach
from airmoe.federated.flower.frame import Frame
from airmoe.federated.flower.node import ResidentNode, run_name
from airmoe.manifest import Manifest
from airmoe.networked import NetworkedConfig, load_config, parse_config, split_among_clients, train_stages
from airmoe.networked.apart import EXTRACTOR, NodesApart, told_to_nodes
from airmoe.networked.client_data import held_out_of
from airmoe.networked.export_apart import FOLDER, Exporting
from airmoe.networked.features import feature_network
from airmoe.networked.fedsc import MATRIX
from airmoe.networked.flower import _config, _export, _manifests
from airmoe.networked.node import NetworkedNode, Workspace
from airmoe.networked.node_apart import NodeApart
from airmoe.networked.stages import train_shared_parts
from airmoe.runfolder import client_folders, sha256_of
from tests.federated.flower.grids import Answer, ClockedGrid

TINY = """
[data]
clients = 3
[features]
rounds = 2
[experts]
epochs = 2
[gate]
rounds = 2
"""
SECURE = "[federation]\nsecure_sums = true\n"
METHODS = {
    "rounds": TINY,
    "secure sums": TINY + SECURE,
    "closed form": TINY.replace("[gate]", '[gate]\nmethod = "closed-form"') + SECURE,
    "sums by class": TINY.replace("epochs = 2", 'method = "sums"').replace(
        "[gate]\nrounds = 2", '[gate]\nmethod = "posterior"'
    ),
}


def parsed(text: str) -> NetworkedConfig:
    return parse_config(text, "test")


def living(folder: Path, client: int) -> Answer:
    """A node whose process stays."""
    return ResidentNode(client, folder / str(client), NodeApart).answer


def dying(folder: Path, client: int) -> Answer:
    """A node whose process is killed after every answer."""

    def answer(frame: Frame) -> Frame:
        return living(folder, client)(frame)

    return answer


def reach_over(config: NetworkedConfig, images: ImageSet, grid: ClockedGrid) -> FlowerReach:
    settings = told_to_nodes(config, held_out_of(images))
    return FlowerReach(grid, config.data.clients, settings, timeout_s=9.0, now=grid.now, sleep=grid.sleep)


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def kept(folder: Path, client: int, name: str) -> dict[str, torch.Tensor]:
    (run,) = (folder / str(client)).iterdir()
    return load_file(run / f"{name}.safetensors")


@pytest.mark.parametrize("method", METHODS)
def test_it_ends_at_the_networks_of_one_process(method: str, tmp_path: Path, digits: ImageSet) -> None:
    config = parsed(METHODS[method])
    grid = ClockedGrid({client: living(tmp_path, client) for client in range(3)})
    nodes = NodesApart(reach_over(config, digits, grid), 3)
    shared = train_shared_parts(config, nodes, held_out_of(digits))
    expected = train_stages(config, split_among_clients(config, digits)).model
    assert same(shared.extractor.state_dict(), expected.extractor.state_dict())
    assert same(shared.gate.state_dict(), expected.layer.gate.state_dict())
    for client, expert in enumerate(expected.layer.experts):
        assert same(kept(tmp_path, client, "expert"), expert.state_dict())


@pytest.mark.long
def test_nodes_that_are_killed_after_every_answer_end_at_the_same_networks(
    tmp_path: Path, digits: ImageSet
) -> None:
    config = parsed(TINY)
    grid = ClockedGrid({client: dying(tmp_path, client) for client in range(3)})
    shared = train_shared_parts(config, NodesApart(reach_over(config, digits, grid), 3), held_out_of(digits))
    expected = train_stages(config, split_among_clients(config, digits)).model
    assert same(shared.extractor.state_dict(), expected.extractor.state_dict())
    assert same(shared.gate.state_dict(), expected.layer.gate.state_dict())


@pytest.mark.parametrize("method", ["rounds", "sums by class"])
def test_a_node_that_comes_after_its_expert_was_wanted_makes_it_all_the_same(
    method: str, tmp_path: Path, digits: ImageSet
) -> None:
    config = parsed(METHODS[method])
    grid = ClockedGrid({client: living(tmp_path, client) for client in range(2)})

    def comes(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "experts":
            grid.answers[2] = living(tmp_path, 2)

    nodes = NodesApart(reach_over(config, digits, grid), 3)
    shared = train_shared_parts(config, nodes, held_out_of(digits), progress=comes)
    missing = {row["stage"]: row.get("missing", "") for row in shared.rows}
    assert missing["experts"] == "2"
    assert missing["gate"] == ""
    assert same(kept(tmp_path, 2, "extractor"), shared.extractor.state_dict())
    assert kept(tmp_path, 2, "expert")


@dataclass(frozen=True)
class Exported:
    """A run over nodes that are elsewhere, with the settings of the session's run in one process."""

    nodes: Path
    name: str
    absent: list[int]
    said: list[Frame]

    def folder(self, client: int) -> Path:
        return self.nodes / str(client) / self.name / FOLDER


@pytest.fixture(scope="module")
def exported(run_folder: Path, digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    config, folder = load_config(run_folder / "config.toml"), tmp_path_factory.mktemp("apart")
    said: list[Frame] = []

    def heard(answer: Answer) -> Answer:
        def answering(frame: Frame) -> Frame:
            said.append(answer(frame))
            return said[-1]

        return answering

    grid = ClockedGrid({client: heard(living(folder / "nodes", client)) for client in range(4)})
    nodes = NodesApart(reach_over(config, digits, grid), 4)
    shared = train_shared_parts(config, nodes, held_out_of(digits))
    (folder / "out").mkdir()
    absent = _export(folder / "out", config, shared, held_out_of(digits), nodes)
    return Exported(folder / "nodes", run_name(told_to_nodes(config, held_out_of(digits))), absent, said)


@pytest.mark.long
def test_the_folders_that_nodes_write_are_those_of_a_run_in_one_process(
    exported: Exported, run_folder: Path
) -> None:
    assert exported.absent == []
    for client, folder in enumerate(client_folders(run_folder)):
        mine = {path.name: sha256_of(path) for path in exported.folder(client).iterdir()}
        assert mine == {path.name: sha256_of(path) for path in folder.iterdir()}


@pytest.mark.long
def test_no_message_of_a_node_holds_its_expert(exported: Exported) -> None:
    assert len(exported.said) > 100
    for client in range(4):
        for weights in kept(exported.nodes, client, "expert").values():
            part = weights.flatten()[:8].numpy().tobytes()
            assert not any(part in frame.tensors or part in frame.letters for frame in exported.said)


def test_of_a_client_that_is_not_there_at_the_end_the_others_are_told_that_it_is_down(
    tmp_path: Path, digits: ImageSet
) -> None:
    for name in ("extractor.onnx", "gate.onnx", "extractor.safetensors", "gate.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    stage = Exporting(_manifests(parsed(TINY), held_out_of(digits), [84], 3, sees_snr=False), tmp_path)
    digests = {name: torch.ones(32, dtype=torch.uint8) for name in ("weights", "network")}
    _, told = stage.server_step("expert", {}, {client: Message(digests) for client in (0, 2)})
    read = {
        client: Manifest.model_validate_json(message.tensors["manifest"].numpy().tobytes())
        for client, message in told.items()
    }
    assert read.keys() == {0, 2}
    assert read[0].model_hash == read[2].model_hash
    assert read[0].layers[0].hashes == ["01" * 8, "0" * 16, "01" * 8]
    assert read[2].sha256["expert-2.onnx"] == "01" * 32


def test_digests_that_are_none_are_rejected(tmp_path: Path) -> None:
    stage = Exporting([], tmp_path)
    right = {name: torch.zeros(32, dtype=torch.uint8) for name in ("weights", "network")}
    assert stage.fault("expert", {}, Message(right)) == ""
    for wrong in ({}, {**right, "expert": torch.zeros(3)}, {**right, "network": torch.zeros(32)}):
        assert "no digests of an expert" in stage.fault("expert", {}, Message(wrong))


def images_of(folder: Path, classes: str, digits: ImageSet, channels: int = 1) -> str:
    """A folder of a few images of each of these classes."""
    from PIL import Image

    for name in classes:
        (folder / name).mkdir(parents=True)
        for number, image_CHW in enumerate(digits.train_images[digits.train_labels == int(name)][:6]):
            picture = Image.fromarray(image_CHW[0])
            (picture if channels == 1 else picture.convert("RGB")).save(folder / name / f"{number}.png")
            if channels == 3:
                Image.new("RGB", (32, 32), (255, 0, 0)).save(folder / name / "red.png")
    return f"folder:{folder}"


def test_a_node_with_images_of_its_own_names_its_classes_as_the_run_does(
    tmp_path: Path, digits: ImageSet
) -> None:
    config = parsed(TINY)
    data = images_of(tmp_path / "own", "73", digits)
    node = NodeApart(told_to_nodes(config, held_out_of(digits)), 1, tmp_path, data=data)
    assert node._holds == [3, 7]


def test_images_of_other_classes_or_another_shape_are_refused(tmp_path: Path, digits: ImageSet) -> None:
    settings = told_to_nodes(parsed(TINY), held_out_of(digits))
    data = images_of(tmp_path / "own", "73", digits)
    (tmp_path / "own" / "7").rename(tmp_path / "own" / "cat")
    with pytest.raises(DataError, match=r"classes \['cat'\] are none of the run's"):
        NodeApart(settings, 1, tmp_path, data=data)
    coloured = images_of(tmp_path / "coloured", "73", digits, channels=3)
    with pytest.raises(DataError, match=r"images of client 1 are \(3, 32, 32\); those of the run are \(1, "):
        NodeApart(settings, 1, tmp_path, data=coloured)


def test_noise_for_privacy_is_secret_and_the_same_after_a_crash(tmp_path: Path, digits: ImageSet) -> None:
    config = parsed(TINY.replace("[features]", '[features]\nmethod = "fedsc"\nspectral.noise_std = 0.1'))
    settings = told_to_nodes(config, held_out_of(digits))
    data = split_among_clients(config, digits)
    here = NetworkedNode(
        config, data.images_TCHW[1], data.labels_T[1], 1, Workspace(config, (1, 32, 32), 10, 3)
    ).client("features")
    weights = feature_network(config, (1, 32, 32), 10).state_dict()

    def sent(client: Client) -> torch.Tensor:
        return client.client_step("correlate", {}, Message(weights, {"round": 0.0}))[1].tensors[MATRIX]

    node = sent(NodeApart(settings, 1, tmp_path / "a").client("features"))
    assert torch.equal(node, sent(NodeApart(settings, 1, tmp_path / "a").client("features")))
    assert (tmp_path / "a" / "noise.seed").stat().st_mode & 0o777 == 0o600
    for other in (sent(here), sent(NodeApart(settings, 1, tmp_path / "b").client("features"))):
        assert (node - other).std() > 0.1  # the noise of one is not that of the other


def test_what_a_node_kept_and_is_damaged_is_refused(tmp_path: Path, digits: ImageSet) -> None:
    (tmp_path / "expert.safetensors").write_bytes(b"noise")
    with pytest.raises(RunFolderError, match=r"expert\.safetensors is damaged"):
        NodeApart(told_to_nodes(parsed(TINY), held_out_of(digits)), 1, tmp_path)


@pytest.mark.parametrize(("text", "secure"), [(TINY, True), (TINY + SECURE.replace("true", "false"), False)])
def test_sums_are_secure_unless_the_settings_say_otherwise(text: str, secure: bool, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    assert _config(str(tmp_path / "run.toml")).federation.secure_sums is secure


def test_two_clients_are_refused_with_the_reason_and_may_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[data]\nclients = 2\n")
    with pytest.raises(InvalidInputError, match=r"expected at least 3 with federation\.secure_sums"):
        _config(str(tmp_path / "run.toml"))
    (tmp_path / "run.toml").write_text("[data]\nclients = 2\n[federation]\nsecure_sums = false\n")
    assert _config(str(tmp_path / "run.toml")).data.clients == 2


def test_gates_of_the_clients_own_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TINY.replace("[gate]", '[gate]\nsync = "none"'))
    with pytest.raises(InvalidInputError, match=r"gate\.sync is 'none'; expected fedavg"):
        _config(str(tmp_path / "run.toml"))


def test_features_of_an_earlier_extractor_are_forgotten(tmp_path: Path, digits: ImageSet) -> None:
    config = parsed(TINY)
    node = NodeApart(told_to_nodes(config, held_out_of(digits)), 0, tmp_path)
    before = node._node.features_TF
    other = feature_network(config.model_copy(update={"seed": 5}), (1, 32, 32), 10).extractor.state_dict()
    node.client(EXTRACTOR).client_step("tell", {}, Message(other, {"round": 0.0}))
    assert not torch.allclose(node._node.features_TF, before)


def test_a_node_may_insist_on_secure_sums(tmp_path: Path, digits: ImageSet) -> None:
    bare, secure = (told_to_nodes(parsed(text), held_out_of(digits)) for text in (TINY, TINY + SECURE))
    with pytest.raises(InvalidInputError, match=r"federation\.secure_sums is False; expected true"):
        NodeApart(bare, 0, tmp_path, only_secure_sums=True)
    NodeApart(secure, 0, tmp_path, only_secure_sums=True)


def test_a_node_gives_no_sum_by_another_name(tmp_path: Path, digits: ImageSet) -> None:
    node = NodeApart(told_to_nodes(parsed(TINY + SECURE), held_out_of(digits)), 0, tmp_path)
    for part in ("features", "statistics"):
        with pytest.raises(InvalidInputError, match="exchange is 'Train'"):
            node.client(part).client_step("Train", {}, Message({}, {"round": 0.0}))
