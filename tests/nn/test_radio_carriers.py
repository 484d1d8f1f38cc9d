"""The radio carrier: which pairs are transmitted, at which SNR, and what that costs."""

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from airmoe.dispatch import Transfer
from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.nn import MixtureOfExperts, MlpExpert, MlpGate, MoeLayer, RadioCarrier
from airmoe.radio import Analog, Digital, Transmission
from airmoe.radio.quantiser import clip_range, step
from airmoe.scheduling import All, Slot

FEATURES, CLASSES = 12, 3


class Recorder:
    """Brings payloads as they are, and remembers at which SNR."""

    name = "recorder"

    def channel_uses(self, values: int, snr_db: ArrayLike) -> NDArray[np.float64]:
        return np.full(np.shape(snr_db), float(values))

    def __call__(self, payload_P: Tensor, snr_db_P: Tensor) -> Tensor:
        self.snr_db_P = snr_db_P
        return payload_P


class Echo(nn.Module):
    """Answers what it was given, and remembers how many rows each call brought."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = list[int]()

    def forward(self, payload_P: Tensor) -> Tensor:
        self.rows.append(len(payload_P))
        return payload_P


def slot_of(source: list[int], snr_db_TE: NDArray[np.float64], placement: list[int] | None = None) -> Slot:
    """A slot of items at these nodes; expert e is on node e unless placed."""
    placement_E = np.arange(snr_db_TE.shape[1]) if placement is None else np.array(placement)
    return Slot(np.array(source), placement_E, snr=LinkSnr(snr_db_TE))


def transfer(
    payload_T: Tensor,
    item_P: NDArray[np.int64],
    expert_P: NDArray[np.int64],
    slot: Slot,
    experts: list[Echo],
) -> Transfer[Tensor]:
    """A transfer of these pairs to the nodes where their experts are."""
    return Transfer(payload_T, item_P, expert_P, slot.node_TE[item_P, expert_P], slot, experts, np.inf)


def carry(
    transmission: Transmission, slot: Slot, payload_T: Tensor, mask_TE: NDArray[np.bool_]
) -> tuple[Tensor, list[Echo], NDArray[np.int64], NDArray[np.int64]]:
    """Outputs of echoing experts, the experts, and the items and experts of the pairs."""
    experts = [Echo() for _ in range(mask_TE.shape[1])]
    expert_P, item_P = np.nonzero(mask_TE.T)
    delivery = RadioCarrier(transmission).carry(transfer(payload_T, item_P, expert_P, slot, experts))
    assert np.array_equal(delivery.item_P, item_P)
    assert np.array_equal(delivery.expert_P, expert_P)
    return delivery.output_P, experts, item_P, expert_P


def test_every_pair_is_transmitted_at_the_snr_of_its_item_s_link_to_its_expert() -> None:
    snr_db_TE = np.arange(12.0).reshape(4, 3)
    mask_TE = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=bool)
    recorder = Recorder()
    *_, item_P, expert_P = carry(recorder, slot_of([3] * 4, snr_db_TE), torch.randn(4, FEATURES), mask_TE)
    assert recorder.snr_db_P.tolist() == snr_db_TE[item_P, expert_P].tolist()


def test_the_channel_is_the_true_one_whatever_is_observed() -> None:
    recorder, slot = Recorder(), slot_of([2], np.array([[5.0, 7.0]]))
    slot = Slot(slot.source_T, slot.placement, snr=LinkSnr([[5.0, 7.0]], [[20.0, 20.0]]))
    carry(recorder, slot, torch.randn(1, FEATURES), np.ones((1, 2), dtype=bool))
    assert recorder.snr_db_P.tolist() == [5.0, 7.0]


def test_without_an_snr_for_each_item_the_carrier_s_links_are_met_and_the_observed_ones_are_not() -> None:
    radio = Ofdma(subcarriers=6)
    true = Links.from_snr(np.array([[0, 3, 4], [5, 0, 6], [7, 8, 0.0]]), radio)
    carrier = RadioCarrier(recorder := Recorder(), true.with_observed(Links.from_snr(20.0, radio, nodes=3)))
    slot = Slot(np.array([0, 1]), np.array([2, 1]))  # expert 1 is at the second item's node
    expert_P, item_P = np.nonzero(np.ones((2, 2)))
    carrier.carry(transfer(torch.randn(2, FEATURES), item_P, expert_P, slot, [Echo(), Echo()]))
    assert recorder.snr_db_P.tolist() == pytest.approx([4, 6, 3, np.inf], rel=1e-6)


def test_without_any_snr_nothing_is_transmitted() -> None:
    slot = Slot(np.array([1]), np.array([0]))
    with pytest.raises(InvalidInputError, match="the SNR of each item's links, or a carrier with links"):
        RadioCarrier(Analog()).carry(
            transfer(torch.zeros(1, 2), np.array([0]), np.array([0]), slot, [Echo()])
        )


@pytest.mark.parametrize(
    "transmission",
    [
        Analog(),
        Digital(2),
    ],
    ids=lambda transmission: transmission.name,
)
def test_an_expert_at_the_item_s_own_node_gets_the_payload_as_it_is(transmission: Transmission) -> None:
    torch.manual_seed(0)
    payload_T = torch.randn(4, 2, 3, 3)
    slot = slot_of([0, 1, 2, 2], np.full((4, 3), -5.0), placement=[2, 0, 2])
    output_P, _, item_P, expert_P = carry(transmission, slot, payload_T, np.ones((4, 3), dtype=bool))
    own_P = slot.at_home_TE[item_P, expert_P]
    assert own_P.sum() == 5
    for own, item, output in zip(own_P, item_P, output_P, strict=True):
        assert torch.equal(output, payload_T[item]) == own


def test_over_ideal_links_analog_changes_nothing() -> None:
    payload_T = torch.randn(5, FEATURES)
    slot = slot_of([3] * 5, np.full((5, 3), np.inf))
    output_P, _, item_P, _ = carry(Analog(), slot, payload_T, np.ones((5, 3), dtype=bool))
    assert torch.equal(output_P, payload_T[torch.from_numpy(item_P)])


def test_pairs_of_one_item_meet_noise_of_their_own() -> None:
    slot = slot_of([2], np.zeros((1, 2)))
    output_P, *_ = carry(Analog(), slot, torch.randn(1, FEATURES), np.ones((1, 2), dtype=bool))
    assert not torch.equal(output_P[0], output_P[1])


@pytest.mark.parametrize("transmission", [Analog(), Digital(4, "qpsk", "conv")], ids=lambda t: t.name)
def test_every_expert_runs_once_on_all_that_it_received(transmission: Transmission) -> None:
    mask_TE = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]], dtype=bool)
    slot = slot_of([0, 3, 3], np.zeros((3, 3)))
    _, experts, *_ = carry(transmission, slot, torch.randn(3, FEATURES), mask_TE)
    assert [expert.rows for expert in experts] == [[3], [], [2]]


@pytest.mark.parametrize(
    ("transmission", "uses"),
    [
        (Analog(), 200 + 32),
        (Analog(3), 600 + 32),
        (Digital(2, "16qam"), 200 + 64),
        (Digital(4, "qpsk", "conv"), 1600 + 64),
        (Digital(4, "16qam", "ldpc"), 1024 + 64),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_transfer_costs_power_times_channel_uses_over_bandwidth(
    transmission: Transmission, uses: int
) -> None:
    carrier = RadioCarrier(transmission, radio=Ofdma(power_w=0.5, subcarrier_hz=2e5))
    slot = slot_of([0, 7], np.zeros((2, 2)))
    quoted, charged = carrier.price(torch.zeros(2, 16, 5, 5), slot)
    airtime_s_TE = uses / 2e5 * np.array([[0, 1], [1, 1]])
    np.testing.assert_allclose(charged.airtime_s_TE, airtime_s_TE, rtol=1e-12)
    np.testing.assert_allclose(charged.energy_j_TE, 0.5 * airtime_s_TE, rtol=1e-12)
    np.testing.assert_array_equal(quoted.energy_j_TE, charged.energy_j_TE)


@pytest.mark.parametrize(("transmission", "side_bits"), [(Analog(), 32), (Digital(4, "qpsk", "conv"), 64)])
def test_side_information_takes_longer_over_a_bad_link_and_is_quoted_by_the_one_observed(
    transmission: Transmission, side_bits: int
) -> None:
    true_db, seen_db = np.array([[-10.0, -5.0, 3.0]]), np.array([[3.0, -10.0, -5.0]])
    slot = Slot([7], [0, 1, 2], snr=LinkSnr(true_db, seen_db))
    carrier = RadioCarrier(transmission, radio=Ofdma(subcarrier_hz=1e6))
    price = carrier.price(torch.zeros(1, 400), slot)
    least = transmission.channel_uses(400, 30.0) - side_bits
    for cost, snr_db in ((price.charged, true_db), (price.quoted, seen_db)):
        bits_a_use = np.minimum(1, np.log2(1 + 10 ** (snr_db / 10)))
        uses = least + np.ceil(side_bits / bits_a_use)
        np.testing.assert_allclose(cost.airtime_s_TE, uses / 1e6, rtol=1e-12)


def test_the_price_follows_the_links_of_the_carrier_where_a_slot_has_none() -> None:
    links = Links.from_snr([[0.0, -5.0], [20.0, 0.0]], Ofdma(subcarriers=2, subcarrier_hz=1e6))
    price = RadioCarrier(Analog(), links).price(torch.zeros(2, 400), Slot([0, 1], [0, 1]))
    np.testing.assert_allclose(price.charged.airtime_s_TE * 1e6, [[0, 281], [232, 0]])
    with pytest.raises(InvalidInputError, match="snr is None"):
        RadioCarrier(Analog()).price(torch.zeros(2, 400), Slot([0, 1], [0, 1]))


def test_payloads_in_bfloat16_are_transmitted_in_full_precision() -> None:
    torch.manual_seed(0)
    payload_TD = torch.randn(3, 256).to(torch.bfloat16)
    slot = slot_of([1, 1, 1], np.full((3, 1), 300.0))
    received_TD, *_ = carry(Digital(8), slot, payload_TD, np.ones((3, 1), np.bool_))
    assert received_TD.dtype == torch.float32
    centred_TD = payload_TD.float() - payload_TD.float().mean(dim=1, keepdim=True)
    inside_TD = centred_TD.abs() < 0.95 * clip_range(8)
    assert (received_TD - payload_TD.float())[inside_TD].abs().max() < 0.51 * step(8) * 1.1


def test_half_a_channel_use_is_charged_as_one() -> None:
    carrier, slot = RadioCarrier(Analog(), radio=Ofdma(subcarrier_hz=1e6)), slot_of([1], np.zeros((1, 1)))
    for values, uses in ((5, 3 + 32), (7, 4 + 32)):
        airtime_s = carrier.price(torch.zeros(1, values), slot).charged.airtime_s_TE
        assert airtime_s.tolist() == [[pytest.approx(uses / 1e6)]]


def test_the_bits_of_a_payload_are_bits_whatever_the_radio_charges_for() -> None:
    assert RadioCarrier(Analog()).payload_bits(torch.zeros(2, 5)) == 5 * 32 + 32
    assert RadioCarrier(Digital(2)).payload_bits(torch.zeros(2, 5, dtype=torch.float64)) == 5 * 64 + 32


def test_the_radio_is_that_of_the_links_unless_another_is_given() -> None:
    radio, other = Ofdma(subcarriers=2, power_w=0.3), Ofdma(power_w=0.7)
    links = Links.from_snr(10.0, radio, nodes=2)
    assert RadioCarrier(Analog(), links).radio == radio
    assert RadioCarrier(Analog(), links, other).radio == other
    assert RadioCarrier(Analog()).radio == Ofdma()


def model(transmission: Transmission) -> MixtureOfExperts:
    """A mixture of three experts on nodes 0 to 2."""
    torch.manual_seed(0)
    experts = [MlpExpert(FEATURES, CLASSES, 8) for _ in range(3)]
    layer = MoeLayer(
        MlpGate(FEATURES, 3), experts, policy=All(), carrier=RadioCarrier(transmission), source=3
    )
    return MixtureOfExperts(nn.Identity(), layer)


@pytest.mark.parametrize("transmission", [Analog(), Digital(4, "qpsk", "conv")], ids=lambda t: t.name)
def test_a_mixture_is_charged_for_every_pair_but_the_item_s_own(transmission: Transmission) -> None:
    source_T, snr = np.array([0, 3]), LinkSnr(np.full((2, 3), 5.0))
    with torch.no_grad():
        answer = model(transmission).eval()(torch.randn(2, FEATURES), source_T, snr=snr)
    per_pair_j = 1e-2 * transmission.channel_uses(FEATURES, 5.0) / 1e6
    assert answer.dispatched.energy_j_T.tolist() == pytest.approx([2 * per_pair_j, 3 * per_pair_j])


@pytest.mark.parametrize("transmission", [Analog(), Digital(4, "qpsk", "ldpc")], ids=lambda t: t.name)
def test_gradients_pass_the_radio(transmission: Transmission) -> None:
    inputs_TF = torch.randn(8, FEATURES, requires_grad=True)
    answer = model(transmission).train()(inputs_TF, snr=LinkSnr(np.full((8, 3), 5.0)))
    answer.y_TC[:, 0].log().sum().backward()
    assert inputs_TF.grad is not None
    assert inputs_TF.grad.isfinite().all()
    assert inputs_TF.grad.abs().sum(dim=1).min() > 0
