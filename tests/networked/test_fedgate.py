"""Stage 3, FedGate."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.data import ImageSet
from airmoe.federated.loop import federate
from airmoe.networked import split_among_clients
from airmoe.networked.config import GateSettings, NetworkedConfig
from airmoe.networked.fedgate import FedGateClient, federated_moments
from airmoe.networked.run import train_stages
from airmoe.nn import LinearGate

ITEMS, FEATURES, EXPERTS, CLASSES = 30, 5, 4, 3


class Experts:
    """Answers with fixed random probabilities; remembers which items (their feature 0) each expert got."""

    def __init__(self, seed: int = 0) -> None:
        raw = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), (EXPERTS, ITEMS))
        self.probability_ETC = torch.from_numpy(raw).float()
        self.asked: list[tuple[int, int]] = []

    def __call__(self, expert: int, features_TF: Tensor) -> Tensor:
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
    return FedGateClient(gate, features, labels, experts, settings, 0, client), gate, features, labels


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
    client.update(state, 0)
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
    federate("gate", gate.linear.state_dict(), [client], 40)
    assert len(set(experts.asked)) == len(experts.asked) == ITEMS * EXPERTS
    assert client.memory()["known"].all()


def test_bytes_are_those_of_the_closed_form() -> None:
    rounds, experts = 4, [Experts(), Experts()]
    gate = LinearGate(FEATURES, EXPERTS)
    clients = [client_of(experts[i], GateSettings(), client=i, gate=gate)[0] for i in range(2)]
    _, rows = federate("gate", gate.linear.state_dict(), clients, rounds)
    remote_pairs = sum(expert != i for i in range(2) for _, expert in experts[i].asked)
    gate_parameters = EXPERTS * FEATURES + EXPERTS
    expected = 2 * 2 * rounds * gate_parameters * 4 + remote_pairs * (FEATURES + CLASSES) * 4
    assert sum(row["bytes"] for row in rows) == expected


def test_the_own_expert_is_asked_for_free() -> None:
    experts = Experts()
    client, _, _, _ = client_of(experts, GateSettings(query_k=EXPERTS), client=2)
    update = client.update(random_state(), 0)
    assert update.query_bytes == ITEMS * (EXPERTS - 1) * (FEATURES + CLASSES) * 4


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
    trained = client.update(start, 0).state

    known_TE = client.memory()["known"].bool().numpy()
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
    client, gate, _, _ = client_of(experts or Experts(), settings)
    return federate("gate", gate.linear.state_dict(), [client], rounds)[0]["bias"]


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


def test_what_a_client_remembers_lets_another_go_on_alike() -> None:
    first_experts, heir_experts = Experts(), Experts()
    first, _, _, _ = client_of(first_experts, GateSettings())
    first.update(random_state(), 0)
    asked_before = set(first_experts.asked)
    heir, _, _, _ = client_of(heir_experts, GateSettings())
    heir.remember(first.memory())
    first_update, heir_update = (client.update(random_state(4), 1) for client in (first, heir))
    assert torch.equal(first_update.state["weight"], heir_update.state["weight"])
    assert not asked_before & set(heir_experts.asked)


def test_federated_moments_are_those_of_all_features_together() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(size=(n, 6)).astype(np.float32) * 3 + 5 for n in (7, 20, 1)]
    for part in parts:
        part[:, 5] = 2.0
    mean_F, std_F, exchanged = federated_moments([torch.from_numpy(part) for part in parts])
    pooled = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(mean_F.numpy(), pooled.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std_F[:5].numpy(), pooled[:, :5].std(axis=0), rtol=1e-5)
    assert float(std_F[5]) == pytest.approx(1e-2)  # constant: not divided by 0
    assert exchanged == 3 * (2 * 6 * 8 + 2 * 6 * 4)


def test_a_whole_run_accounts_for_its_stages(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(data={"clients": 3}, gate={"rounds": 30})
    trained = train_stages(config, split_among_clients(config, few_digits), None, lambda row: None)
    of_stage = {
        stage: sum(int(row["bytes"]) for row in trained.rows if row["stage"] == stage)
        for stage in ("features", "gate statistics", "gate")
    }
    assert of_stage["gate statistics"] == 3 * 400 * (2 * 8 + 2 * 4)
    # After 30 rounds of exploring, every image has met its 2 remote experts.
    gate_parameters, remote_pairs = 400 * 3 + 3, 200 * 2
    assert of_stage["gate"] == pytest.approx(
        3 * 2 * 30 * gate_parameters * 4 + remote_pairs * (400 + 10) * 4, abs=3 * (400 + 10) * 4
    )
    assert sum(of_stage.values()) == sum(int(row.get("bytes", 0)) for row in trained.rows)  # stage 2: nothing
