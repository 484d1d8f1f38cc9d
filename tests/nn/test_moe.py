"""The MoE layer: in training, in evaluation, over radios and on any placement."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airmoe.dispatch import LossyCarrier
from airmoe.errors import InvalidInputError, NoExpertReachedError
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.nn import (
    GateOutput,
    IdealRadioCarrier,
    LinearGate,
    LocalCarrier,
    MixtureOfExperts,
    MlpExpert,
    MoeLayer,
    NoisyTopK,
    Pooling,
    RadioCarrier,
)
from airmoe.radio import Analog
from airmoe.scheduling import All, BestLink, Des, Local, Placement, TopK

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
    layer = MoeLayer(FixedGate(), experts, **options)  # type: ignore[arg-type]
    return MixtureOfExperts(nn.Identity(), layer).eval(), torch.tensor(scores).log()


def trainable_model(experts: int = 4, **options: object) -> MixtureOfExperts:
    torch.manual_seed(0)
    gate = LinearGate(FEATURES, experts)
    nn.init.normal_(gate.linear.weight)
    made = [MlpExpert(FEATURES, CLASSES, 8) for _ in range(experts)]
    return MixtureOfExperts(nn.Identity(), MoeLayer(gate, made, **options))  # type: ignore[arg-type]


def links(nodes: int, seed: int = 0) -> Links:
    radio = Ofdma(subcarriers=max(nodes * (nodes - 1), 1))
    gain = np.random.default_rng(seed).uniform(1e-12, 1e-10, (nodes, nodes, radio.subcarriers))
    return Links.from_gain(gain, radio)


def test_evaluation_mixes_the_chosen_with_weights_that_sum_to_one() -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], policy=TopK(2))
    y = model(inputs).y_TC
    torch.testing.assert_close(y, torch.full((1, CLASSES), (0.6 * 1 + 0.3 * 2) / 0.9))


@pytest.mark.parametrize(
    ("training_k", "weights"),
    # Of one alone the score as it is: it would be 1 whatever the gate says.
    [(1, [0.6, 0.0, 0.0]), (2, [0.6 / 0.9, 0.3 / 0.9, 0.0]), (3, [0.6, 0.3, 0.1])],
)
def test_training_mixes_the_best_with_weights_that_sum_to_one_but_for_one_alone(
    training_k: int, weights: list[float]
) -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], training_k=training_k)
    output = model.train()(inputs)
    torch.testing.assert_close(output.weights_TE, torch.tensor([weights]))
    mixed = sum(weight * (expert + 1) for expert, weight in enumerate(weights))
    torch.testing.assert_close(output.y_TC, torch.full((1, CLASSES), mixed))
    assert output.dispatched is None


@pytest.mark.parametrize("training_k", [1, 2, 3])
def test_in_evaluation_weights_sum_to_one_whatever_k_is_in_training(training_k: int) -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], training_k=training_k)
    assert model(inputs).weights_TE.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("training_k", [0, 1.5, True, 4])
def test_a_training_k_that_does_not_fit_the_experts_is_refused(training_k: object) -> None:
    expected = "1 to 3" if training_k == 4 else "an integer of at least 1"
    with pytest.raises(InvalidInputError, match=f"training_k is {training_k}; expected {expected}"):
        counting_model([[0.6, 0.3, 0.1]], training_k=training_k)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scored", [2, 4])
def test_a_gate_for_another_number_of_experts_is_refused(scored: int, training: bool) -> None:
    experts = [CountingExpert(1.0) for _ in range(3)]
    model = MixtureOfExperts(nn.Identity(), MoeLayer(FixedGate(), experts)).train(training)
    said = rf"^gate FixedGate, \(T, E\) = \(5, 3\): shape of scores is \(5, {scored}\); expected"
    with pytest.raises(InvalidInputError, match=said):
        model(torch.zeros(5, scored))


def test_training_ignores_the_policy() -> None:
    model, inputs = counting_model([[0.1, 0.9]], policy=Local())
    torch.testing.assert_close(model.train()(inputs).y_TC, torch.full((1, CLASSES), 0.9 * 2))


def test_one_forward_per_expert_and_batch_and_none_for_the_others() -> None:
    scores = [[0.7, 0.2, 0.1], [0.5, 0.1, 0.4], [0.8, 0.1, 0.1]]
    for training in (False, True):
        model, inputs = counting_model(scores, policy=TopK(2), training_k=2)
        model.train(training)(inputs)
        assert [expert.rows for expert in model.layer.experts] == [[3], [2], [1]]


def test_gradients_reach_gate_and_chosen_experts_in_training() -> None:
    model = trainable_model()
    output = model.train()(torch.randn(64, FEATURES))
    (-output.y_TC[:, 0].log().mean()).backward()
    assert model.layer.gate.linear.weight.grad.abs().sum() > 0
    for expert in model.layer.experts:
        assert expert.layers[0].weight.grad.abs().sum() > 0


def test_the_mixture_is_what_the_definition_says() -> None:
    model, inputs = trainable_model(policy=All()).eval(), torch.randn(5, FEATURES)
    with torch.no_grad():
        output = model(inputs)
        expected = sum(
            output.scores_TE[:, [e]] * expert(inputs) for e, expert in enumerate(model.layer.experts)
        )
    torch.testing.assert_close(output.y_TC, expected)


def test_an_ideal_radio_changes_no_answer() -> None:
    model, inputs = trainable_model(policy=TopK(2)).eval(), torch.randn(9, FEATURES)
    local = model(inputs).y_TC
    assert torch.equal(model(inputs, carrier=IdealRadioCarrier(links(4))).y_TC, local)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 32), (torch.float64, 64)])
def test_an_ideal_radio_charges_payload_and_norm_at_the_shannon_rate(dtype: torch.dtype, bits: int) -> None:
    snapshot = links(3, seed=5)
    radio = snapshot.radio
    subcarrier_NN = np.array([[-1, 0, 1], [2, -1, 3], [4, 5, -1]])
    model = trainable_model(3, policy=All()).to(dtype).eval()
    carrier, source_T = IdealRadioCarrier(snapshot, subcarrier_NN), np.array([0, 2])
    done = model(torch.randn(2, FEATURES, dtype=dtype), source_T, carrier=carrier).dispatched
    np.testing.assert_allclose(done.airtime_s_T, done.energy_j_T / radio.power_w)
    for source, energy_j in zip(source_T, done.energy_j_T, strict=True):
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
    carrier = IdealRadioCarrier(links(2))
    assert model(inputs, np.array([1]), carrier=carrier).dispatched.energy_j_T.tolist() == [0.0]
    assert model(inputs, np.array([0]), carrier=carrier).dispatched.energy_j_T[0] > 0


def test_the_gate_sees_the_snr_of_the_observed_links() -> None:
    true, observed = links(2, seed=1), links(2, seed=2)
    model, inputs = counting_model([[0.5, 0.5]])
    model(inputs, np.array([1]), carrier=IdealRadioCarrier(true.with_observed(observed)))
    np.testing.assert_allclose(model.layer.gate.snr_db_TE.numpy(), observed.snr_db([1], [0, 1]), rtol=1e-6)
    model(inputs, carrier=LocalCarrier())
    assert model.layer.gate.snr_db_TE is None


class Echo(nn.Module):
    """Answers what it received."""

    def forward(self, payload_P: Tensor) -> Tensor:
        return payload_P


def reading_model(experts: int = 3, **options: object) -> MixtureOfExperts:
    """A mixture whose experts answer the payload that reached them, and that asks all of them."""
    layer = MoeLayer(FixedGate(), [Echo() for _ in range(experts)], policy=All(), **options)  # type: ignore[arg-type]
    return MixtureOfExperts(nn.Identity(), layer).eval()


def test_with_an_snr_for_each_item_the_gate_sees_it_as_observed() -> None:
    true_TE, seen_TE = np.arange(6.0).reshape(2, 3), 10 - np.arange(6.0).reshape(2, 3)
    for training in (False, True):
        model = reading_model(carrier=RadioCarrier(Analog())).train(training)
        model(torch.randn(2, 3), snr=LinkSnr(true_TE, seen_TE))
        assert model.layer.gate.snr_db_TE.tolist() == seen_TE.tolist()


def test_with_an_snr_for_each_item_that_of_the_links_is_seen_by_nobody() -> None:
    model = reading_model(carrier=RadioCarrier(Analog(), Links.from_snr(-50.0, Ofdma(), nodes=4)))
    inputs = torch.randn(2, 3)
    output = model(inputs, snr=LinkSnr(np.full((2, 3), np.inf), np.full((2, 3), 7.0)))
    assert (model.layer.gate.snr_db_TE == 7).all()
    torch.testing.assert_close(output.y_TC, inputs)


def test_the_channel_is_the_true_one_and_each_expert_s_own() -> None:
    # It looks as if expert 1's link were perfect; in truth it drowns what it carries, and the others do not.
    torch.manual_seed(0)
    true_TE, seen_TE = np.full((4, 3), np.inf), np.full((4, 3), -50.0)
    true_TE[:, 1], seen_TE[:, 1] = -50.0, np.inf
    model, inputs = reading_model(carrier=RadioCarrier(Analog())), torch.randn(4, 3)
    output = model(inputs, snr=LinkSnr(true_TE, seen_TE))
    (delivery,) = output.dispatched.deliveries
    for item, expert, received in zip(delivery.item_P, delivery.expert_P, delivery.output_P, strict=True):
        error = float((received - inputs[item]).norm() / inputs[item].norm())
        assert error == 0 if expert != 1 else error > 20


@pytest.mark.parametrize("training", [False, True])
def test_over_links_without_noise_a_radio_is_no_radio(training: bool) -> None:
    model, inputs = trainable_model(policy=TopK(2), training_k=2).train(training), torch.randn(9, FEATURES)
    local = model(inputs).y_TC
    perfect, noisy = LinkSnr(np.full((9, 4), np.inf)), LinkSnr(np.full((9, 4), 10.0))
    assert torch.equal(model(inputs, snr=perfect, carrier=RadioCarrier(Analog())).y_TC, local)
    assert not torch.equal(model(inputs, snr=noisy, carrier=RadioCarrier(Analog())).y_TC, local)


def test_items_rest_where_the_layer_says_unless_the_call_does() -> None:
    # Four experts on two nodes: the server is node 2, and nothing is free of charge.
    model = reading_model(4, placement=[0, 1, 1, 1], source=2, carrier=RadioCarrier(Analog()))
    inputs, snr = torch.ones(2, 4), LinkSnr(np.full((2, 4), 10.0))
    implied = model(inputs, snr=snr).dispatched.energy_j_T.tolist()
    assert implied == model(inputs, np.array([2, 2]), snr=snr).dispatched.energy_j_T.tolist()
    pair_j = Ofdma().power_w * Analog().channel_uses(4, 10.0) / Ofdma().subcarrier_hz
    assert implied == pytest.approx([4 * pair_j] * 2)
    at_node_1 = model(inputs, np.array([1, 1]), snr=snr).dispatched.energy_j_T
    assert at_node_1.tolist() == pytest.approx([pair_j] * 2)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (2, 4)])
def test_an_snr_of_other_items_or_experts_is_refused(shape: tuple[int, int]) -> None:
    model = reading_model(carrier=RadioCarrier(Analog()))
    with pytest.raises(InvalidInputError, match=r"shape of snr is .*; expected \(T, E\) = \(2, 3\)"):
        model(torch.zeros(2, 3), snr=LinkSnr(np.zeros(shape)))


def test_the_policy_sees_the_observed_snr_of_each_item() -> None:
    true_TE, seen_TE = np.zeros((3, 3)), np.array([[1.0, 2, 3], [3, 2, 1], [2, 3, 1]])
    model = reading_model(carrier=RadioCarrier(Analog()))
    output = model(torch.zeros(3, 3), snr=LinkSnr(true_TE, seen_TE), policy=BestLink(1))
    assert output.dispatched.arrived_TE.argmax(axis=1).tolist() == [2, 0, 1]


def test_an_answer_to_a_payload_is_that_to_its_input() -> None:
    torch.manual_seed(0)
    layer = MoeLayer(LinearGate(FEATURES, 2), [MlpExpert(FEATURES, CLASSES, 8) for _ in range(2)])
    model, inputs = MixtureOfExperts(nn.Linear(2, FEATURES), layer).eval(), torch.randn(5, 2)
    assert torch.equal(layer(model.extractor(inputs)).y_TC, model(inputs).y_TC)


def test_what_a_noisy_gate_says_of_its_load_is_handed_on_in_training_only() -> None:
    torch.manual_seed(0)
    model, inputs = trainable_model(), torch.randn(5, FEATURES)
    assert model.train()(inputs).load_TE is None
    model.layer.gate = NoisyTopK(model.layer.gate, FEATURES, 4, 1)
    assert model.train()(inputs).load_TE.shape == (5, 4)
    assert model.eval()(inputs).load_TE is None


SUBCARRIER_NN = np.array([[-1, 0, 1], [0, -1, 1], [0, 1, -1]])


def links_toward(*gain_N: float) -> Links:
    """Links from node 0 with these gains to nodes 0, 1 and 2; all others have the gain 1."""
    gain_NNM = np.ones((3, 3, 2))
    gain_NNM[0] = np.array(gain_N)[:, None]
    return Links.from_gain(gain_NNM, Ofdma(subcarriers=2, noise_w=1e-3))


def test_policies_decide_on_observed_links_and_the_rate_that_they_chose_is_paid() -> None:
    true, seen = links_toward(1, 1, 1), links_toward(1, 1e-9, 0.5)  # better in truth than they look
    model, inputs = counting_model([[0.0, 0.5, 0.5]], policy=Des(0.4, 1))
    carrier = IdealRadioCarrier(true.with_observed(seen), SUBCARRIER_NN)
    dispatched = model(inputs, np.array([0]), carrier=carrier).dispatched
    assert dispatched.arrived_TE.tolist() == [[False, False, True]]
    bits = inputs[0].numel() * 32 + 32
    assert dispatched.energy_j_T[0] == pytest.approx(bits * seen.energy_per_bit_j(SUBCARRIER_NN)[0, 2])


def test_a_payload_sent_at_more_than_its_link_carries_is_lost_paid_and_sent_to_another() -> None:
    true, seen = links_toward(1, 1e-3, 0.4), links_toward(1, 1, 0.4)
    model, inputs = counting_model([[0.0, 0.6, 0.4]], policy=TopK(1))
    carrier = IdealRadioCarrier(true.with_observed(seen), SUBCARRIER_NN)
    output = model(inputs, np.array([0]), carrier=carrier)
    done = output.dispatched
    assert done.requested_TE.tolist() == [[False, True, True]]
    assert done.arrived_TE.tolist() == [[False, False, True]]
    assert done.degraded_T.all()
    assert done.rerouted_T.all()
    assert output.y_TC.tolist() == [[3.0] * CLASSES]
    bits = inputs[0].numel() * 32 + 32
    spent_j = bits * seen.energy_per_bit_j(SUBCARRIER_NN)[0, 1:].sum()
    assert done.energy_j_T[0] == pytest.approx(spent_j)
    assert done.airtime_s_T[0] == pytest.approx(spent_j / true.radio.power_w)


def test_where_every_link_carries_less_than_was_thought_the_own_expert_answers_or_none() -> None:
    true, seen = links_toward(1, 1e-3, 1e-3), links_toward(1, 1, 1)
    carrier = IdealRadioCarrier(true.with_observed(seen), SUBCARRIER_NN)
    model, inputs = counting_model([[0.1, 0.5, 0.4]], policy=TopK(2))
    done = model(inputs, np.array([0]), carrier=carrier).dispatched
    assert done.arrived_TE.tolist() == [[True, False, False]]
    server, inputs = counting_model([[0.6, 0.4]], policy=TopK(1), placement=[1, 2])
    with pytest.raises(NoExpertReachedError, match="item 0 at node 0"):
        server(inputs, np.array([0]), carrier=carrier)
    with pytest.raises(NoExpertReachedError, match="item 0: no expert answered while training"):
        server.train()(inputs, np.array([0]), carrier=carrier)


@pytest.mark.parametrize("training", [False, True])
def test_links_that_are_seen_as_they_are_lose_nothing(training: bool) -> None:
    snapshot = links(4)
    model, inputs = trainable_model(policy=TopK(2), training_k=2).train(training), torch.randn(9, FEATURES)
    source_T = np.arange(9) % 4
    plain = model(inputs, source_T, carrier=IdealRadioCarrier(snapshot))
    same = Links.from_gain(snapshot.gain_NNM, snapshot.radio)
    seen = model(inputs, source_T, carrier=IdealRadioCarrier(snapshot.with_observed(same)))
    assert torch.equal(plain.y_TC, seen.y_TC)
    if not training:
        assert np.array_equal(plain.dispatched.energy_j_T, seen.dispatched.energy_j_T)


def test_several_experts_may_live_on_one_node() -> None:
    model, inputs = counting_model([[0.1, 0.2, 0.7]], policy=Local(), placement=[0, 1, 1])
    output = model(inputs, np.array([1]))
    assert output.dispatched.arrived_TE.tolist() == [[False, True, True]]
    torch.testing.assert_close(output.y_TC, torch.full((1, CLASSES), (0.2 * 2 + 0.7 * 3) / 0.9))


def test_a_server_without_experts_can_ask_but_not_answer() -> None:
    server = 2
    model, inputs = counting_model([[0.1, 0.9]], placement=[0, 1])
    carrier = IdealRadioCarrier(links(3))
    output = model(inputs, np.array([server]), carrier=carrier)
    assert output.dispatched.arrived_TE.tolist() == [[False, True]]
    assert output.dispatched.energy_j_T[0] > 0
    with pytest.raises(NoExpertReachedError, match="item 0 at node 2"):
        model(inputs, np.array([server]), policy=Local(), carrier=carrier)


def test_a_radio_that_reaches_nobody_leaves_the_own_expert() -> None:
    silent = Links.from_snr(-np.inf, Ofdma(subcarriers=2), nodes=2)
    model, inputs = counting_model([[0.1, 0.9]], policy=TopK(1))
    output = model(inputs, np.array([0]), carrier=IdealRadioCarrier(silent))
    assert output.dispatched.arrived_TE.tolist() == [[True, False]]


def test_a_call_may_have_a_policy_of_its_own_and_leaves_the_layer_s_alone() -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    torch.testing.assert_close(model(inputs, policy=All()).y_TC, torch.full((1, CLASSES), 0.6 * 1 + 0.4 * 2))
    torch.testing.assert_close(model(inputs).y_TC, torch.full((1, CLASSES), 1.0))


def test_no_items_are_refused() -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    with pytest.raises(InvalidInputError, match=r"inputs_T is .*; expected at least one item"):
        model(inputs[:0])


def test_a_placement_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"experts of placement is 3; expected a node for each of 2"):
        counting_model([[0.6, 0.4]], placement=[0, 1, 2])


def test_a_source_that_has_no_link_is_refused() -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    with pytest.raises(InvalidInputError, match="source_T"):
        model(inputs, np.array([5]), carrier=IdealRadioCarrier(links(2)))


def test_replicas_are_asked_at_the_nearest_node_and_elsewhere_once_that_is_lost() -> None:
    snr_db_NN = np.array([[0, 20, 0], [20, 0, 0], [20, 10, 0.0]])
    snapshot = Links.from_snr(snr_db_NN, Ofdma(subcarriers=6))
    model, inputs = counting_model([[0.1, 0.9]], placement=Placement.of([[2], [0, 1]]))
    carrier = LossyCarrier(IdealRadioCarrier(snapshot))
    near = model(inputs, np.array([2]), carrier=carrier).dispatched
    assert near.node_TE.tolist() == [[-1, 0]]
    carrier.lost = {0}
    far = model(inputs, np.array([2]), carrier=carrier).dispatched
    assert far.node_TE.tolist() == [[-1, 1]]
    assert far.rerouted_T.tolist() == [True]
    assert far.degraded_T.tolist() == [False]  # another node holds the same expert
    assert far.reached_T.tolist() == [1.0]
    at_home = model(inputs, np.array([1]), carrier=carrier).dispatched
    assert at_home.node_TE.tolist() == [[-1, 1]]
    assert at_home.energy_j_T.tolist() == [0.0]


@pytest.mark.parametrize(
    ("pooling", "shape", "seen"),
    [("map", (3, 2, 2), 3), ("tokens", (4, 3), 3), ("vector", (3,), 3)],
)
def test_the_gate_sees_what_the_layer_says_a_payload_is(
    pooling: Pooling, shape: tuple[int, ...], seen: int
) -> None:
    class Shape(nn.Module):
        def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
            assert pooled_TF.shape == (5, seen)
            return GateOutput(torch.full((5, 2), 0.5), torch.zeros(5, 2))

    layer = MoeLayer(Shape(), [Echo(), Echo()], pooling=pooling).eval()
    assert layer(torch.randn(5, *shape)).y_TC.shape == (5, *shape)


def test_a_payload_of_another_kind_than_said_is_refused() -> None:
    layer = MoeLayer(FixedGate(), [Echo(), Echo()], pooling="vector")
    with pytest.raises(InvalidInputError, match="axes of payload is 3; expected 2, the axes of a vector"):
        layer(torch.randn(5, 4, 3))
    with pytest.raises(InvalidInputError, match="pooling is 'mean'; expected one of vector, map, tokens"):
        MoeLayer(FixedGate(), [Echo()], pooling="mean")  # type: ignore[arg-type]


def test_the_gate_is_told_of_the_link_to_the_node_that_is_asked() -> None:
    snr_db_NN = np.full((3, 3), 20.0)
    carrier = IdealRadioCarrier(Links.from_snr(snr_db_NN, Ofdma(subcarriers=6)))
    model, inputs = counting_model([[0.9, 0.1]], placement=Placement.of([[0, 2], [1]]), source=2)
    for training in (False, True):
        model.train(training)(inputs, carrier=carrier)
        assert model.layer.gate.snr_db_TE.tolist() == [[30.0, pytest.approx(20.0)]]


def test_in_training_the_nearest_node_is_asked_too() -> None:
    carrier = LossyCarrier(IdealRadioCarrier(Links.from_snr(20.0, Ofdma(subcarriers=6), nodes=3)))
    model, inputs = counting_model([[0.9, 0.1]], placement=Placement.of([[0, 2], [1]]), source=2)
    model.train()(inputs, carrier=carrier)
    assert carrier.transfers[0].node_P.tolist() == [2]


def test_what_is_lost_in_training_is_not_mixed() -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], training_k=2, source=9)
    output = model.train()(inputs, carrier=LossyCarrier(LocalCarrier(), lost=[0]))
    torch.testing.assert_close(output.y_TC, torch.full((1, CLASSES), 2.0))
    assert output.weights_TE.tolist() == [[0.0, 1.0, 0.0]]
    with pytest.raises(NoExpertReachedError, match="item 0: no expert answered while training"):
        model.train()(inputs, carrier=LossyCarrier(LocalCarrier(), lost=[0, 1]))


@pytest.mark.parametrize("training", [False, True])
def test_sources_of_another_number_of_items_are_refused(training: bool) -> None:
    model, inputs = counting_model([[0.6, 0.4]])
    with pytest.raises(InvalidInputError, match=r"shape of source_T is \(3,\); expected \(T,\) = \(1,\)"):
        model.train(training)(inputs, np.zeros(3, np.int64))


def test_explored_experts_are_drawn_from_those_that_the_gate_likes_less() -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], training_k=1, explored=1)
    torch.manual_seed(0)
    drawn = set[int]()
    for _ in range(20):
        weights = model.train()(inputs).weights_TE[0]
        assert weights[0] > 0
        drawn |= {expert for expert in (1, 2) if weights[expert] > 0}
        assert int((weights > 0).sum()) == 2
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    assert drawn == {1, 2}


def test_in_evaluation_nothing_is_explored_and_outputs_are_not_kept_one_by_one() -> None:
    model, inputs = counting_model([[0.6, 0.3, 0.1]], training_k=1, explored=2)
    assert model.train()(inputs).delivery is not None
    output = model.eval()(inputs)
    assert output.weights_TE.tolist() == [[1.0, 0.0, 0.0]]
    assert output.delivery is None


@pytest.mark.parametrize(("explored", "expected"), [(-1, "an integer"), (1.5, "an integer"), (2, "0 to 1")])
def test_more_explored_experts_than_there_are_others_are_refused(explored: object, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=f"explored is {explored}; expected {expected}"):
        counting_model([[0.6, 0.3, 0.1]], training_k=2, explored=explored)
