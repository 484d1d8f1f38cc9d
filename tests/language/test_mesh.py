"""A language model whose experts are served by processes."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airmoe.errors import (
    InvalidInputError,
    MeshError,
    NoExpertReachedError,
    NoNodeReachableError,
    RunFolderError,
)
from airmoe.language import MoeTransformer, mesh
from airmoe.language.generation import Written, generate
from airmoe.language.record import is_degraded, missed_nodes, records_of
from airmoe.language.simulation import Simulated
from airmoe.language.writer import Writer
from airmoe.manifest import read_manifest, write_manifest
from airmoe.mesh import MeshClient, Node, simulated_links
from airmoe.mesh.bundle import bundled, unbundled
from airmoe.mesh.fleet import NodeFleet
from airmoe.mesh.frame import Frame, encode
from airmoe.runfolder import client_folders, sha256_of
from tests.language.served import RADIO, served
from tests.mesh.impostor import Impostor, reply_to
from tests.mesh.ports import free_address

MeshSource = partial(mesh.MeshSource, hedge_s=10.0)
"""On a busy machine a node may be late that is well; another expert in its place would be another text."""

PROMPTS = [b"wireless", b"an expert"]
LENGTH = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MoeTransformer]:
    return served(tmp_path_factory.mktemp("served") / "run")


@pytest.fixture(scope="module")
def fleet(run: tuple[Path, MoeTransformer]) -> Iterator[NodeFleet]:
    with NodeFleet(client_folders(run[0]), schedule="jesa:0.6:2", slot_ms=0.0) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def source(run: tuple[Path, MoeTransformer], fleet: NodeFleet) -> Iterator[mesh.MeshSource]:
    with MeshSource(client_folders(run[0])[0], fleet.addresses[:1], identity=fleet.identities[0]) as source:
        assert source.wait_for_all(20, schedulers=True)
        yield source


@pytest.fixture(scope="module")
def whole(run: tuple[Path, MoeTransformer], source: mesh.MeshSource) -> MoeTransformer:
    """The model with all experts in this process, placed as they are in the mesh."""
    run[1].place(source.placements)
    return run[1]


def text_of(steps: list[Written]) -> np.ndarray:
    return np.stack([step.byte_B for step in steps], axis=1)


@pytest.mark.parametrize("policy", ["topk:2", "des:0.6:2", "jesa:0.6:2", "best-link:1"])
def test_local_simulated_and_mesh_carriers_agree(
    source: mesh.MeshSource, whole: MoeTransformer, policy: str
) -> None:
    links = simulated_links(RADIO, 4)
    simulated = Simulated(whole, lambda slot: links)
    runs = {}
    for reach in (simulated, source):
        model = whole if reach is simulated else Writer.over(source).model
        calls = reach.calls(policy)
        runs[reach] = list(generate(model, PROMPTS, LENGTH, calls=calls, source=0))
    for ours, theirs in zip(*runs.values(), strict=True):
        np.testing.assert_array_equal(ours.byte_B, theirs.byte_B)
        for one, other in zip(ours.layers, theirs.layers, strict=True):
            assert one.dispatched is not None
            assert other.dispatched is not None
            torch.testing.assert_close(one.y_TC, other.y_TC, rtol=1e-5, atol=1e-5)
            for name in ("arrived_TE", "node_TE", "energy_j_T", "airtime_s_T", "bits"):
                np.testing.assert_allclose(
                    getattr(one.dispatched, name), getattr(other.dispatched, name), rtol=1e-9
                )
            assert one.dispatched.decided_by == other.dispatched.decided_by == policy
            table = one.dispatched.subcarrier_NN
            assert (table is None) == (policy != "jesa:0.6:2")
            np.testing.assert_array_equal(table, other.dispatched.subcarrier_NN)


def test_without_links_the_whole_model_writes_the_same(
    source: mesh.MeshSource, whole: MoeTransformer
) -> None:
    local = text_of(list(Writer(whole, Simulated(whole)).write(PROMPTS, LENGTH)))
    np.testing.assert_array_equal(local, text_of(list(Writer.over(source).write(PROMPTS, LENGTH))))


def test_a_text_may_rest_at_any_node(
    run: tuple[Path, MoeTransformer], fleet: NodeFleet, whole: MoeTransformer
) -> None:
    expected = text_of(list(Writer(whole, Simulated(whole)).write(PROMPTS, LENGTH)))
    with MeshSource(client_folders(run[0])[2], fleet.addresses, identity=fleet.identities[2]) as source:
        source.wait_for_all(20)
        steps = list(Writer.over(source).write(PROMPTS, LENGTH))
    np.testing.assert_array_equal(text_of(steps), expected)
    homes = {
        each["expert"]
        for step in steps
        for layer in records_of(step.layers, 2)
        for each in layer["answers"]
        if each["node"] == 2
    }
    assert homes <= {2, 3}
    assert homes


def test_an_owner_is_left_out_and_replicas_are_asked(source: mesh.MeshSource, whole: MoeTransformer) -> None:
    writer = Writer.over(source)
    steps = list(writer.write(PROMPTS, LENGTH, without=[3]))
    np.testing.assert_array_equal(text_of(steps), text_of(list(writer.write(PROMPTS, LENGTH))))
    nodes = {
        n
        for step in steps
        for each in records_of(step.layers, 0)
        for n in (a["node"] for a in each["answers"])
    }
    assert 3 not in nodes
    assert {0, 2} <= nodes
    assert not any(is_degraded(step.layers) for step in steps)


def test_an_expert_that_nobody_else_holds_is_left_out_alike_in_mesh_and_simulation(
    source: mesh.MeshSource, whole: MoeTransformer
) -> None:
    left = {"without": [1, 2]}  # of expert 2 both nodes
    links = simulated_links(RADIO, 4)
    here = list(Writer(whole, Simulated(whole, lambda slot: links)).write(PROMPTS, LENGTH, **left))
    there = list(Writer.over(source).write(PROMPTS, LENGTH, **left))
    np.testing.assert_array_equal(text_of(here), text_of(there))
    for step in there:
        for layer in step.layers:
            assert layer.dispatched is not None
            assert not layer.dispatched.requested_TE[:, 2].any()
            assert (layer.dispatched.requested_TE.sum(axis=1) == 2).all()
        assert not is_degraded(step.layers)


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ([0], "without is 0; expected other nodes than the one where the text rests"),
        ([4], "without.* is 4"),
        ([-1], "is -1"),
    ],
)
def test_a_node_that_cannot_be_left_out_is_refused(
    source: mesh.MeshSource, without: list[int], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        source.calls(without=without)


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_text_goes_on_unchanged_when_a_node_dies_and_replicas_exist(
    run: tuple[Path, MoeTransformer], whole: MoeTransformer, how: str
) -> None:
    expected = text_of(list(Writer(whole, Simulated(whole)).write(PROMPTS, LENGTH)))
    folders = client_folders(run[0])
    with (
        NodeFleet(folders) as fleet,
        MeshSource(folders[0], fleet.addresses, identity=fleet.identities[0]) as source,
    ):
        source.wait_for_all(20)
        steps = []
        for step in Writer.over(source, deadline_s=10).write(PROMPTS, LENGTH):
            steps.append(step)
            if len(steps) == 4:
                getattr(fleet, how)(1)
    np.testing.assert_array_equal(text_of(steps), expected)
    after = [
        answer["node"]
        for step in steps[5:]
        for layer in records_of(step.layers, 0)
        for answer in layer["answers"]
    ]
    assert 1 not in after
    assert not any(is_degraded(step.layers) for step in steps[5:])


def test_a_text_goes_on_without_an_expert_that_nobody_else_holds_and_says_so(
    tmp_path: Path,
) -> None:
    folder, _ = served(tmp_path / "run", [[0], [1], [2], [3]])
    folders = client_folders(folder)
    with (
        NodeFleet(folders) as fleet,
        MeshSource(folders[0], fleet.addresses, identity=fleet.identities[0]) as source,
    ):
        source.wait_for_all(20)
        steps = []
        for step in Writer.over(source, policy="topk:4", deadline_s=10).write([b"wireless"], 8):
            steps.append(step)
            if len(steps) == 3:
                fleet.kill(2)
    assert len(steps) == 8
    assert [is_degraded(step.layers) for step in steps[:3]] == [False] * 3
    assert all(is_degraded(step.layers) for step in steps[4:])
    for layer in records_of(steps[-1].layers, 0):
        assert [answer["expert"] for answer in layer["answers"]] == [0, 1, 3]
        assert layer["degraded"] == 1


def test_a_source_alone_answers_by_its_own_experts_and_says_so(tmp_path: Path) -> None:
    folder, _ = served(tmp_path / "run", [[0], [1], [2], [3]])
    with MeshSource(client_folders(folder)[1]) as source:
        with pytest.raises(NoNodeReachableError, match="expected 1"):
            source.wait_for_nodes(timeout_s=0.1)
        steps = list(Writer.over(source).write([b"wireless"], 3))
    assert all(is_degraded(step.layers) for step in steps)
    answers = [layer["answers"] for step in steps for layer in records_of(step.layers, 1)]
    assert {(answer["expert"], answer["node"]) for layer in answers for answer in layer} == {(1, 1)}


def test_a_source_without_experts_needs_nodes(tmp_path: Path) -> None:
    from airmoe.runs.export_layers import export_layers
    from tests.language.served import random_model

    model = random_model()
    layers = [list(block.moe.experts) for block in model.blocks]  # type: ignore[union-attr, arg-type]
    export_layers(tmp_path, layers, 16, radio=RADIO, server=True)
    with MeshSource(tmp_path / "clients" / "server") as source:
        assert source.node == 4
        with pytest.raises(NoExpertReachedError):
            list(generate(model, [b"a"], 1, calls=source.calls("topk:1", deadline_s=0.2), source=4))


def test_what_a_text_takes_is_recorded_layer_by_layer(source: mesh.MeshSource) -> None:
    first, second = list(Writer.over(source, policy="jesa:0.6:2").write([b"wireless"], 2))
    for step, tokens in ((first, 8), (second, 1)):
        layers = records_of(step.layers, 0)
        json.dumps(layers)
        assert [layer["layer"] for layer in layers] == [1, 2, 3]
        for layer, done in zip(layers, step.layers, strict=True):
            assert layer["tokens"] == tokens
            assert layer["decided_by"] == "jesa:0.6:2"
            asked = sum(answer["tokens"] for answer in layer["answers"])
            away = sum(answer["tokens"] for answer in layer["answers"] if answer["node"] != 0)
            assert done.dispatched is not None
            assert asked == done.dispatched.arrived_TE.sum()
            assert layer["bits"] == away * (16 * 32 + 32)
            assert (layer["energy_j"] > 0) == (away > 0)
            # An output comes back over a subcarrier of its own.
            others = {answer["node"] for answer in layer["answers"]} - {0}
            ways = [(a, b) for a, b, _ in layer["subcarriers"]]
            assert set(ways) == {way for n in others for way in ((0, n), (n, 0))}
            assert len({number for *_, number in layer["subcarriers"]}) == len(ways)
    assert missed_nodes(second.layers) == []


def test_links_that_change_are_asked_for_anew(run: tuple[Path, MoeTransformer], fleet: NodeFleet) -> None:
    class Changing:
        asked = 0

        def current(self):  # type: ignore[no-untyped-def]
            self.asked += 1
            return simulated_links(RADIO, 4)

    links = Changing()
    with MeshSource(
        client_folders(run[0])[0],
        fleet.addresses,
        links=links,
        identity=fleet.identities[0],
    ) as source:
        source.wait_for_all(20)
        list(Writer.over(source).write([b"wireless"], 4))
    assert links.asked == 4 * 3


def test_without_a_scheduler_the_fallback_decides_and_the_text_says_so(
    run: tuple[Path, MoeTransformer],
) -> None:
    folders = client_folders(run[0])
    with (
        NodeFleet(folders) as fleet,
        MeshSource(folders[0], fleet.addresses, identity=fleet.identities[0]) as source,
    ):
        source.wait_for_all(20)
        (step,) = Writer.over(source, policy="jesa:0.6:2").write([b"wireless"], 1)
    assert {layer["decided_by"] for layer in records_of(step.layers, 0)} == {"des:0.6:2"}


def test_experts_of_one_node_share_a_message(
    source: mesh.MeshSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airmoe.mesh import requests, wire

    messages = list[tuple[str, int]]()

    def counted(session: Any, key: str, asker: str, data: bytes, *others: Any) -> None:
        messages.append((key, len(unbundled(data))))
        ask(session, key, asker, data, *others)

    ask = wire.ask
    monkeypatch.setattr(wire, "ask", counted)
    (step,) = Writer.over(source, policy="all").write([b"wireless"], 1, without=[1, 3])
    # Of the four experts node 2 alone holds 1 and 2; 0 and 3 are here.
    assert [count for _, count in messages] == [2] * 3
    assert {key.rpartition("/")[2] for key, _ in messages} == {"2"}
    assert [len(layer["answers"]) for layer in records_of(step.layers, 0)] == [4] * 3
    # What would be too large together goes alone.
    messages.clear()
    monkeypatch.setattr(requests, "MAX_FRAME_BYTES", 900)
    list(Writer.over(source, policy="all").write([b"wireless"], 1, without=[1, 3]))
    assert [count for _, count in messages] == [1] * 6


def test_traffic_is_counted(source: mesh.MeshSource) -> None:
    calls = source.calls("topk:2")
    model = Writer.over(source).model
    before = calls.traffic.sent_bytes
    list(generate(model, [b"wireless"], 1, calls=calls, source=0))
    assert before == 0
    assert calls.traffic.sent_bytes > 3 * 16 * 4
    assert calls.traffic.received_bytes > 3 * 16 * 4


def test_a_closed_source_is_refused(run: tuple[Path, MoeTransformer], fleet: NodeFleet) -> None:
    with MeshSource(client_folders(run[0])[0], fleet.addresses, identity=fleet.identities[0]) as source:
        pass
    source.close()
    with pytest.raises(MeshError, match="closed"):
        source.calls()


def test_a_folder_of_another_kind_is_refused_by_name(
    run: tuple[Path, MoeTransformer], run_folder: Path
) -> None:
    with pytest.raises(
        InvalidInputError, match="expected one of a language model: this one asks about images"
    ):
        MeshSource(client_folders(run_folder)[0])
    with pytest.raises(
        InvalidInputError, match="expected a client that asks about images: this one is of texts"
    ):
        MeshClient(client_folders(run[0])[0])


def test_a_damaged_file_of_the_source_is_refused_and_its_node_still_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = served(tmp_path / "run")
    client = client_folders(folder)[0]
    (client / "source.safetensors").write_bytes(b"\x80\x04.")  # a pickle
    with ExitStack() as open_:
        source = open_.enter_context(MeshSource(client))
        with pytest.raises(RunFolderError, match=r"source\.safetensors is damaged: SHA-256"):
            Writer.over(source)
        open_.enter_context(Node(client, free_address()))
        assert "source.safetensors is damaged" in caplog.text


def test_a_node_that_serves_another_models_expert_is_refused(
    run: tuple[Path, MoeTransformer], tmp_path: Path
) -> None:
    """Its manifest is that of the mesh, but its weights are not: the reply's hash tells."""
    folders = client_folders(run[0])
    false = tmp_path / "false"
    shutil.copytree(folders[1], false)
    manifest = read_manifest(false)
    name, other = "layer-2-expert-1.onnx", "layer-1-expert-1.onnx"
    (false / name).unlink()
    shutil.copy(false / other, false / name)
    digest = sha256_of(false / name)
    layer = manifest.layer(2)
    hashes = [digest[:16] if expert == 1 else each for expert, each in enumerate(layer.hashes)]
    layers = [
        layer.model_copy(update={"hashes": hashes}) if each.layer == 2 else each for each in manifest.layers
    ]
    write_manifest(
        false, manifest.model_copy(update={"layers": layers, "sha256": manifest.sha256 | {name: digest}})
    )
    with ExitStack() as open_:
        address = free_address()
        open_.enter_context(Node(false, address))
        source = open_.enter_context(MeshSource(folders[0], [address]))
        source.wait_for_nodes()
        (step,) = Writer.over(source, policy="topk:4").write([b"wireless"], 1)
    first, second, _ = records_of(step.layers, 0)
    assert {"expert": 1, "node": 1, "tokens": 8} not in second["answers"]
    assert {"expert": 2, "node": 1, "tokens": 8} in first["answers"]


