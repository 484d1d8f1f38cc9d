"""The server of FedSC.

Shape suffixes: T items, C channels, H height, W width, P values of a projection.
"""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.federated import (
    Message,
    State,
)
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.correlated_averaging import weights_of
from airmoe.networked.fedsc import EXCHANGES
from tests.networked.spectral_stage import WIDTH, Stage1, stages

Config = Callable[..., NetworkedConfig]


@pytest.fixture
def stage_1(tiny_config: Config, few_digits: ImageSet) -> Callable[..., Stage1]:
    return stages(tiny_config, few_digits)


def test_with_a_share_the_last_matrices_of_absent_clients_stay_in_the_sum(
    stage_1: Callable[..., Stage1],
) -> None:
    made = stage_1(clients=4, participation=0.5, rounds=5)
    made.run()
    last: dict[int, Tensor] = {}
    absent = 0
    for round_ in range(5):
        here = [client for client in range(4) if (round_, "correlate", client) in made.engine.replied]
        assert len(here) == 2
        for client in here:
            last[client] = made.engine.replied[round_, "correlate", client].tensors["correlation"]
        absent += len(last) - 2
        for client in here:
            told = made.engine.told[round_, "train", client]
            assert told.numbers["clients"] == len(last)
            torch.testing.assert_close(told.tensors["sum"], torch.stack(list(last.values())).sum(dim=0))
    assert absent > 0  # otherwise nothing was kept


def test_where_all_take_part_the_server_needs_sums_alone_and_keeps_no_matrix(
    stage_1: Callable[..., Stage1],
) -> None:
    whole, share = stage_1(), stage_1(participation=0.4)
    assert whole.stage.sums == ("correlate", "train")
    assert share.stage.sums == ("train",)
    whole_state, _ = whole.run()
    share_state, _ = share.run()
    assert whole_state.keys() == whole.network.state_dict().keys() == weights_of(share_state).keys()
    assert share_state.keys() > whole_state.keys()


def test_every_client_counts_alike_in_the_mean_of_weights(stage_1: Callable[..., Stage1]) -> None:
    made = stage_1()
    state, _ = made.run(rounds=1)
    assert len({len(labels) for labels in made.data.labels_T}) > 1
    for name, tensor in state.items():
        replies = [made.engine.replied[0, "train", client].tensors[name] for client in range(3)]
        torch.testing.assert_close(tensor, torch.stack(replies).mean(dim=0))


@pytest.mark.parametrize(
    ("spoilt", "fault"),
    [
        (torch.full((WIDTH, WIDTH), float("nan")), "1: correlation is not finite"),
        (torch.zeros(WIDTH, WIDTH - 1), r"1: correlation is \(torch.float32, \(6, 5\)\); expected"),
        (torch.zeros(WIDTH, WIDTH, dtype=torch.float64), "1: correlation is .*float64"),
    ],
)
@pytest.mark.parametrize("participation", [1.0, 0.7])
def test_a_matrix_that_is_none_is_rejected_and_the_round_goes_on_without_it(
    stage_1: Callable[..., Stage1],
    monkeypatch: pytest.MonkeyPatch,
    spoilt: Tensor,
    fault: str,
    participation: float,
) -> None:
    made = stage_1(participation=participation)
    monkeypatch.setattr(
        made.clients[1],
        "correlate",
        lambda state, message: (state, Message({"correlation": spoilt}, {"samples": 1})),
    )
    _, rows = made.run(rounds=2)
    rejected = [row for row in rows if "rejected" in row]
    assert rejected
    for row in rejected:
        assert re.match(fault, str(row["rejected"]))
    told = [m for (_, exchange, client), m in made.engine.told.items() if exchange == "train"]
    assert told
    assert all(bool(message.tensors["sum"].isfinite().all()) for message in told)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_client_that_wants_to_count_more_than_others_is_rejected(
    exchange: str, stage_1: Callable[..., Stage1], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage_1()
    step = made.clients[2].client_step

    def greedy(name: str, state: State, message: Message) -> tuple[State, Message]:
        state, reply = step(name, state, message)
        return state, replace(
            reply, numbers={**reply.numbers, "samples": 1000}
        ) if name == exchange else reply

    monkeypatch.setattr(made.clients[2], "client_step", greedy)
    _, rows = made.run(rounds=1)
    assert rows[0]["rejected"] == "2: samples is 1000; expected 1: every client counts alike"
    assert rows[0]["participants"] == 2


def test_a_round_to_which_nobody_replies_changes_nothing(stage_1: Callable[..., Stage1]) -> None:
    for participation in (1.0, 0.5):
        made = stage_1(participation=participation)
        made.engine.carry = lambda exchange, messages: iter(())  # type: ignore[method-assign]
        state, rows = made.run(rounds=2)
        assert [row["participants"] for row in rows] == [0, 0]
        begun = made.network.state_dict()
        assert all(torch.equal(state[name], begun[name]) for name in begun)


def test_with_a_share_of_the_clients_bytes_are_those_of_the_share(stage_1: Callable[..., Stage1]) -> None:
    _, all_rows = stage_1(clients=4).run()
    _, rows = stage_1(clients=4, participation=0.5).run()
    assert [row["bytes"] for row in rows] == [row["bytes"] / 2 for row in all_rows]  # type: ignore[operator]
    assert [row["participants"] for row in rows] == [2, 2]
    assert [row["participants"] for row in all_rows] == [4, 4]
