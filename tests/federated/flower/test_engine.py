"""The engine over Flower's Grid: the loop's results, and rounds that go on without those that are gone."""

import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="needs airmoe[flower]")

from airmoe.errors import FrameError
from airmoe.federated import Averaging, Client, Exchange, Loop, Message, State, federate
from airmoe.federated.flower.content import framed
from airmoe.federated.flower.engine import FlowerEngine, FlowerReach, TooFewClientsError
from airmoe.federated.flower.frame import Frame, packed
from airmoe.federated.flower.node import ResidentNode
from tests.federated.flower.grids import Answer, ClockedGrid
from tests.federated.walkers import walkers

STEPS = [1.0, 2.0, 4.0]


class Walking:
    def __init__(self, settings: str, client: int, folder: Path) -> None:
        self._client = walkers(STEPS)[1][client]

    def client(self, part: str) -> Client:
        return self._client


def nodes(folder: Path, clients: int = 3) -> dict[int, Answer]:
    return {client: ResidentNode(client, folder / str(client), Walking).answer for client in range(clients)}


def reach_over(grid: ClockedGrid, **settings: float) -> FlowerReach:
    given = {"timeout_s": 10.0, **settings}
    return FlowerReach(grid, 3, "settings", now=grid.now, sleep=grid.sleep, **given)


def engine_over(grid: ClockedGrid, **settings: float) -> FlowerEngine:
    return reach_over(grid, **settings).engine("walking")


def walk(
    engine: FlowerEngine | Loop, rounds: int, stage: str = "walk"
) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    start = {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}
    return federate(Averaging(stage, clients=3), start, engine, rounds)


def missing(rows: list[dict[str, object]]) -> list[str]:
    return [str(row.get("missing", "")) for row in rows]


def test_it_ends_at_the_weights_of_the_loop_and_counts_the_same_bytes(tmp_path: Path) -> None:
    mine, rows = walk(engine_over(ClockedGrid(nodes(tmp_path))), rounds=4)
    loops, expected = walk(Loop(walkers(STEPS)[1]), rounds=4)
    assert rows == expected
    assert all(torch.equal(mine[name], loops[name]) for name in loops)


def test_replies_come_in_the_order_of_the_clients_however_long_each_takes(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path), after_s={0: 5.0, 1: 1.0, 2: 3.0})
    start = Message({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
    replies = engine_over(grid).carry(Exchange("walk", 0, "train"), dict.fromkeys(range(3), start))
    assert [client for client, _ in replies] == [0, 1, 2]
    assert grid.time_s == pytest.approx(5.0, abs=0.5)


def test_a_round_ends_at_its_time_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path), after_s={1: math.inf})
    state, rows = walk(engine_over(grid), rounds=1)
    assert missing(rows) == ["1"]
    assert float(state["bias"]) == pytest.approx((1.0 + 4.0) / 2)
    assert grid.time_s == pytest.approx(10.0, abs=0.5)


def test_those_after_a_slow_client_are_heard_if_they_were_in_time(tmp_path: Path) -> None:
    _, rows = walk(engine_over(ClockedGrid(nodes(tmp_path), after_s={0: math.inf, 2: 9.0})), rounds=1)
    assert missing(rows) == ["0"]


def test_a_dead_client_does_not_make_each_round_wait(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path), after_s={1: math.inf})
    _, rows = walk(engine_over(grid), rounds=12)
    assert missing(rows) == ["1"] * 12
    assert [client for client, _ in grid.pushed].count(1) == 4  # in rounds 1, 3, 6 and 11


def test_a_client_that_is_there_again_takes_part_again(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path), after_s={1: math.inf})
    engine = engine_over(grid)
    walk(engine, rounds=1)
    grid.after_s.clear()
    _, rows = walk(engine, rounds=3, stage="again")
    assert missing(rows) == ["1", "", ""]


def test_a_client_that_comes_late_takes_part_from_then_on(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path, clients=2))
    engine = engine_over(grid)
    _, rows = walk(engine, rounds=1)
    grid.answers = nodes(tmp_path)
    assert missing(rows) == ["2"]
    assert missing(walk(engine, rounds=1, stage="again")[1]) == [""]


def test_a_round_waits_for_the_minimum_and_no_longer_than_its_patience(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path, clients=2))
    with pytest.raises(TooFewClientsError, match=r"2 clients can be reached \(0, 1\), and a round needs 3"):
        walk(engine_over(grid, minimum=3, patience_s=30.0), rounds=1)
    assert grid.time_s == pytest.approx(30.0, abs=0.5)


def test_a_round_that_needs_a_client_that_missed_asks_it_and_does_not_wait(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path), after_s={1: math.inf})
    engine = engine_over(grid, minimum=3)
    walk(engine, rounds=1)
    grid.after_s.clear()
    _, rows = walk(engine, rounds=1, stage="again")
    assert missing(rows) == [""]
    assert grid.time_s < 12.0


