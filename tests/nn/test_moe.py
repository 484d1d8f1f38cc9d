"""The MoE layer: in training, in evaluation, over radios and on any placement."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airmoe.errors import InvalidInputError, NoExpertReachedError
from airmoe.links import Links, Ofdma
from airmoe.nn import GateOutput, IdealRadioCarrier, LinearGate, LocalCarrier, MixtureOfExperts, MlpExpert
from airmoe.scheduling import All, Des, Local, TopK

FEATURES, CLASSES = 6, 3


class CountingExpert(nn.Module):
    """Answers the constant ``value`` and remembers how many rows each call brought."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.rows = value, list[int]()

    def forward(self, features_TF: Tensor) -> Tensor:
        self.rows.append(len(features_TF))
        return torch.full((len(features_TF), CLASSES), self.value)


class FixedGate(nn.Module):
    """Scores are the softmax of the features themselves; keeps the SNR it was shown."""

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        self.snr_db_TE = snr_db_TE
        return GateOutput(torch.softmax(pooled_TF, dim=-1), pooled_TF)


def counting_model(scores: list[list[float]], **options: object) -> tuple[MixtureOfExperts, Tensor]:
    """A mixture whose expert e answers e + 1, and inputs that make the gate give these scores."""
    experts = [CountingExpert(e + 1.0) for e in range(len(scores[0]))]
    return MixtureOfExperts(nn.Identity(), FixedGate(), experts, **options).eval(), torch.tensor(scores).log()  # type: ignore[arg-type]


def trainable_model(experts: int = 4, **options: object) -> MixtureOfExperts:
    torch.manual_seed(0)
    gate = LinearGate(FEATURES, experts)
    nn.init.normal_(gate.linear.weight)
    return MixtureOfExperts(
        nn.Identity(),
        gate,
        [MlpExpert(FEATURES, CLASSES, 8) for _ in range(experts)],
        **options,  # type: ignore[arg-type]
    )


def links(nodes: int, seed: int = 0) -> Links:
    radio = Ofdma(subcarriers=max(nodes * (nodes - 1), 1))
    gain = np.random.default_rng(seed).uniform(1e-12, 1e-10, (nodes, nodes, radio.subcarriers))
    return Links.from_gain(gain, radio)


def test_evaluation_mixes_the_chosen_with_weights_that_sum_to_one() -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], policy=TopK(2))
    y = model(inputs).y_TC
    torch.testing.assert_close(y, torch.full((1, CLASSES), (0.6 * 1 + 0.3 * 2) / 0.9))


def test_training_mixes_the_best_with_the_scores_as_they_are() -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], training_k=2)
    output = model.train()(inputs)
    torch.testing.assert_close(output.y_TC, torch.full((1, CLASSES), 0.6 * 1 + 0.3 * 2))
    assert output.dispatched is None


def test_training_ignores_the_policy() -> None:
    model, inputs = counting_model([[0.1, 0.9]], policy=Local())
    torch.testing.assert_close(model.train()(inputs).y_TC, torch.full((1, CLASSES), 0.9 * 2))


def test_one_forward_per_expert_and_batch_and_none_for_the_others() -> None:
    scores = [[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.8, 0.1, 0.1]]
    for training in (False, True):
        model, inputs = counting_model(scores, policy=TopK(2), training_k=2)
        model.train(training)(inputs)
        assert [expert.rows for expert in model.experts] == [[3], [2], [1]]


def test_gradients_reach_gate_and_chosen_experts_in_training() -> None:
    model = trainable_model()
    output = model.train()(torch.randn(64, FEATURES))
    (-output.y_TC[:, 0].log().mean()).backward()
    assert model.gate.linear.weight.grad.abs().sum() > 0
    for expert in model.experts:
        assert expert.layers[0].weight.grad.abs().sum() > 0


def test_the_mixture_is_what_the_definition_says() -> None:
    model, inputs = trainable_model(policy=All()).eval(), torch.randn(5, FEATURES)
    with torch.no_grad():
        output = model(inputs)
        expected = sum(output.scores_TE[:, [e]] * expert(inputs) for e, expert in enumerate(model.experts))
    torch.testing.assert_close(output.y_TC, expected)


def test_an_ideal_radio_changes_no_answer() -> None:
    model, inputs = trainable_model(policy=TopK(2)).eval(), torch.randn(9, FEATURES)
    local = model(inputs).y_TC
    model.carrier = IdealRadioCarrier(links(4))
    assert torch.equal(model(inputs).y_TC, local)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 32), (torch.float64, 64)])
