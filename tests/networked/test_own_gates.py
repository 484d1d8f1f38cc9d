"""Whole runs whose clients end with gates of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.federated import Loop
from airmoe.networked import split_among_clients, train_run
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.gate_training import train_gate
from airmoe.networked.node import GATE, NodesHere
from airmoe.networked.stages import train_stages
from airmoe.nn import LinearGate, PersonalGates
from airmoe.runfolder import client_folders
from airmoe.runs import compare, load_run
from airmoe.runs.checkpoint import Checkpoint

Config = Callable[..., NetworkedConfig]


@pytest.mark.parametrize("sync", [pytest.param("none", marks=pytest.mark.long), "partial:2"])
def test_a_run_delivers_the_gates_that_it_measured(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config, sync: str
) -> None:
    config = tiny_config(data={"clients": 3}, gate={"sync": sync, "rounds": 4})
    trained = train_run(config, few_digits, tmp_path / "run")
    assert isinstance(trained.model.layer.gate, PersonalGates)
    run = load_run(tmp_path / "run")
    for name, weights in trained.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], weights), name
    found = compare(run, few_digits, links="perfect", seeds=1)
    (row,) = (each for each in found.rows if each.policy == "topk:1")
    assert row.macro_f1 == pytest.approx(trained.rows[-1]["macro_f1"])
    assert row.local_share == pytest.approx(trained.rows[-1]["local_share"])
    written = {(folder / "gate.onnx").read_bytes() for folder in client_folders(run.folder)}
    assert len(written) == 3


@pytest.mark.parametrize(
    "gate",
    [
        {"sync": "ring", "method": "rangate"},
        {"sync": "partial:2", "channel_aware": True},
        {"method": "rollgate"},
        {"method": "closed-form", "channel_aware": True},
    ],
    ids=["ring", "partial", "roll", "closed form"],
)
def test_a_run_that_is_interrupted_ends_at_the_same_gates(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config, gate: dict[str, object]
) -> None:
    class Interrupted(Exception):
        pass

    def stop(activity: str, done: int, total: int, note: str = "", /) -> None:
        if activity == "gate" and done == min(2, total):
            raise Interrupted

    config, checkpoint = tiny_config(data={"clients": 3}, gate=gate), Checkpoint(tmp_path, "x")
    data = split_among_clients(config, few_digits)
    whole = train_stages(config, data)
    with pytest.raises(Interrupted):
        train_stages(config, data, checkpoint=checkpoint, progress=stop)
    resumed = train_stages(config, data, checkpoint=checkpoint)
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weights), name
    assert resumed.rows == whole.rows


@pytest.mark.long
@pytest.mark.parametrize("method", ["rangate", "rollgate"])
def test_other_methods_learn_which_expert_is_good_for_an_image(
    digits: ImageSet, tiny_config: Config, method: str
) -> None:
    gate = {"method": method, "rounds": 12}
    sections = {"features": {"rounds": 8}, "experts": {"epochs": 8}, "model": {"expert_hidden": 64}}
    config = tiny_config(data={"clients": 4}, gate=gate, **sections)
    rows = train_stages(config, split_among_clients(config, digits)).rows
    assert rows[-1]["macro_f1"] > 0.8
    assert isinstance(rows[-1]["local_share"], float)


class Elsewhere(NodesHere):
    """Nodes that keep their states to themselves."""

    def engine(self, stage: str) -> Loop:
        engine = super().engine(stage)
        if stage == GATE:
            engine.states = {}
        return engine


def test_gates_of_clients_that_are_elsewhere_cannot_be_delivered_here(
    few_digits: ImageSet, tiny_config: Config
) -> None:
    config = tiny_config(gate={"sync": "none"})
    data = split_among_clients(config, few_digits)
    model = train_stages(config, data).model
    nodes = Elsewhere(config, data)
    nodes.settle(
        model.extractor.state_dict(),
        {client: expert.state_dict() for client, expert in enumerate(model.layer.experts)},
    )
    with pytest.raises(InvalidInputError, match=r"gate\.sync is 'none'; expected fedavg: clients that are"):
        train_gate("gate", config, model.extractor, nodes, data.held_out)


def test_a_gate_that_all_share_is_no_personal_one(few_digits: ImageSet, tiny_config: Config) -> None:
    config = tiny_config(gate={"method": "rollgate"})
    trained = train_stages(config, split_among_clients(config, few_digits))
    assert isinstance(trained.model.layer.gate, LinearGate)
