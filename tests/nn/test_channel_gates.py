"""Gates that see the SNR of every link, and the noise that a gate has while it trains."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from airmoe.channel_aware.routing_loss import routing_loss
from airmoe.errors import InvalidInputError
from airmoe.links import LinkSnr
from airmoe.nn import (
    BiasGate,
    ConcatGate,
    GateOutput,
    LinearGate,
    MlpGate,
    MoeLayer,
    NoisyTopK,
    topk_mask,
)
from airmoe.nn.channel_gates import LinkWorth, snr_code

FEATURES, EXPERTS = 6, 4
INF = math.inf


def drawn(gate: nn.Module) -> nn.Module:
    """The gate with weights drawn at random; as they are made, last layers are zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in gate.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 2)
    return gate


def bias_gate(experts: int = EXPERTS) -> BiasGate:
    gate = drawn(BiasGate(MlpGate(FEATURES, experts)))
    assert isinstance(gate, BiasGate)
    return gate


def pooled(items: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(items, FEATURES, generator=torch.Generator().manual_seed(seed))


def snr_db(items: int = 5, experts: int = EXPERTS, seed: int = 0) -> Tensor:
    return torch.rand(items, experts, generator=torch.Generator().manual_seed(seed)) * 25 - 5


GATES = {
    "mlp": lambda: MlpGate(FEATURES, EXPERTS),
    "concat": lambda: ConcatGate(FEATURES, EXPERTS),
    "bias": lambda: BiasGate(MlpGate(FEATURES, EXPERTS)),
    "bias on linear": lambda: BiasGate(LinearGate(FEATURES, EXPERTS)),
}
SEEING = ("concat", "bias", "bias on linear")


@pytest.mark.parametrize(
    ("db", "code"),
    [(10, 0), (20, 1), (0, -1), (-10, -2), (-10.5, -2), (-INF, -2), (30, 2), (31, 2), (INF, 2), (12.5, 0.25)],
)
def test_the_snr_code_is_tens_of_db_about_10_db_clipped(db: float, code: float) -> None:
    assert snr_code(torch.tensor([[db]]), torch.zeros(1, FEATURES), 1).tolist() == [[code]]


def test_where_no_snr_is_given_all_links_count_as_20_db() -> None:
    code_TE = snr_code(None, torch.zeros(3, FEATURES), 2)
    assert torch.equal(code_TE, snr_code(torch.full((3, 2), 20.0), torch.zeros(3, FEATURES), 2))
    for make in GATES.values():
        gate = drawn(make())
        told = gate(pooled(), torch.full((5, EXPERTS), 20.0))
        assert torch.equal(gate(pooled()).logits_TE, told.logits_TE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_snr_code_is_of_the_features_type_whatever_the_snr_is_of(dtype: torch.dtype) -> None:
    code_TE = snr_code(snr_db().double(), torch.zeros(5, FEATURES, dtype=dtype), EXPERTS)
    assert code_TE.dtype == dtype


@pytest.mark.parametrize("name", SEEING)
def test_an_snr_that_is_no_number_is_refused(name: str) -> None:
    wrong_TE = snr_db()
    wrong_TE[1, 2] = math.nan
    with pytest.raises(InvalidInputError, match="snr_db is nan; expected a number of dB, -inf or inf"):
        GATES[name]()(pooled(), wrong_TE)


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize("shape", [(5, EXPERTS + 1), (5, EXPERTS - 1), (4, EXPERTS), (5,), (1, EXPERTS)])
def test_an_snr_of_other_items_or_experts_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        GATES[name]()(pooled(), torch.zeros(shape))
    assert str(refused.value) == f"shape of snr_db is {shape}; expected (T, E) = (5, {EXPERTS})"


@pytest.mark.parametrize("name", GATES)
def test_a_new_gate_finds_every_expert_equally_likely(name: str) -> None:
    gate = GATES[name]()
    answer = gate(pooled(), torch.full((5, EXPERTS), 3.0))
    assert (answer.logits_TE == answer.logits_TE[:, :1]).all()
    torch.testing.assert_close(answer.scores_TE, torch.full((5, EXPERTS), 1 / EXPERTS))
    assert answer.load_TE is None


@pytest.mark.parametrize("name", SEEING)
def test_a_new_gate_likes_links_alike_or_a_better_one_a_little_more(name: str) -> None:
    logits_TE = GATES[name]()(pooled(), snr_db()).logits_TE
    per_db = 0.0 if name == "concat" else math.log(2) / 10 / 2.5
    torch.testing.assert_close(logits_TE.diff(dim=1), per_db * snr_db().diff(dim=1))


@pytest.mark.parametrize("name", GATES)
def test_scores_are_the_softmax_of_the_logits(name: str) -> None:
    answer = drawn(GATES[name]())(pooled(), snr_db())
    torch.testing.assert_close(answer.scores_TE, torch.softmax(answer.logits_TE, dim=1))
    assert answer.scores_TE.std() > 0.05


@pytest.mark.parametrize("name", GATES)
def test_a_gate_says_whether_it_sees_the_snr(name: str) -> None:
    gate = drawn(GATES[name]())
    changes = not torch.equal(
        gate(pooled(), snr_db(seed=1)).logits_TE, gate(pooled(), snr_db(seed=2)).logits_TE
    )
    assert gate.sees_snr == changes == (name in SEEING)
    assert NoisyTopK(gate, FEATURES, EXPERTS, 1).sees_snr == gate.sees_snr


def test_the_concat_gate_is_an_mlp_on_normed_features_and_snr_code() -> None:
    gate = drawn(ConcatGate(FEATURES, EXPERTS, hidden=7))
    features_TF = functional.layer_norm(pooled(), (FEATURES,), gate.norm.weight, gate.norm.bias)
    seen = torch.cat([features_TF, (snr_db() - 10) / 10], dim=1)
    hidden = torch.relu(seen @ gate.hidden.weight.T + gate.hidden.bias)
    expected = hidden @ gate.last.weight.T + gate.last.bias
    torch.testing.assert_close(gate(pooled(), snr_db()).logits_TE, expected)


def test_the_bias_gate_adds_the_worth_of_each_link_alone() -> None:
    gate, before_TE = bias_gate(), snr_db()
    after_TE = before_TE.clone()
    after_TE[:, 2] = 3.0
    moved_TE = gate(pooled(), after_TE).logits_TE - gate(pooled(), before_TE).logits_TE
    assert not moved_TE[:, [0, 1, 3]].any()
    worth = lambda snr_db_T: gate.link_worth((snr_db_T - 10) / 10)  # noqa: E731
    torch.testing.assert_close(moved_TE[:, 2], worth(after_TE[:, 2]) - worth(before_TE[:, 2]))


def test_in_every_2_5_db_the_worth_of_a_link_gains_a_quarter_of_the_four_ramps_there() -> None:
    worth = LinkWorth()
    with torch.no_grad():
        worth.weight_S.copy_(torch.linspace(-1, 2, 19))
    rise_S = (1 + (10 * worth.weight_S).exp()).log() / 10
    ends = (torch.arange(-10.0, 30.1, 2.5) - 10) / 10
    slope = torch.stack([rise_S[step : step + 4].sum() / 4 for step in range(16)])
    torch.testing.assert_close(worth(ends).diff(), slope)
    torch.testing.assert_close(worth(ends[:-1] + 0.1) - worth(ends[:-1]), 0.4 * slope)  # 1 dB of 2.5


FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


@given(
    weights=st.lists(FINITE | st.floats(-3, 3, width=32), min_size=19, max_size=19),
    content=st.lists(FINITE | st.floats(-3, 3, width=32), min_size=3, max_size=3),
    snr_db=st.lists(st.floats(-20, 40, width=32) | st.sampled_from([-INF, INF]), min_size=2, max_size=6),
    others_db=st.lists(st.floats(-20, 40, width=32), min_size=2, max_size=2),
)
def test_whatever_the_weights_an_expert_s_score_never_falls_as_its_own_link_gets_better(
    weights: list[float], content: list[float], snr_db: list[float], others_db: list[float]
) -> None:
    gate = BiasGate(LinearGate(1, 3)).eval()
    with torch.no_grad():
        gate.link_worth.weight_S.copy_(torch.tensor(weights))
        gate.content.linear.bias.copy_(torch.tensor(content))
        own_T = torch.tensor(sorted(snr_db))
        links_TE = torch.stack([own_T, *(torch.full_like(own_T, db) for db in others_db)], dim=1)
        for expert in range(3):
            turned_TE = links_TE.roll(expert, dims=1)
            answer = gate(torch.zeros(len(own_T), 1), turned_TE)
            assert (answer.logits_TE[:, expert].diff() >= 0).all(), "to the last bit"
            assert (answer.scores_TE[:, expert].diff() >= -1e-6).all(), "softmax rounds"
            for other in {0, 1, 2} - {expert}:
                assert (answer.scores_TE[:, other].diff() <= 1e-6).all()


def test_every_ramp_learns_from_the_beginning_and_far_from_it() -> None:
    for start in (0.0, -0.5, 3.0):
        worth = LinkWorth()
        with torch.no_grad():
            worth.weight_S.fill_(start)
        worth(torch.tensor(2.0)).backward()
        assert worth.weight_S.grad.min() > 0.001


def test_where_all_links_are_alike_the_bias_gate_scores_as_if_it_saw_none() -> None:
    gate = bias_gate()
    blind = gate(pooled())
    for db in (-20.0, 0.0, 7.5, INF):
        alike = gate(pooled(), torch.full((5, EXPERTS), db))
        moved_TE = alike.logits_TE - blind.logits_TE
        torch.testing.assert_close(moved_TE, moved_TE[:1, :1].expand(5, EXPERTS))
        torch.testing.assert_close(alike.scores_TE, blind.scores_TE)


@pytest.mark.parametrize("content", [MlpGate, LinearGate])
def test_the_bias_gate_follows_its_experts_into_any_order(content: type[nn.Module]) -> None:
    gate = drawn(BiasGate(content(FEATURES, EXPERTS)))
    assert isinstance(gate, BiasGate)
    order = [2, 0, 3, 1]
    for other, was in ((gate.of_experts(order), order), (gate.of_experts([3, 1]), [3, 1])):
        answer = other(pooled(), snr_db()[:, was])
        torch.testing.assert_close(answer.logits_TE, gate(pooled(), snr_db()).logits_TE[:, was])


def test_the_bias_gate_runs_with_more_experts_than_it_was_trained_for() -> None:
    gate = bias_gate()
    more = gate.of_experts([0, 1, 2, 3, None, None])
    links_TE = snr_db(experts=6)
    links_TE[:, 5] = links_TE[:, 4] = 20.0
    logits_TE = more(pooled(), links_TE).logits_TE
    known_TE = gate(pooled(), links_TE[:, :4]).logits_TE
    torch.testing.assert_close(logits_TE[:, :4], known_TE)
    # A new expert is thought of as the others are on average, over its own link.
    mean_T = gate.content(pooled()).logits_TE.mean(dim=1)
    worth = gate.link_worth(torch.tensor(1.0))
    torch.testing.assert_close(logits_TE[:, 4], mean_T + worth)
    torch.testing.assert_close(logits_TE[:, 5], logits_TE[:, 4])


def test_a_gate_of_other_experts_leaves_the_gate_as_it_was() -> None:
    gate = bias_gate()
    before_TE = gate(pooled(), snr_db()).logits_TE
    other = gate.of_experts([1, 0, None])
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert torch.equal(gate(pooled(), snr_db()).logits_TE, before_TE)


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ([0, EXPERTS], "expert is 4; expected 0 to 3, or None for a new one"),
        ([-1], "expert is -1; expected 0 to 3, or None for a new one"),
        ([], r"experts is \[\]; expected at least one"),
    ],
)
def test_experts_that_were_not_there_are_refused(experts: list[int], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        bias_gate().of_experts(experts)


@pytest.mark.parametrize("name", ["concat", "bias"])
def test_a_gate_learns_to_prefer_good_links(name: str) -> None:
    torch.manual_seed(0)
    gate = GATES[name]()
    optimiser = torch.optim.Adam(gate.parameters(), lr=0.01)
    for _ in range(150):
        links_TE = torch.rand(64, EXPERTS) * 25 - 5
        answer = gate(torch.randn(64, FEATURES), links_TE)
        optimiser.zero_grad()
        functional.cross_entropy(answer.logits_TE, links_TE.argmax(dim=1)).backward()
        optimiser.step()
    swept_db = torch.linspace(-5, 20, 26)
    for expert in range(EXPERTS):
        links_TE = torch.full((26, EXPERTS), 7.5)
        links_TE[:, expert] = swept_db
        score_T = gate(pooled(1).expand(26, FEATURES), links_TE).scores_TE[:, expert]
        assert (score_T.diff() >= 0).all()
        assert score_T[0] < 0.1
        assert score_T[-1] > 0.5


def noisy_gate(k: int, experts: int = EXPERTS) -> NoisyTopK:
    gate = drawn(NoisyTopK(MlpGate(FEATURES, experts), FEATURES, experts, k))
    assert isinstance(gate, NoisyTopK)
    return gate


def test_in_evaluation_the_gate_itself_answers() -> None:
    gate = noisy_gate(1).eval()
    answer = gate(pooled())
    assert torch.equal(answer.logits_TE, gate.gate(pooled()).logits_TE)
    assert answer.load_TE is None


def test_noise_is_drawn_anew_in_every_call_while_training() -> None:
    gate = noisy_gate(1).train()
    first, second = gate(pooled()), gate(pooled())
    assert not torch.equal(first.logits_TE, second.logits_TE)
    torch.testing.assert_close(first.scores_TE, torch.softmax(first.logits_TE, dim=1))


def test_noise_begins_equally_strong_for_every_expert() -> None:
    torch.manual_seed(0)
    gate = NoisyTopK(MlpGate(FEATURES, EXPERTS), FEATURES, EXPERTS, 1).train()
    logits_TE = gate(pooled(20_000)).logits_TE
    # softplus(0) = ln 2; the relative error of a standard deviation is 1 / sqrt(2 T).
    torch.testing.assert_close(
        logits_TE.std(dim=0), torch.full((EXPERTS,), math.log(2) + 0.01), rtol=0.02, atol=0.0
    )
    torch.testing.assert_close(logits_TE.mean(dim=0), torch.zeros(EXPERTS), rtol=0.0, atol=0.02)


def noise_std_TE(gate: NoisyTopK, pooled_TF: Tensor) -> Tensor:
    """By hand: softplus of a linear map of standardised features, and 0.01."""
    centred_TF = pooled_TF - pooled_TF.mean(dim=1, keepdim=True)
    normed_TF = centred_TF / (centred_TF.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    return (1 + (normed_TF @ gate.noise.weight.T).exp()).log() + 0.01


@pytest.mark.parametrize("k", [1, 2, 3])
@torch.no_grad()
def test_the_load_is_how_likely_an_expert_is_chosen_if_its_noise_is_drawn_again(k: int) -> None:
    torch.manual_seed(k)
    gate, pooled_TF, draws = noisy_gate(k).train(), pooled(6), 20_000
    answer = gate(pooled_TF)
    clean_TE, std_TE = gate.gate(pooled_TF).logits_TE, noise_std_TE(gate, pooled_TF)
    expected_TE = torch.empty_like(clean_TE)
    for expert in range(EXPERTS):
        again_DTE = answer.logits_TE.repeat(draws, 1, 1)
        noise_DT = torch.randn(draws, len(pooled_TF)) * std_TE[:, expert]
        again_DTE[:, :, expert] = clean_TE[:, expert] + noise_DT
        chosen_DTE = topk_mask(again_DTE.flatten(0, 1), k).reshape(again_DTE.shape)
        expected_TE[:, expert] = chosen_DTE[:, :, expert].float().mean(dim=0)
    assert answer.load_TE is not None
    torch.testing.assert_close(answer.load_TE, expected_TE, rtol=0.0, atol=4.5 * 0.5 / draws**0.5)
    assert expected_TE.std() > 0.2


def test_where_all_experts_are_asked_there_is_no_load() -> None:
    assert noisy_gate(EXPERTS).train()(pooled()).load_TE is None


def test_the_load_teaches_gate_and_noise() -> None:
    gate = noisy_gate(1).train()
    load_TE = gate(pooled()).load_TE
    load_TE[:, 0].sum().backward()
    assert gate.noise.weight.grad.abs().sum() > 0
    assert gate.gate.last.weight.grad.abs().sum() > 0


class TableGate(nn.Module):
    """A logit of its own for every item and expert."""

    def __init__(self, logits_TE: Tensor) -> None:
        super().__init__()
        self.logits_TE = nn.Parameter(logits_TE)

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        return GateOutput(torch.softmax(self.logits_TE, dim=1), self.logits_TE)


class SureExpert(nn.Module):
    """Gives class 0 a fixed probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, payload_P: Tensor) -> Tensor:
        return torch.tensor([self.probability, 1 - self.probability]).repeat(len(payload_P), 1)


def after_a_step(probabilities: list[float], logits_TE: Tensor, training_k: int) -> tuple[Tensor, Tensor]:
    """Scores before and after a step of gradient descent, on items that are all of class 0."""
    gate = TableGate(logits_TE.clone())
    layer = MoeLayer(gate, [SureExpert(p) for p in probabilities], training_k=training_k).train()
    optimiser = torch.optim.SGD(gate.parameters(), lr=0.1)
    output = layer(torch.zeros(len(logits_TE), FEATURES))
    labels_T = torch.zeros(len(logits_TE), dtype=torch.int64)
    routing_loss(output, labels_T, 0.0, one_expert=training_k == 1).total.backward()
    optimiser.step()
    return output.scores_TE.detach(), gate(torch.zeros(0)).scores_TE.detach()


def test_with_one_expert_per_item_better_answers_than_usual_raise_a_score_and_worse_lower_it() -> None:
    # Item e asks expert e; on average they give the true class 0.5.
    before_TE, after_TE = after_a_step([0.9, 0.5, 0.1], 2 * torch.eye(3), training_k=1)
    moved_E = (after_TE - before_TE).diagonal()
    assert moved_E[0] > 1e-4
    assert abs(moved_E[1]) < 1e-6
    assert moved_E[2] < -1e-4


def test_answers_that_are_all_the_same_say_nothing_about_one_expert_per_item() -> None:
    before_TE, after_TE = after_a_step([0.6, 0.6, 0.6], 2 * torch.eye(3), training_k=1)
    torch.testing.assert_close(after_TE, before_TE)


def test_with_two_experts_per_item_the_better_of_the_two_gains() -> None:
    logits_TE = torch.tensor([[1.0, 0.9, -5.0], [-5.0, 1.0, 0.9]])
    before_TE, after_TE = after_a_step([0.9, 0.5, 0.1], logits_TE, training_k=2)
    assert after_TE[0, 0] > before_TE[0, 0] + 1e-3
    assert after_TE[0, 1] < before_TE[0, 1] - 1e-3
    assert after_TE[1, 1] > before_TE[1, 1] + 1e-3
    assert after_TE[1, 2] < before_TE[1, 2] - 1e-3


@pytest.mark.parametrize("training_k", [1, 2])
@pytest.mark.parametrize("name", ["concat", "bias"])
def test_gradients_reach_every_weight_of_a_gate(name: str, training_k: int) -> None:
    torch.manual_seed(0)
    gate = NoisyTopK(drawn(GATES[name]()), FEATURES, EXPERTS, training_k)
    experts = [SureExpert(0.2 * e + 0.1) for e in range(EXPERTS)]
    layer = MoeLayer(gate, experts, training_k=training_k).train()
    links = LinkSnr(torch.rand(64, EXPERTS).numpy() * 25 - 5)
    output = layer(torch.randn(64, FEATURES), snr=links)
    labels_T = torch.zeros(64, dtype=torch.int64)
    routing_loss(output, labels_T, 0.0, one_expert=training_k == 1).total.backward()
    for weight_name, weight in gate.named_parameters():
        assert weight.grad.abs().sum() > 1e-6, weight_name