def test_texts_at_two_nodes_share_a_scheduler_and_its_subcarriers(
    run: tuple[Path, MoeTransformer], fleet: NodeFleet
) -> None:
    folders, steps = client_folders(run[0]), dict[int, list[Written]]()

    def write(node: int) -> None:
        with MeshSource(folders[node], fleet.addresses, identity=fleet.identities[node]) as source:
            source.wait_for_all(20, schedulers=True)
            writer = Writer.over(source, policy="jesa:0.6:2", deadline_s=20)
            steps[node] = list(writer.write([b"wireless"], LENGTH))

    threads = [threading.Thread(target=write, args=(node,)) for node in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for node in (0, 2):
        records = [layer for step in steps[node] for layer in records_of(step.layers, node)]
        assert len(records) == LENGTH * 3
        assert {layer["decided_by"] for layer in records} == {"jesa:0.6:2"}
        assert not any(layer["degraded"] for layer in records)
        used = {way[0] for layer in records for way in layer["subcarriers"]}
        assert node in used or all(not layer["subcarriers"] for layer in records)


def test_layers_in_another_order_are_refused(run: tuple[Path, MoeTransformer], tmp_path: Path) -> None:
    folder = tmp_path / "client"
    shutil.copytree(client_folders(run[0])[0], folder)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"layers": manifest.layers[::-1]}))
    with pytest.raises(RunFolderError, match=r"has layers \[3, 2, 1\]; expected 1 to 3, in order"):
        MeshSource(folder)


def test_a_reply_with_a_frame_too_many_does_not_count(run: tuple[Path, MoeTransformer]) -> None:
    """Node 3 answers twice what it was asked once; its expert is at node 2 as well."""
    folders = client_folders(run[0])
    manifest = read_manifest(folders[3])
    first, second = free_address(), free_address()

    def twice(request: Frame) -> bytes:
        return bundled([encode(reply_to(request, request.arrays["payload"]))] * 2)

    replicas = [(0, 3), (3, 3)]
    with ExitStack() as open_:
        open_.enter_context(Node(folders[2], first))
        open_.enter_context(Impostor(manifest, [], twice, second, first, replicas=replicas))
        source = open_.enter_context(MeshSource(folders[0], [first, second]))
        layer = source.mesh.layers[0]
        assert layer.liveliness.wait_until(lambda alive: len({node for _, node in alive}) == 2, 20)
        (step,) = Writer.over(source, policy="all").write([b"wireless"], 1)
    answers = [answer for layer in records_of(step.layers, 0) for answer in layer["answers"]]
    assert 3 not in {answer["node"] for answer in answers}