def test_an_ideal_radio_charges_payload_and_norm_at_the_shannon_rate(dtype: torch.dtype, bits: int) -> None:
    snapshot = links(3, seed=5)
    radio = snapshot.radio
    subcarrier_NN = np.array([[-1, 0, 1], [2, -1, 3], [4, 5, -1]])
    model = trainable_model(3, policy=All()).to(dtype).eval()
    model.carrier = IdealRadioCarrier(snapshot, subcarrier_NN)
    source_T = np.array([0, 2])
    energy_j_T = model(torch.randn(2, FEATURES, dtype=dtype), source_T).dispatched.energy_j_T
    for source, energy_j in zip(source_T, energy_j_T, strict=True):
        expected_j = 0.0
        for target in {0, 1, 2} - {source}:
            snr = (
                snapshot.gain_NNM[source, target, subcarrier_NN[source, target]]
                * radio.power_w
                / radio.noise_w
            )
            rate_bps = radio.subcarrier_hz * np.log2(1 + snr)
            expected_j += (bits * FEATURES + 32) * radio.power_w / rate_bps
        assert energy_j == pytest.approx(expected_j, rel=1e-9)


def test_an_expert_at_the_items_own_node_costs_nothing() -> None:
    model, inputs = counting_model([[0.1, 0.9]])
    model.carrier = IdealRadioCarrier(links(2))
    assert model(inputs, np.array([1])).dispatched.energy_j_T.tolist() == [0.0]
    assert model(inputs, np.array([0])).dispatched.energy_j_T[0] > 0


def test_the_gate_sees_the_snr_of_the_observed_links() -> None:
    true, observed = links(2, seed=1), links(2, seed=2)
    model, inputs = counting_model([[0.5, 0.5]])
    model.carrier = IdealRadioCarrier(true.with_observed(observed))
    model(inputs, np.array([1]))
    np.testing.assert_allclose(model.gate.snr_db_TE.numpy(), observed.snr_db([1], [0, 1]), rtol=1e-6)
    model.carrier = LocalCarrier()
    model(inputs)
    assert model.gate.snr_db_TE is None


def test_policies_decide_on_observed_links_and_the_true_ones_are_charged() -> None:
    subcarrier_NN = np.array([[-1, 0, 1], [0, -1, 1], [0, 1, -1]])
    gain_NNM = np.ones((3, 3, 2))
    seen_NNM = gain_NNM.copy()
    gain_NNM[0, 2], seen_NNM[0, 1] = 1e-9, 1e-9  # in truth node 2 is far; it looks as if node 1 were
    radio = Ofdma(subcarriers=2, noise_w=1e-3)
    true, seen = Links.from_gain(gain_NNM, radio), Links.from_gain(seen_NNM, radio)
    model, inputs = counting_model([[0.0, 0.5, 0.5]], policy=Des(0.4, 1))
    model.carrier = IdealRadioCarrier(true.with_observed(seen), subcarrier_NN)
    dispatched = model(inputs, np.array([0])).dispatched
    assert dispatched.arrived_TE.tolist() == [[False, False, True]]
    bits = inputs[0].numel() * 32 + 32
    assert dispatched.energy_j_T[0] == pytest.approx(bits * true.energy_per_bit_j(subcarrier_NN)[0, 2])


def test_several_experts_may_live_on_one_node() -> None:
    model, inputs = counting_model([[0.1, 0.2, 0.7]], policy=Local(), placement_E=np.array([0, 1, 1]))
    output = model(inputs, np.array([1]))
    assert output.dispatched.arrived_TE.tolist() == [[False, True, True]]
    torch.testing.assert_close(output.y_TC, torch.full((1, CLASSES), (0.2 * 2 + 0.7 * 3) / 0.9))


def test_a_server_without_experts_can_ask_but_not_answer() -> None:
    server = 2
    model, inputs = counting_model([[0.1, 0.9]], placement_E=np.array([0, 1]))
    model.carrier = IdealRadioCarrier(links(3))
    output = model(inputs, np.array([server]))
    assert output.dispatched.arrived_TE.tolist() == [[False, True]]
    assert output.dispatched.energy_j_T[0] > 0
    model.policy = Local()
    with pytest.raises(NoExpertReachedError, match="item 0 at node 2"):
        model(inputs, np.array([server]))


def test_a_radio_that_reaches_nobody_leaves_the_own_expert_degraded() -> None:
    silent = Links.from_snr(-np.inf, Ofdma(subcarriers=2), nodes=2)
    model, inputs = counting_model([[0.1, 0.9]], policy=TopK(1))
    model.carrier = IdealRadioCarrier(silent)
    output = model(inputs, np.array([0]))
    assert output.dispatched.arrived_TE.tolist() == [[True, False]]


def test_policy_and_carrier_may_be_set_at_any_time() -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    model.policy = All()
    torch.testing.assert_close(model(inputs).y_TC, torch.full((1, CLASSES), 0.6 * 1 + 0.4 * 2))


def test_no_items_are_refused() -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    with pytest.raises(InvalidInputError, match=r"inputs_T is .*; expected at least one item"):
        model(inputs[:0])


def test_a_placement_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="placement_E"):
        counting_model([[0.6, 0.4]], placement_E=np.array([0, 1, 2]))


def test_a_source_that_has_no_link_is_refused() -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    model.carrier = IdealRadioCarrier(links(2))
    with pytest.raises(InvalidInputError, match="source_T"):
        model(inputs, np.array([5]))
