"""How clients' gates stay alike in stage 3, and what that costs."""

import logging
from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.federated import Averaging, Exchange, Loop, Message, State, federate, run_round
from airmoe.networked.answers import SNR_LEVELS_DB
from airmoe.networked.config import GateSettings
from airmoe.networked.fedgate import FedGateClient, exchanges_of
from airmoe.networked.gate_measures import COLLAPSED, HeldOutAnswers, measures, warn_of_collapse
from airmoe.networked.gates import OWN_BIAS, gates_at_clients, trained_part
from airmoe.networked.kept_questions import KEPT_QUESTIONS, with_questions
from airmoe.networked.syncs import make_sync
from airmoe.nn import BiasGate, LinearGate, PersonalGates

ITEMS, FEATURES, CLIENTS, CLASSES = 24, 6, 5, 4


class World:
    """Clients whose experts answer by a fixed map of the features, and what they train."""

    def __init__(self, **settings: object) -> None:
        self.settings = GateSettings.model_validate({"batch_size": 8, **settings})
        self.sync = self.settings.sync_rule
        torch.manual_seed(0)
        content = LinearGate(FEATURES, CLIENTS)
        self.gate: LinearGate | BiasGate = BiasGate(content) if self.settings.channel_aware else content
        self.start = {name: each.clone() for name, each in trained_part(self.gate).state_dict().items()}
        maps = np.random.default_rng(1).normal(size=(CLIENTS, FEATURES, CLASSES))
        self._maps_EFC = torch.from_numpy(maps).float()
        self.clients = [self._client(client) for client in range(CLIENTS)]

    def _client(self, client: int) -> FedGateClient:
        random = np.random.default_rng(client)
        features_TF = torch.from_numpy(random.normal(size=(ITEMS, FEATURES))).float()
        labels_T = torch.from_numpy(random.integers(CLASSES, size=ITEMS))
        own = partial(self._answer, client)
        return FedGateClient(self.gate, own, features_TF, labels_T, self.settings, 0, client)

    def _answer(self, expert: int, features_PF: Tensor) -> Tensor:
        return torch.softmax(features_PF @ self._maps_EFC[expert], dim=1)

    @property
    def stage(self) -> Averaging:
        return Averaging("gate", CLIENTS, exchanges_of(self.sync))

    @property
    def server(self) -> State:
        return self.start if self.sync.averages else {}

    def trained(
        self, rounds: int = 1, engine: Loop | None = None
    ) -> tuple[State, Loop, list[dict[str, object]]]:
        self.restart()
        engine = engine or Loop(self.clients)
        state, rows = federate(self.stage, self.server, engine, rounds)
        return state, engine, rows

    def restart(self) -> None:
        trained_part(self.gate).load_state_dict(self.start)

    def gates(self, rounds: int = 1) -> list[Tensor]:
        """The weight matrix of every client after some rounds."""
        state, engine, _ = self.trained(rounds)
        self.restart()
        gate = gates_at_clients(self.gate, self.sync, state, engine.states)
        assert isinstance(gate, PersonalGates)
        return [torch.cat([each.linear.weight, each.linear.bias[:, None]], dim=1) for each in gate.gates]


def bytes_of(rows: list[dict[str, object]]) -> int:
    return sum(int(str(row["bytes"])) for row in rows)


@pytest.mark.parametrize("channel_aware", [False, True])
@pytest.mark.parametrize("sync", ["fedavg", "none", "ring", "partial", "partial:2"])
@pytest.mark.parametrize("query", ["topk", "random-k:2", "roll", "all"])
def test_bytes_are_those_of_the_formula(query: str, sync: str, channel_aware: bool) -> None:
    rounds, world = 3, World(query=query, sync=sync, channel_aware=channel_aware)
    _, engine, rows = world.trained(rounds)
    gate = sum(each.numel() for each in world.start.values())
    known_ETE = torch.stack([engine.states[client]["known"] for client in range(CLIENTS)])
    own = sum(int(known_ETE[client, :, client].sum()) for client in range(CLIENTS))
    pairs = int(known_ETE.sum()) - own
    levels = len(SNR_LEVELS_DB) if channel_aware else 1
    exchanged = 0 if sync == "none" else 2 * rounds * gate * 4 * CLIENTS
    assert bytes_of(rows) == exchanged + pairs * levels * (FEATURES + CLASSES) * 4
    assert {"all": ITEMS * CLIENTS * (CLIENTS - 1), "roll": ITEMS * CLIENTS * 2}.get(query, pairs) == pairs


