"""Stage 3, FedGate."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.federated import Averaging, Exchange, Loop, Message, RoundResult, State, federate, run_round
from airmoe.networked import split_among_clients
from airmoe.networked.config import GateSettings, NetworkedConfig
from airmoe.networked.fedgate import EXCHANGES, FedGateClient
from airmoe.networked.stages import train_stages
from airmoe.nn import LinearGate

ITEMS, FEATURES, EXPERTS, CLASSES = 30, 5, 4, 3


class Experts:
    """Answers with fixed random probabilities; remembers which items (their feature 0) each expert got."""

    def __init__(self, seed: int = 0) -> None:
        raw = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), (EXPERTS, ITEMS))
        self.probability_ETC = torch.from_numpy(raw).float()
        self.asked: list[tuple[int, int]] = []

    def answer(self, expert: int, features_TF: Tensor) -> Tensor:
        items = features_TF[:, 0].long().tolist()
        self.asked += [(item, expert) for item in items]
        return self.probability_ETC[expert, items]


def client_of(
    experts: Experts, settings: GateSettings, client: int = 1, gate: LinearGate | None = None
) -> tuple[FedGateClient, LinearGate, Tensor, Tensor]:
    random = np.random.default_rng(client)
    features = torch.from_numpy(random.normal(size=(ITEMS, FEATURES))).float()
    features[:, 0] = torch.arange(ITEMS)
    labels = torch.from_numpy(random.integers(CLASSES, size=ITEMS))
    gate = gate or LinearGate(FEATURES, EXPERTS)
    gate.standardise(torch.tensor([ITEMS / 2, 0, 0, 0, 0]), torch.tensor([ITEMS / 3, 1, 1, 1, 1]))
    own = partial(experts.answer, client)
    return FedGateClient(gate, own, features, labels, settings, 0, client), gate, features, labels


class Answering:
    """A client without images: it only lets its expert answer."""

    def __init__(self, experts: Experts, client: int) -> None:
        self.experts, self.client = experts, client

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        if exchange == "train":
            return state, Message(numbers={"samples": 0, "loss": 0.0})
        answers = {
            client: {"probabilities": self.experts.answer(self.client, letter["features"])}
            for client, letter in message.letters.items()
        }
        return state, Message(letters=answers)


STAGE = Averaging("gate", EXPERTS, EXCHANGES)


def engine_of(experts: Experts, training: dict[int, FedGateClient]) -> Loop:
    """All clients, of which some train."""
    return Loop([training.get(i) or Answering(experts, i) for i in range(EXPERTS)])


def after_a_round(
    client: FedGateClient, experts: Experts, weights: State, state: State | None = None, round_: int = 0
) -> tuple[State, RoundResult]:
    """The state of client 1 after a round that it trained in alone, and the result of the round."""
    engine = engine_of(experts, {1: client})
    engine.restore({1: state or {}})
    result = run_round(STAGE, weights, round_, engine)
    return engine.states[1], result


def random_state(seed: int = 3) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {
        "weight": torch.from_numpy(random.normal(size=(EXPERTS, FEATURES))).float(),
        "bias": torch.from_numpy(random.normal(size=EXPERTS)).float(),
    }


@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_asks_the_k_best_experts_and_at_most_one_more(k: int) -> None:
    experts = Experts()
    client, gate, features, _ = client_of(experts, GateSettings(query_k=k))
    state = random_state()
    after_a_round(client, experts, state)
    gate.linear.load_state_dict(state)
    best = gate(features).logits_TE.argsort(dim=1, descending=True)[:, :k].tolist()
    explored = 0
    for item in range(ITEMS):
        asked = {expert for t, expert in experts.asked if t == item}
        assert set(best[item]) <= asked
        assert len(asked) <= k + 1
        explored += len(asked) - k
    # The one more is drawn among all experts, so that it is new with probability 1 - k / E.
    assert explored == pytest.approx(ITEMS * (1 - k / EXPERTS), abs=10)


def test_each_pair_is_asked_for_once_and_in_the_end_all_are_known() -> None:
    experts = Experts()
    client, gate, _, _ = client_of(experts, GateSettings())
    engine = engine_of(experts, {1: client})
    federate(STAGE, gate.linear.state_dict(), engine, 40)
    assert len(set(experts.asked)) == len(experts.asked) == ITEMS * EXPERTS
    assert engine.states[1]["known"].all()


def test_between_rounds_a_client_keeps_what_it_knows_and_nothing_else() -> None:
    client, _, _, _ = client_of(Experts(), GateSettings())
    state, _ = after_a_round(client, Experts(), random_state())
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "known": (ITEMS, EXPERTS),
        "true_class": (ITEMS, EXPERTS, 1),
    }


def test_bytes_are_those_of_the_closed_form() -> None:
    rounds, experts, asked = 4, Experts(), [Experts(), Experts()]
    gate = LinearGate(FEATURES, EXPERTS)
    training = {i: client_of(asked[i], GateSettings(), client=i, gate=gate)[0] for i in range(2)}
    engine = engine_of(experts, training)
    _, rows = federate(STAGE, gate.linear.state_dict(), engine, rounds)
    # The gate comes to all clients and goes from two; what these know of other experts came by letters.
    own_pairs = sum(int(engine.states[i]["known"][:, i].sum()) for i in range(2))
    remote_pairs = sum(int(engine.states[i]["known"].sum()) for i in range(2)) - own_pairs
    gate_bytes = (EXPERTS * FEATURES + EXPERTS) * 4
    down, up = EXPERTS * rounds * gate_bytes, 2 * rounds * gate_bytes
    assert sum(row["bytes"] for row in rows) == down + up + remote_pairs * (FEATURES + CLASSES) * 4
    assert remote_pairs > ITEMS


def test_the_own_expert_is_asked_for_free() -> None:
    experts = Experts()
    client, _, _, _ = client_of(experts, GateSettings(query_k=EXPERTS))
    weights = random_state()
    _, result = after_a_round(client, experts, weights)
    gate_bytes = sum(tensor.nbytes for tensor in weights.values())
    assert len(experts.asked) == ITEMS * EXPERTS
    assert result.nbytes == (EXPERTS + 1) * gate_bytes + ITEMS * (EXPERTS - 1) * (FEATURES + CLASSES) * 4


class Losing(Loop):
    """Whose client 2 is dead."""

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        return super().carry(exchange, {client: m for client, m in messages.items() if client != 2})


def test_an_expert_that_does_not_answer_stays_unknown_and_is_asked_again() -> None:
    experts = Experts()
    client, _, _, _ = client_of(experts, GateSettings(query_k=EXPERTS))
    dead = Losing([client if i == 1 else Answering(experts, i) for i in range(EXPERTS)])
    result = run_round(STAGE, random_state(), 0, dead)
    assert dead.states[1]["known"].all(dim=0).tolist() == [True, True, False, True]
    assert not dead.states[1]["known"][:, 2].any()
    assert result.missing == (2,)
    assert all(bool(tensor.isfinite().all()) for tensor in result.state.values())
    experts.asked.clear()
    state, _ = after_a_round(client, experts, result.state, dead.states[1], 1)
    assert {expert for _, expert in experts.asked} == {2}
    assert state["known"].all()


def test_images_about_which_nobody_answered_are_left_out() -> None:
    client, _, _, _ = client_of(Experts(), GateSettings())
    weights = random_state()
    state, queries = client.query({}, Message(weights, {"round": 0}))
    unanswered = int((~state["known"][:, 1]).sum())
    _, reply = client.train(state, Message(numbers={"round": 0}))
    assert 0 < unanswered < ITEMS
    assert reply.numbers["samples"] == ITEMS - unanswered
    assert np.isfinite(reply.numbers["loss"])
    assert all(bool(tensor.isfinite().all()) for tensor in reply.tensors.values())

    nothing = {**state, "known": torch.zeros_like(state["known"])}
    _, reply = client.train(nothing, Message(numbers={"round": 0}))
    assert reply.numbers == {"samples": 0, "loss": 0.0}
    assert all(torch.equal(reply.tensors[name], weights[name]) for name in weights)
    assert 1 not in queries.letters


def test_two_steps_follow_the_gradient_of_the_loss() -> None:
    rate, balance, proximal = 0.5, 0.3, 0.7
    settings = GateSettings(
        local_epochs=2,
        batch_size=ITEMS,
        learning_rate=rate,
        balance=balance,
        proximal=proximal,
        query_k=2,
        expert_dropout=0.0,
    )
    experts = Experts()
    client, gate, features, labels = client_of(experts, settings)
    start = random_state()
    state, result = after_a_round(client, experts, start)
    trained, known_TE = result.state, state["known"].numpy()
    answer_TE = experts.probability_ETC[:, torch.arange(ITEMS), labels].T.numpy()
    h_TF = ((features - gate.mean_F) / gate.std_F).double().numpy()
    h_TF = np.hstack([h_TF, np.ones((ITEMS, 1))])
    w0_EF = np.hstack([start["weight"].double().numpy(), start["bias"].double().numpy()[:, None]])
    w_EF = w0_EF.copy()
    for _ in range(2):
        g_TE = np.exp(h_TF @ w_EF.T)
        g_TE /= g_TE.sum(axis=1, keepdims=True)
        prior_TE = g_TE * known_TE / (g_TE * known_TE).sum(axis=1, keepdims=True)
        posterior_TE = prior_TE * answer_TE / (prior_TE * answer_TE).sum(axis=1, keepdims=True)
        # CV^2 = E sum_e (mean_e - 1/E)^2, since the means sum to 1.
        pull_E = 2 * EXPERTS * (g_TE.mean(axis=0) - 1 / EXPERTS)
        balance_TE = g_TE * (pull_E - g_TE @ pull_E[:, None])
        slope_TE = (prior_TE - posterior_TE + balance * balance_TE) / ITEMS
        w_EF = w_EF - rate * (slope_TE.T @ h_TF + proximal * (w_EF - w0_EF))
    actual = np.hstack([trained["weight"].numpy(), trained["bias"].numpy()[:, None]])
    np.testing.assert_allclose(actual, w_EF, rtol=1e-4, atol=1e-5)


def trained_with(dropout: float, rounds: int = 1, experts: Experts | None = None) -> Tensor:
    settings = GateSettings(batch_size=ITEMS, query_k=EXPERTS, expert_dropout=dropout)
    experts = experts or Experts()
    client, gate, _, _ = client_of(experts, settings)
    return federate(STAGE, gate.linear.state_dict(), engine_of(experts, {1: client}), rounds)[0]["bias"]


def test_dropout_changes_what_the_gate_sees() -> None:
    assert not torch.equal(trained_with(0.5), trained_with(0.0))


def test_an_item_whose_experts_would_all_be_dropped_keeps_them_all() -> None:
    assert torch.equal(trained_with(1 - 1e-15), trained_with(0.0))


def test_with_dropout_the_gate_learns_the_second_best_expert_better() -> None:
    def lead_of_the_second_over_the_rest(dropout: float) -> float:
        experts = Experts()
        for expert, right in enumerate((0.98, 0.6, 0.1, 0.1)):
            experts.probability_ETC[expert] = right  # of whatever class is asked about
        bias_E = trained_with(dropout, 200, experts)
        assert bias_E.argsort(descending=True)[:2].tolist() == [0, 1]
        return float(bias_E[1] - bias_E[2:].max())

    assert lead_of_the_second_over_the_rest(0.3) > 1.2 * lead_of_the_second_over_the_rest(0.0)


def test_with_the_state_of_a_client_another_goes_on_alike() -> None:
    first_experts, heir_experts = Experts(), Experts()
    first, _, _, _ = client_of(first_experts, GateSettings())
    state, _ = after_a_round(first, first_experts, random_state())
    asked_before = set(first_experts.asked)
    heir, _, _, _ = client_of(heir_experts, GateSettings())
    (_, of_first), (_, of_heir) = (
        after_a_round(client, experts, random_state(4), state, 1)
        for client, experts in ((first, first_experts), (heir, heir_experts))
    )
    assert torch.equal(of_first.state["weight"], of_heir.state["weight"])
    assert not asked_before & set(heir_experts.asked)


def test_a_whole_run_accounts_for_its_stages(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(data={"clients": 3}, gate={"rounds": 30})
    trained = train_stages(config, split_among_clients(config, few_digits))
    of_stage = {
        stage: sum(int(row["bytes"]) for row in trained.rows if row["stage"] == stage)
        for stage in ("features", "experts", "gate statistics", "gate")
    }
    extractor = sum(tensor.nbytes for tensor in trained.model.extractor.state_dict().values())
    assert of_stage["experts"] == 3 * extractor  # told to all, and nothing comes back
    assert of_stage["gate statistics"] == 3 * 400 * (2 * 8 + 2 * 4)
    # After 30 rounds of exploring, every image has met its 2 remote experts.
    gate_parameters, remote_pairs = 400 * 3 + 3, 200 * 2
    assert of_stage["gate"] == pytest.approx(
        3 * (2 * 30 + 1) * gate_parameters * 4 + remote_pairs * (400 + 10) * 4, abs=3 * (400 + 10) * 4
    )
    assert sum(of_stage.values()) == sum(int(row.get("bytes", 0)) for row in trained.rows)
