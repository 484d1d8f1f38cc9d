"""What metrics rows say of a gate: macro-F1, and how much each client keeps to itself."""

import logging

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from airmoe.networked.gate_measures import HeldOutAnswers, measures, warn_of_silence
from airmoe.nn import LinearGate, PersonalGates

ITEMS, FEATURES, EXPERTS, CLASSES = 60, 5, 3, 4


def gate_of(seed: int, own: int | None = None) -> LinearGate:
    gate = LinearGate(FEATURES, EXPERTS)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        gate.linear.weight.copy_(torch.from_numpy(random.normal(size=(EXPERTS, FEATURES))))
        if own is not None:
            gate.linear.bias[own] = 50.0
    return gate


def held_out(asks_T: np.ndarray | None = None) -> HeldOutAnswers:
    random = np.random.default_rng(0)
    return HeldOutAnswers(
        torch.from_numpy(random.normal(size=(ITEMS, FEATURES))).float(),
        random.integers(CLASSES, size=ITEMS),
        torch.from_numpy(random.dirichlet(np.ones(CLASSES), (ITEMS, EXPERTS))).float(),
        asks_T=asks_T,
    )


def by_hand(gates: list[LinearGate], asked: list[np.ndarray]) -> dict[str, float]:
    world, f1, share, weight = held_out(), [], [], []
    for client, (gate, item_T) in enumerate(zip(gates, asked, strict=True)):
        with torch.no_grad():
            scores_TE: Tensor = gate(world.features_TF).scores_TE[item_T]
        best_T = scores_TE.argmax(dim=1)
        answers_T = world.probability_TEC[item_T, best_T].argmax(dim=1).numpy()
        labels_T = world.labels_T[item_T]
        f1.append(f1_score(labels_T, answers_T, average="macro", labels=np.unique(labels_T)))
        share.append(float((best_T == client).float().mean()))
        weight.append(float(scores_TE[:, client].mean()))
    return {"macro_f1": np.mean(f1), "local_share": np.mean(share), "local_weight": np.mean(weight)}


EVERY = [np.arange(ITEMS)] * EXPERTS
ASKS_T = np.random.default_rng(3).integers(EXPERTS, size=ITEMS)
BY_ONE = [np.flatnonzero(client == ASKS_T) for client in range(EXPERTS)]


@pytest.mark.parametrize(("asks_T", "asked"), [(None, EVERY), (ASKS_T, BY_ONE)], ids=["every", "one"])
def test_they_are_means_over_the_clients_that_ask(asks_T: np.ndarray | None, asked: list[np.ndarray]) -> None:
    shared, own = gate_of(0), [gate_of(client) for client in range(EXPERTS)]
    assert measures(shared, held_out(asks_T)) == pytest.approx(by_hand([shared] * EXPERTS, asked))
    assert measures(PersonalGates(own), held_out(asks_T)) == pytest.approx(by_hand(own, asked))


def test_a_shared_gate_keeps_as_much_at_home_as_there_is_of_everybody() -> None:
    assert measures(gate_of(0), held_out())["local_share"] == pytest.approx(1 / EXPERTS)


def test_clients_that_keep_all_to_themselves_are_counted() -> None:
    gates = [gate_of(client, own=client if client < 2 else None) for client in range(EXPERTS)]
    assert measures(PersonalGates(gates), held_out())["collapsed"] == pytest.approx(2 / 3)
    assert "collapsed" not in measures(gate_of(0), held_out())


def test_a_single_client_keeps_all_by_nature() -> None:
    world = held_out()
    alone = HeldOutAnswers(world.features_TF, world.labels_T, world.probability_TEC[:, :1])
    assert measures(LinearGate(FEATURES, 1), alone)["local_share"] == 1
    assert "collapsed" not in measures(LinearGate(FEATURES, 1), alone)


def test_clients_that_never_answered_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "airmoe"):
        warn_of_silence("gate", [{"missing": "1, 10"}, {"missing": "1"}, {}], 12)
        assert caplog.text == ""
        warn_of_silence("gate", [{"missing": "1, 10"}, {"missing": "10, 3"}], 12)
    assert "gate: clients 10 answered in no round" in caplog.text
