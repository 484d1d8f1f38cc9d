"""Stage 3 in closed form: the same gate as from all images in one place, whatever the split."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.data import ImageSet, partition
from airmoe.errors import InvalidInputError
from airmoe.federated import Loop, Message, State, Summing, federate
from airmoe.networked import parse_config, split_among_clients, train_stages
from airmoe.networked.closed_form import EXCHANGES, GateSumsClient, fit_gate, ridge
from airmoe.nn import LinearGate

ITEMS, FEATURES, EXPERTS, CLASSES = 600, 7, 5, 4
RIDGE, SHARPNESS = 3.0, 11.0


class World:
    """Random features and labels, and experts whose answers are a fixed function of the features."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.features_TF = torch.from_numpy(random.normal(2.0, 3.0, (ITEMS, FEATURES))).float()
        self.labels_T = torch.from_numpy(random.integers(CLASSES, size=ITEMS))
        self._maps_EFC = torch.from_numpy(random.normal(size=(EXPERTS, FEATURES, CLASSES))).float()
        self.moments: State = {"mean": self.features_TF.mean(0), "std": self.features_TF.std(0)}

    def answer(self, expert: int, features_TF: Tensor) -> Tensor:
        return torch.softmax(features_TF @ self._maps_EFC[expert], dim=1)

    def sums(self, parts: list[NDArray[np.int64]]) -> tuple[State, int]:
        """The sums of clients that hold these images, and the bytes."""
        clients = [
            GateSumsClient(
                partial(self.answer, client),
                self.features_TF[part],
                self.labels_T[part],
                client,
                EXPERTS,
            )
            for client, part in enumerate(parts)
        ]
        summing = Summing("gate", len(parts), EXCHANGES, told=self.moments)
        sums, (row,) = federate(summing, {}, Loop(clients), 1)
        return sums, int(row["bytes"])

    def central_weights(self, item_I: Tensor) -> NDArray[np.float64]:
        """(F + 1, E), by NumPy's least squares over stacked rows, the penalty as further rows."""
        features_IF = self.features_TF[item_I].double()
        standard = ((features_IF - self.moments["mean"].double()) / self.moments["std"].double()).numpy()
        rows = np.concatenate([standard, np.ones((len(standard), 1))], axis=1)
        true = np.stack(
            [
                self.answer(expert, self.features_TF[item_I]).double()[
                    range(len(item_I)), self.labels_T[item_I]
                ]
                for expert in range(EXPERTS)
            ],
            axis=1,
        )
        penalty = np.sqrt(RIDGE) * np.eye(FEATURES, FEATURES + 1)
        stacked = np.concatenate([rows, penalty]), np.concatenate([true, np.zeros((FEATURES, EXPERTS))])
        return np.linalg.lstsq(*stacked)[0]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.mark.parametrize("scheme", ["iid", "ring", "dirichlet:0.5"])
def test_the_weights_are_those_of_central_least_squares_for_any_split(world: World, scheme: str) -> None:
    sums, _ = world.sums(partition(world.labels_T.numpy(), EXPERTS, scheme, seed=1))
    weights = ridge(sums["gram"], sums["cross"], RIDGE).numpy()
    np.testing.assert_allclose(weights, world.central_weights(torch.arange(ITEMS)), rtol=1e-9, atol=1e-11)


def test_a_client_is_forgotten_by_subtracting_its_sums(world: World) -> None:
    parts = partition(world.labels_T.numpy(), EXPERTS, "ring", seed=2)
    every, _ = world.sums(parts)
    alone, _ = world.sums([part if client == 3 else part[:0] for client, part in enumerate(parts)])
    gram, cross = (every[name] - alone[name] for name in ("gram", "cross"))
    rest = torch.from_numpy(np.concatenate([part for client, part in enumerate(parts) if client != 3]))
    np.testing.assert_allclose(
        ridge(gram, cross, RIDGE).numpy(), world.central_weights(rest), rtol=1e-9, atol=1e-11
    )


def test_the_gate_scores_by_the_softmax_of_the_sharpened_prediction(world: World) -> None:
    sums, _ = world.sums(partition(world.labels_T.numpy(), EXPERTS, "iid", seed=1))
    gate = LinearGate(FEATURES, EXPERTS)
    gate.standardise(world.moments["mean"], world.moments["std"])
    fit_gate(gate, sums, RIDGE, SHARPNESS)
    weights = world.central_weights(torch.arange(ITEMS))
    features = (world.features_TF - world.moments["mean"]) / world.moments["std"]
    logits = SHARPNESS * (features.numpy() @ weights[:-1] + weights[-1])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gate(world.features_TF).scores_TE.detach().numpy(), expected, atol=1e-5)


def test_bytes_are_those_of_features_answers_sums_and_moments(world: World) -> None:
    _, sent = world.sums(partition(world.labels_T.numpy(), EXPERTS, "ring", seed=1))
    remote_pairs = ITEMS * (EXPERTS - 1)
    queries = remote_pairs * (FEATURES + CLASSES) * 4
    sums = EXPERTS * (FEATURES + 1) * (FEATURES + 1 + EXPERTS) * 8
    assert sent == queries + sums + EXPERTS * 2 * FEATURES * 4


def test_an_expert_that_does_not_answer_counts_as_wrong(world: World) -> None:
    clients = [
        GateSumsClient(partial(world.answer, client), world.features_TF, world.labels_T, client, EXPERTS)
        for client in range(EXPERTS)
    ]
    _, query = clients[0].client_step("query", {}, Message(world.moments))
    answers = {
        expert: {"probabilities": world.answer(expert, letter["features"])}
        for expert, letter in query.letters.items()
        if expert != 2
    }
    _, reply = clients[0].client_step("sum", world.moments, Message(letters=answers))
    assert not reply.tensors["cross"][:, 2].any()
    assert reply.tensors["cross"][-1, 1] > 0


def settings(method: str, **gate: object) -> str:
    more = "".join(f"{name} = {value}\n" for name, value in gate.items())
    stages = "[data]\nclients = 5\n[features]\nrounds = 12\n[experts]\nepochs = 8\n"
    return f'{stages}[gate]\nmethod = "{method}"\n{more}'


@pytest.mark.long
def test_one_round_reaches_what_rounds_of_fedgate_reach(digits: ImageSet) -> None:
    f1 = {}
    for method in ("closed-form", "fedgate"):
        config = parse_config(settings(method, rounds=30), "settings")
        rows = train_stages(config, split_among_clients(config, digits)).rows
        of_gate = [row for row in rows if row["stage"] == "gate"]
        f1[method] = of_gate[-1]["macro_f1"]
        assert len(of_gate) == {"closed-form": 1, "fedgate": 30}[method]
    assert f1["closed-form"] > 0.85
    assert f1["closed-form"] > f1["fedgate"] - 0.02


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (settings("closed-form", query='"roll"'), "gate.query is 'roll'; expected it left out"),
        (settings("closed-form", sync='"ring"'), "gate.sync is 'ring'; expected it left out"),
        ('[model]\ngate = "mlp"\n' + settings("closed-form"), "model.gate is 'mlp'"),
        (settings("closed"), "method"),
        (settings("closed-form", ridge=0), "ridge"),
        (settings("closed-form", sharpness=-1), "sharpness"),
    ],
)
def test_settings_that_have_no_closed_form_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        parse_config(text, "settings")
