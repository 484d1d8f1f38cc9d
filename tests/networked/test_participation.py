"""A share of the clients in each round of the stages that average."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from airmoe.data import ImageSet
from airmoe.federated import Participation
from airmoe.networked import NetworkedMoe, split_among_clients, train_stages
from airmoe.networked.config import NetworkedConfig
from airmoe.runs.checkpoint import Checkpoint

Config = Callable[..., NetworkedConfig]
HALF = {"data": {"clients": 4}, "features": {"participation": 0.5}, "gate": {"participation": 0.5}}


class Interrupted(Exception):
    """What stops a run in the middle of a stage."""


@pytest.fixture(scope="module")
def half(tiny_config: Config, few_digits: ImageSet) -> NetworkedMoe:
    """Four clients, of whom two take part in each round."""
    config = tiny_config(**HALF)
    return train_stages(config, split_among_clients(config, few_digits))


def test_rows_say_how_many_clients_took_part(half: NetworkedMoe) -> None:
    participants = {
        stage: {row["participants"] for row in half.rows if row["stage"] == stage}
        for stage in ("features", "gate statistics", "gate")
    }
    assert participants == {"features": {2}, "gate statistics": {4}, "gate": {2}}
    assert not any("missing" in row for row in half.rows)


def test_weights_go_to_the_share_alone(half: NetworkedMoe) -> None:
    extractor, head = 6 * (25 * 1 + 1) + 2 * 6 + 16 * (25 * 6 + 1) + 2 * 16, 400 * 10 + 10
    rows = [row for row in half.rows if row["stage"] == "features"]
    assert [row["bytes"] for row in rows] == [2 * 2 * (extractor + head) * 4] * 3


def test_a_client_that_was_never_drawn_changes_no_weight(tiny_config: Config, few_digits: ImageSet) -> None:
    changes = {"data": {"clients": 4}, "features": {"participation": 0.25, "rounds": 1}}
    config = tiny_config(**changes)
    (drawn,) = Participation(0.25, config.seed).drawn("features", 0, 4)
    data = split_among_clients(config, few_digits)
    expected = train_stages(config, data).model.extractor.state_dict()
    for client in range(4):
        data.images_TCHW[client].zero_()
        blackened = train_stages(config, data).model.extractor.state_dict()
        same = all(torch.equal(blackened[name], expected[name]) for name in expected)
        assert same == (client != drawn)
        data = split_among_clients(config, few_digits)


def test_a_resumed_run_draws_the_same_clients(
    half: NetworkedMoe, tmp_path: Path, tiny_config: Config, few_digits: ImageSet
) -> None:
    def stop(stage: str, done: int, *rest: object) -> None:
        if (stage, done) == ("gate", 2):
            raise Interrupted

    config, checkpoint = tiny_config(**HALF), Checkpoint(tmp_path, "x")
    data = split_among_clients(config, few_digits)
    with pytest.raises(Interrupted):
        train_stages(config, data, checkpoint=checkpoint, progress=stop)
    resumed = train_stages(config, data, checkpoint=checkpoint)
    assert resumed.rows == half.rows
    for name, tensor in half.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name


def test_a_share_is_refused_where_the_only_client_that_is_asked_may_be_absent(tiny_config: Config) -> None:
    for asking in ({"method": "rollgate"}, {"method": "fedgate", "query": "roll"}):
        tiny_config(gate=asking)
        with pytest.raises(
            ValueError, match=r"gate.participation is 0.5; expected 1.0 with gate.query 'roll'"
        ):
            tiny_config(gate=asking | {"participation": 0.5})


@pytest.mark.parametrize("sync", ["fedavg", "ring", "none"])
def test_every_way_to_keep_gates_alike_bears_absent_clients(
    tiny_config: Config, few_digits: ImageSet, sync: str
) -> None:
    changes = {"data": {"clients": 4}, "features": {"rounds": 1}}
    config = tiny_config(**changes, gate={"participation": 0.5, "sync": sync, "method": "rangate"})
    rows = train_stages(config, split_among_clients(config, few_digits)).rows
    assert [row["participants"] for row in rows if row["stage"] == "gate"] == [2, 2, 2]
    assert not any("rejected" in row for row in rows)
