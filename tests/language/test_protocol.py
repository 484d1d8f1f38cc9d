"""The DMoE protocol over layers: bits per byte, joules of transfers, computing and control."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.language import MoeTransformer, TransformerSettings
from airmoe.language.measure import bits_per_byte
from airmoe.language.protocol import ask_text, control_energy_j, faded_carriers
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier, LocalCarrier
from airmoe.scheduling import Placement, schedule_layer
from airmoe.seeding import torch_seeded

LAYERS, NODES = 3, 4
RADIO = Ofdma(subcarriers=24, charge_return=True)
IN_TURN = np.arange(6) % NODES
COMPUTE_J_E = np.array([1e-6, 2e-6, 3e-6, 4e-6])


@pytest.fixture(scope="module")
def model() -> MoeTransformer:
    settings = TransformerSettings(width=16, layers=LAYERS, heads=2, expert_hidden=16, context=24)
    with torch_seeded(1, "protocol"):
        model = MoeTransformer(settings, Placement(np.arange(NODES), COMPUTE_J_E)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5)
    return model


@pytest.fixture(scope="module")
def windows_WS() -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (6, 25)))


def fading(seed: int = 0) -> RayleighFading:
    return RayleighFading(NODES, RADIO, mean_snr_db=10.0, seed=seed)


def test_a_text_in_one_process_is_predicted_as_well_and_takes_computing_alone(
    model: MoeTransformer, windows_WS: Tensor
) -> None:
    def carriers(batch: int) -> list[LocalCarrier]:
        return [LocalCarrier()] * LAYERS

    cost = ask_text(model, windows_WS, "topk:2", carriers, IN_TURN, at_once=4)
    with torch.no_grad():
        expected = bits_per_byte(lambda tokens_BS: model(tokens_BS).logits_BSV, windows_WS)
        logits_BSV = model(windows_WS[:, :-1]).logits_BSV.double()
    assert cost.bits_per_byte == pytest.approx(expected, rel=1e-6)
    given = torch.softmax(logits_BSV, dim=-1).gather(2, windows_WS[:, 1:, None])
    assert cost.bits_per_byte == pytest.approx(float(-given.log2().mean()), rel=1e-6)
    assert cost.experts_per_token == 2
    for layer in cost.layers:
        assert layer.tokens == 6 * 24
        assert layer.energy_j == pytest.approx((layer.pairs_NE.sum(axis=0) * COMPUTE_J_E).sum(), rel=1e-9)
        assert (layer.control_j, layer.airtime_s) == (0, 0)


def test_a_joint_policy_pays_what_its_schedules_say_and_the_scheduler(
    model: MoeTransformer, windows_WS: Tensor
) -> None:
    carriers, policy = faded_carriers(fading().at, LAYERS), "jesa:0.7:2"
    cost = ask_text(model, windows_WS, policy, carriers, IN_TURN, at_once=6)
    source_T = np.repeat(np.arange(6) % NODES, 24)
    with torch.no_grad():
        output = model(windows_WS[:, :-1], source_B=np.arange(6) % NODES, policy=policy, carrier=carriers(0))
    for layer, record in enumerate(cost.layers):
        links = fading().at(layer)
        plan = schedule_layer(
            output.layers[layer].scores_TE.double().numpy(), source_T, links.gain_NNM, RADIO,
            threshold=0.7 ** (layer + 1), token_bits=32 * 16 + 32, compute_j_per_token=COMPUTE_J_E,
        )  # fmt: skip
        assert record.energy_j == pytest.approx(plan.energy_j, rel=1e-9)
        assert record.airtime_s == pytest.approx(plan.comm_j / RADIO.power_w, rel=1e-6)
        assert record.pairs_NE.sum() == plan.selection.mask.sum()
        assert record.away == (plan.selection.mask & (source_T[:, None] != np.arange(NODES))).sum()
        assert record.control_j == control_energy_j(source_T, NODES, links)
    assert cost.energy_j_per_token == pytest.approx(sum(each.energy_j for each in cost.layers) / 144)
    assert cost.control_j_per_token == pytest.approx(sum(each.control_j for each in cost.layers) / 144)


def test_control_is_a_score_for_each_expert_there_and_a_bit_back() -> None:
    links = Links.from_snr(10 * math.log10(3), Ofdma(subcarriers=12), nodes=4)  # 2 Mbit/s, 5 nJ a bit
    assert control_energy_j(np.array([0, 1, 3]), 4, links) == pytest.approx(2 * 4 * 33 * 5e-9, rel=1e-9)


def test_links_are_drawn_anew_for_every_layer_of_every_batch() -> None:
    carriers = faded_carriers(fading().at, LAYERS)
    gains = [each.links.gain_NNM[0, 1, 0] for batch in range(4) for each in carriers(batch) if each.links]
    assert len(set(gains)) == 4 * LAYERS
    assert carriers(2)[1].links.gain_NNM[0, 1, 0] == gains[2 * LAYERS + 1]  # type: ignore[union-attr]


def test_the_bound_is_no_dearer_than_any_allocation(model: MoeTransformer, windows_WS: Tensor) -> None:
    exclusive, bound = (
        ask_text(model, windows_WS, "des:0.5:2", faded_carriers(fading().at, LAYERS, exclusive=kind), IN_TURN)
        for kind in (True, False)
    )
    # Other experts may answer in deeper layers, but not in the first.
    assert bound.layers[0].energy_j < exclusive.layers[0].energy_j
    best = IdealRadioCarrier(fading().at(0), fading().at(0).best_subcarrier_NN)
    assert faded_carriers(fading().at, 1, exclusive=False)(0)[0].payload_bits(torch.zeros(1, 4)) == (
        best.payload_bits(torch.zeros(1, 4))
    )


def test_control_is_charged_in_every_layer_that_a_joint_policy_decides(
    model: MoeTransformer, windows_WS: Tensor
) -> None:
    carriers = faded_carriers(fading().at, LAYERS)
    whole = ask_text(model, windows_WS, "jesa:0.7:2", carriers, IN_TURN)
    listed = ask_text(model, windows_WS, ["jesa:0.7:2"] * LAYERS, carriers, IN_TURN)
    assert [each.control_j for each in listed.layers] == [each.control_j for each in whole.layers]
    mixed = ask_text(model, windows_WS, ["jesa:0.7:2", "topk:2", "jesa:0.7:2"], carriers, IN_TURN)
    assert [each.control_j > 0 for each in mixed.layers] == [True, False, True]


def test_control_is_finite_where_subcarriers_are_few(model: MoeTransformer, windows_WS: Tensor) -> None:
    few = RayleighFading(NODES, Ofdma(subcarriers=4), mean_snr_db=10.0, seed=0)
    cost = ask_text(model, windows_WS, "jesa:0.7:2", faded_carriers(few.at, LAYERS), IN_TURN)
    assert 0 < cost.control_j_per_token < np.inf


def test_what_draws_goes_on_from_batch_to_batch_and_follows_the_seed(
    model: MoeTransformer, windows_WS: Tensor
) -> None:
    carriers = faded_carriers(fading().at, LAYERS)
    twice_WS = windows_WS[:1].repeat(2, 1)

    def pairs(**options: int) -> list[list[list[int]]]:
        cost = ask_text(model, twice_WS, "random:1", carriers, [0, 1], at_once=1, **options)
        return [each.pairs_NE.tolist() for each in cost.layers]

    assert all(first != second for first, second in pairs())
    assert pairs() == pairs(seed=0) != pairs(seed=1)


def test_windows_rest_where_they_are_said_to_rest(model: MoeTransformer, windows_WS: Tensor) -> None:
    carriers = faded_carriers(fading().at, LAYERS)
    cost = ask_text(model, windows_WS, "topk:2", carriers, [0, 3, 3, 3, 1, 3], at_once=2)
    for layer in cost.layers:
        assert layer.pairs_NE.sum(axis=1).tolist() == [48, 48, 0, 4 * 48]


def test_a_text_that_cannot_be_asked_is_refused(model: MoeTransformer, windows_WS: Tensor) -> None:
    carriers = faded_carriers(fading().at, LAYERS)
    for windows, source in ((windows_WS, [0]), (windows_WS[:0], [])):
        with pytest.raises(InvalidInputError, match=r"shape of source_W is \(\d,\); expected \(W,\) = "):
            ask_text(model, windows, "topk:2", carriers, source)
    with pytest.raises(InvalidInputError, match="model is 'in training mode'"):
        ask_text(copy.deepcopy(model).train(), windows_WS, "topk:2", carriers, IN_TURN)