def test_everybody_who_is_there_is_asked_for_the_last_time(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path), after_s={1: math.inf})
    reach = reach_over(grid)
    walk(reach.engine("walking"), rounds=1)
    grid.after_s.clear()
    reach.ask_all()
    assert missing(walk(reach.engine("walking"), rounds=1, stage="again")[1]) == [""]


def test_a_message_is_worth_nothing_after_the_time_out(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path))
    walk(engine_over(grid, timeout_s=7.0), rounds=1)
    assert {ttl for _, ttl in grid.pushed} == {7.0}


def test_an_error_of_flower_and_one_of_the_step_are_both_a_missing_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(frame: Frame) -> Frame:
        return packed({"error": "KeyError"}, Message())

    grid = ClockedGrid({**nodes(tmp_path), 1: failing})
    grid.errors.add(2)
    _, rows = walk(engine_over(grid), rounds=1)
    assert missing(rows) == ["1, 2"]
    assert "client 1 is missing: it says KeyError" in caplog.text
    assert "client 2 is missing: Flower says out of memory" in caplog.text


def test_a_reply_that_is_no_frame_is_a_missing_client(tmp_path: Path) -> None:
    def noise(frame: Frame) -> Frame:
        return Frame(b"[]", b"\0", b"")

    _, rows = walk(engine_over(ClockedGrid({**nodes(tmp_path), 0: noise})), rounds=1)
    assert missing(rows) == ["0"]


def test_content_of_others_is_refused() -> None:
    from flwr.app import ArrayRecord, MetricRecord, RecordDict

    for content in (
        RecordDict(),
        RecordDict({"airmoe": MetricRecord({"header": 1})}),
        RecordDict({"airmoe": ArrayRecord([torch.zeros(1).numpy()])}),
    ):
        with pytest.raises(FrameError, match="no frame of airmoe"):
            framed(content)


EARLIER = Exchange("earlier", 0, "train")
START = Message({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})


def exchanges_of(client: int, grid: ClockedGrid) -> list[str]:
    return [exchange for to, exchange in grid.exchanges if to == client]


def test_a_client_that_came_too_late_for_a_step_makes_up_for_it_once(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path, clients=2))
    reach = reach_over(grid)
    assert len(dict(reach.engine("early").carry(EARLIER, dict.fromkeys(range(3), START)))) == 2
    reach.first_take("early", EARLIER, START)
    grid.answers = nodes(tmp_path)
    _, rows = walk(reach.engine("walking"), rounds=2)
    assert missing(rows) == ["", ""]
    late = [str(EARLIER), "walk, round 1, exchange train", "walk, round 2, exchange train"]
    assert exchanges_of(2, grid) == exchanges_of(0, grid) == late


def test_a_server_that_does_not_know_who_took_a_step_lets_all_take_it(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path))
    reach = reach_over(grid)
    reach.first_take("early", EARLIER, START)
    walk(reach.engine("walking"), rounds=1)
    assert [exchanges_of(client, grid)[0] for client in range(3)] == [str(EARLIER)] * 3


def test_a_client_that_cannot_take_the_step_sits_out(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path))
    reach = reach_over(grid)
    reach.first_take("early", EARLIER, START)
    grid.errors.add(1)
    assert missing(walk(reach.engine("walking"), rounds=1)[1]) == ["1"]
    assert exchanges_of(1, grid) == [str(EARLIER)]


def test_a_client_that_failed_takes_the_step_again(tmp_path: Path) -> None:
    grid = ClockedGrid(nodes(tmp_path))
    reach = reach_over(grid)
    list(reach.engine("early").carry(EARLIER, dict.fromkeys(range(3), START)))
    reach.first_take("early", EARLIER, START)
    grid.errors.add(1)
    walk(reach.engine("walking"), rounds=1, stage="first")
    grid.errors.clear()
    grid.sleep(60.0)  # a sign of life
    walk(reach.engine("walking"), rounds=3, stage="second")
    assert exchanges_of(1, grid)[2:4] == [str(EARLIER), "second, round 2, exchange train"]


def test_the_states_of_clients_stay_at_their_nodes(tmp_path: Path) -> None:
    engine = engine_over(ClockedGrid(nodes(tmp_path)))
    walk(engine, rounds=2)
    assert engine.states == {}


def test_clients_keep_their_states_over_rounds(tmp_path: Path) -> None:
    seen: list[State] = []

    class Telling(Walking):
        def client(self, part: str) -> Client:
            walker = super().client(part)

            class Heard:
                def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
                    seen.append(state)
                    return walker.client_step(exchange, state, message)

            return Heard()

    grid = ClockedGrid({0: ResidentNode(0, tmp_path, Telling).answer})
    walk(engine_over(grid), rounds=3)
    assert [int(state.get("steps", torch.zeros(()))) for state in seen] == [0, 1, 2]