def test_where_nothing_is_synchronised_no_gate_depends_on_what_another_learnt() -> None:
    world, settings = World(sync="none"), {"sync": "none", "learning_rate": 0.01}
    world.clients[2] = World(**settings).clients[2]
    same, other = World(sync="none").gates(3), world.gates(3)
    assert [torch.equal(a, b) for a, b in zip(same, other, strict=True)] == [True, True, False, True, True]
    assert not any(torch.equal(same[0], each) for each in same[1:])


def test_in_a_ring_a_gate_becomes_the_mean_of_itself_and_both_neighbours() -> None:
    trained, mixed = World(sync="none").gates(), World(sync="ring").gates()
    for client in range(CLIENTS):
        three = [trained[(client + step) % CLIENTS].double() for step in (-1, 0, 1)]
        torch.testing.assert_close(mixed[client], torch.stack(three).mean(dim=0).float(), atol=1e-7, rtol=0)


def test_a_ring_brings_gates_together_and_none_does_not() -> None:
    spread = {
        sync: torch.stack(World(sync=sync, local_epochs=2).gates(12)).std(dim=0).mean()
        for sync in ("ring", "none")
    }
    assert spread["ring"] < 0.5 * spread["none"]


@pytest.mark.parametrize(("clients", "expected"), [(1, []), (2, [1]), (3, [1, 2]), (6, [1, 5])])
def test_small_rings_have_no_neighbour_twice(clients: int, expected: list[int]) -> None:
    assert make_sync("ring").neighbours(0, clients, 0) == expected


class Losing(Loop):
    """Whose client 2 dies before an exchange."""

    exchange = "train"

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]):  # type: ignore[no-untyped-def]
        gone = {2} if exchange.name == self.exchange else set()
        return super().carry(exchange, {each: m for each, m in messages.items() if each not in gone})


def test_where_a_neighbour_is_missing_the_mean_is_over_those_that_are_there() -> None:
    trained, world = World(sync="none").gates(), World(sync="ring")
    state, engine, rows = world.trained(1, Losing(world.clients))
    world.restart()
    gate = gates_at_clients(world.gate, world.sync, state, engine.states)
    two = (trained[0].double() + trained[1].double()) / 2
    torch.testing.assert_close(gate.gates[1].linear.weight, two.float()[:, :-1], atol=1e-7, rtol=0)
    assert rows[0]["missing"] == "2"


def test_a_client_that_never_took_part_has_the_gate_that_all_began_with() -> None:
    world = World(sync="none")
    gate = gates_at_clients(world.gate, world.sync, {}, {client: {} for client in range(CLIENTS)})
    assert all(torch.equal(each.linear.weight, world.start["weight"]) for each in gate.gates)


@pytest.mark.parametrize("sync", ["partial", "partial:1.5"])
def test_partial_averages_the_gate_and_never_sends_a_clients_bias(sync: str) -> None:
    world = World(sync=sync)
    state, engine, _ = world.trained(2)
    assert state.keys() == world.start.keys()
    bias = [engine.states[client][OWN_BIAS] for client in range(CLIENTS)]
    assert all(each.shape == (CLIENTS,) and each.any() for each in bias)
    world.restart()
    gate = gates_at_clients(world.gate, world.sync, state, engine.states)
    for client, each in enumerate(gate.gates):
        assert torch.equal(each.linear.weight, state["weight"])
        torch.testing.assert_close(each.linear.bias, state["bias"] + bias[client])


def test_the_first_step_of_partial_moves_the_bias_as_it_moves_the_gates() -> None:
    # Both add to the logits alike, so from zero both get the same gradient; the proximal term is 0 there.
    settings = {"batch_size": ITEMS, "expert_dropout": 0.0}
    world = World(sync="partial", **settings)
    _, engine, _ = world.trained(1)
    alone = World(sync="none", **settings).gates()
    for client in range(CLIENTS):
        torch.testing.assert_close(
            engine.states[client][OWN_BIAS], alone[client][:, -1], atol=1e-6, rtol=1e-5
        )


def test_a_gate_that_is_not_finite_is_not_kept_and_its_client_is_named() -> None:
    world = World(sync="none")
    world.clients[3]._features[0, 0] = torch.inf
    _, engine, rows = world.trained(2)
    assert str(rows[0]["rejected"]).startswith("3: ")
    assert all(bool(each.isfinite().all()) for name, each in engine.states[3].items() if "gate/" in name)


def test_questions_are_kept_evenly_from_all_that_came() -> None:
    state: State = {}
    for round_ in range(20):
        came = torch.arange(50.0).add(50 * round_)[:, None]
        state = with_questions(state, came, np.random.default_rng(round_))
    kept = state["asked"][:, 0]
    assert len(kept) == len(kept.unique()) == KEPT_QUESTIONS
    # Their mean is that of 1,000 numbers, within 5 standard deviations of a sample without replacement.
    assert abs(float(kept.mean()) - 499.5) < 5 * 1000 / 12**0.5 / KEPT_QUESTIONS**0.5


def test_only_an_anchored_client_keeps_questions_and_only_clean_ones() -> None:
    for sync, keeps in (("fedavg", False), ("partial", False), ("partial:1", True)):
        world = World(sync=sync, query="all", channel_aware=True)
        _, engine, _ = world.trained(1)
        assert ("asked" in engine.states[0]) is keeps
    others = torch.cat([each._features for each in world.clients[1:]])
    assert engine.states[0]["asked"].shape == (ITEMS * (CLIENTS - 1), FEATURES)
    assert all((row == others).all(dim=1).any() for row in engine.states[0]["asked"])


def images_that_say_nothing(sync: str) -> tuple[dict[str, float], State]:
    """Every client's expert knows its images; features tell nothing of which client's an image is."""
    clients, items = 4, 60
    random = np.random.default_rng(0)
    gate = LinearGate(FEATURES, clients)
    settings = GateSettings(sync=sync, query="all", rounds=40, batch_size=20)
    features_TF = [torch.from_numpy(random.normal(size=(items, FEATURES))).float() for _ in range(clients)]
    owner = {tuple(row.tolist()): client for client, rows in enumerate(features_TF) for row in rows}

    def answer(expert: int, asked_PF: Tensor) -> Tensor:
        right_P = torch.tensor([0.9 if owner[tuple(row.tolist())] == expert else 0.1 for row in asked_PF])
        return torch.stack([right_P, 1 - right_P], dim=1)

    labels_T = torch.zeros(items, dtype=torch.int64)
    each = [
        FedGateClient(gate, partial(answer, client), features_TF[client], labels_T, settings, 0, client)
        for client in range(clients)
    ]
    rule = settings.sync_rule
    start = {name: tensor.clone() for name, tensor in gate.linear.state_dict().items()}
    engine = Loop(each)
    state, _ = federate(Averaging("gate", clients, exchanges_of(rule)), start, engine, settings.rounds)
    trained = gates_at_clients(gate, rule, state, engine.states)
    every = torch.cat(features_TF)
    answers = torch.stack([answer(expert, every) for expert in range(clients)], dim=1)
    return measures(trained, HeldOutAnswers(every, np.zeros(len(every), np.int64), answers)), state


def test_a_bias_of_ones_own_collapses_where_features_say_nothing_and_an_anchor_holds_it_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    free, _ = images_that_say_nothing("partial")
    assert free["local_share"] > COLLAPSED
    assert free["collapsed"] == 1
    anchored, _ = images_that_say_nothing("partial:10")
    assert anchored["local_share"] < 0.5
    assert "collapsed" not in anchored
    with caplog.at_level(logging.WARNING, "airmoe"):
        warn_of_collapse("gate", anchored)
        assert caplog.text == ""
        warn_of_collapse("gate", free)
    assert "gate: the gates of 100 % of the clients keep 90 % or more of all held-out images" in caplog.text


def test_anchors_below_zero_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="anchor is -1"):
        make_sync("partial:-1")


def test_a_round_goes_on_without_an_expert_that_does_not_answer() -> None:
    world = World(sync="none", query="all")
    engine = Losing(world.clients)
    engine.exchange = "answer"
    result = run_round(world.stage, {}, 0, engine)
    assert result.missing == (2,)
    assert not engine.states[0]["known"][:, 2].any()
    assert engine.states[0]["known"][:, [0, 1, 3, 4]].all()
