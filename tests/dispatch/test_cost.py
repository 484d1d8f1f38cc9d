"""What a transfer takes over an ideal radio and over one that is paid by airtime: joules and seconds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.dispatch import AirtimePrice, IdealPrice, Transfer, analog_channel_uses, side_uses
from airmoe.errors import InvalidInputError
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.scheduling import Slot

RADIO = Ofdma(subcarriers=6, subcarrier_hz=2e6, power_w=0.05)


SLOT = Slot(np.array([0, 1, 3]), np.array([0, 1, 1, 2]))
"""Three items at nodes 0, 1 and 3; four experts, two of them on node 1; node 3 has none."""

REMOTE_TE = np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]])


def test_a_transfer_takes_uses_over_rate_and_costs_the_power_meanwhile_and_nothing_at_home() -> None:
    slot = Slot(SLOT.source_T, SLOT.placement, snr=LinkSnr(np.zeros((3, 4))))
    price = AirtimePrice(RADIO)(slot, lambda snr_db_TE: np.full(snr_db_TE.shape, 299.5))
    np.testing.assert_allclose(price.charged.energy_j_TE, 0.05 * 300 / 2e6 * REMOTE_TE, rtol=1e-12)
    np.testing.assert_allclose(price.charged.airtime_s_TE, 300 / 2e6 * REMOTE_TE, rtol=1e-12)
    np.testing.assert_array_equal(price.quoted.energy_j_TE, price.charged.energy_j_TE)


def test_bits_take_their_time_at_the_shannon_rate_and_cost_the_power_meanwhile() -> None:
    links = Links.from_snr(10 * np.log10(3.0), RADIO, nodes=4)  # two bits a symbol, 4 Mbit/s
    slot = Slot(SLOT.source_T, SLOT.placement, bits_T=np.array([4e6, 8e6, 2e6]))
    subcarrier_NN = np.zeros((4, 4), np.int64)
    price = IdealPrice(links, subcarrier_NN)(slot)
    np.testing.assert_allclose(price.charged.airtime_s_TE, [[1.0], [2.0], [0.5]] * REMOTE_TE, rtol=1e-9)
    np.testing.assert_allclose(price.charged.energy_j_TE, 0.05 * price.charged.airtime_s_TE, rtol=1e-12)


def test_a_link_without_gain_is_out_of_reach_in_joules_and_seconds() -> None:
    links = Links.from_snr(-np.inf, RADIO, nodes=4)
    price = IdealPrice(links)(Slot(SLOT.source_T, SLOT.placement, bits_T=np.ones(3)))
    np.testing.assert_array_equal(np.isinf(price.quoted.energy_j_TE), REMOTE_TE == 1)
    np.testing.assert_array_equal(np.isinf(price.quoted.airtime_s_TE), REMOTE_TE == 1)


def test_a_slot_that_does_not_say_how_many_bits_are_sent_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"slot.bits_T is None; expected the bits of each payload"):
        IdealPrice(Links.from_snr(0.0, RADIO, nodes=4))(SLOT)


@pytest.mark.parametrize(
    ("values", "repeats", "uses"), [(400, 1, 232), (400, 3, 632), (1, 1, 32.5), (4096, 1, 2080)]
)
def test_analog_sends_two_values_a_symbol_and_the_norm_in_32(values: int, repeats: int, uses: float) -> None:
    assert analog_channel_uses(values, 0.0, repeats) == uses
    assert analog_channel_uses(values, -5.0, repeats) == uses - 32 + 81


@pytest.mark.parametrize(("snr_db", "uses"), [(-10, 233), (-5, 81), (0, 32), (3, 32), (np.inf, 32)])
def test_32_bits_beside_a_payload_take_what_shannon_says_and_a_symbol_each_at_best(
    snr_db: float, uses: int
) -> None:
    assert side_uses(32, snr_db) == uses


@given(bits=st.integers(1, 1000), snr_db=st.floats(-60, 60))
def test_side_information_never_beats_shannon_and_wastes_less_than_a_symbol(bits: int, snr_db: float) -> None:
    rate = min(1.0, float(np.log2(1 + 10 ** (max(snr_db, -40.0) / 10))))
    uses = float(side_uses(bits, snr_db))
    assert uses == int(uses)
    assert bits * (1 - 1e-9) <= uses * rate < bits + rate + 1e-6
    assert uses >= float(side_uses(bits, snr_db + 1)), "a better link takes no more"


def test_a_link_without_gain_is_charged_as_one_of_minus_40_db_like_its_noise() -> None:
    assert side_uses(32, -np.inf) == side_uses(32, -40.0) == side_uses(32, -55.0) < np.inf


def test_airtime_is_quoted_by_the_links_as_observed_and_charged_by_the_true_ones() -> None:
    true_db, seen_db = np.array([[20.0, -5.0]]), np.array([[-10.0, 20.0]])
    uses_TE = {"quoted": [[82.0 - 32 + 233, 82.0]], "charged": [[82.0, 82.0 - 32 + 81]]}
    of_slot = Slot([2], [0, 1], snr=LinkSnr(true_db, seen_db))
    node_db = np.zeros((3, 3))
    truth, seen = (
        Links.from_snr(np.vstack([node_db[:2], [*db[0], 0.0]]), RADIO) for db in (true_db, seen_db)
    )
    of_links = Slot([2], [0, 1], seen)
    for slot, links in ((of_slot, None), (of_links, truth.with_observed(seen))):
        price = AirtimePrice(RADIO, links)(slot, lambda snr_db_TE: analog_channel_uses(100, snr_db_TE))
        for side, uses in uses_TE.items():
            np.testing.assert_allclose(getattr(price, side).airtime_s_TE * 2e6, uses, rtol=1e-9)


def test_airtime_over_links_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="snr is None; expected the SNR of each item's links"):
        AirtimePrice(RADIO)(SLOT, lambda snr_db_TE: snr_db_TE)


NODES, SUBCARRIERS = 4, 6
GAINS = st.lists(
    st.sampled_from([0.0, 1e-14, 2e-13, 2.0000001e-13, 5e-12, 1e-9]),
    min_size=NODES * NODES * SUBCARRIERS,
    max_size=NODES * NODES * SUBCARRIERS,
)


def links_of(gains: list[float]) -> Links:
    return Links.from_gain(np.reshape(gains, (NODES, NODES, SUBCARRIERS)), RADIO)


@given(true=GAINS, seen=GAINS, decided=st.booleans(), seed=st.integers(0, 99))
def test_what_is_sent_arrives_if_the_link_carries_the_rate_chosen_and_is_paid_in_any_case(
    true: list[float], seen: list[float], decided: bool, seed: int
) -> None:
    truth, observed = links_of(true), links_of(seen)
    random = np.random.default_rng(seed)
    subcarrier_NN = random.integers(0, SUBCARRIERS, (NODES, NODES))
    standing_NN = None if decided else subcarrier_NN
    price = IdealPrice(truth.with_observed(observed), standing_NN)
    source_T, node_E = np.array([0, 1, 3]), np.array([0, 1, 1, 2])
    slot = Slot(source_T, node_E, observed, bits_T=np.array([1e3, 2e3, 5e3]))
    expert_P, item_P = np.nonzero(np.ones((4, 3)))
    transfer = Transfer(
        None, item_P, expert_P, node_E[expert_P], slot, None, 1.0, subcarrier_NN if decided else None
    )
    arrives_P = price.arrives_P(transfer)
    told = price(slot, subcarrier_NN if decided else None)
    for item, expert, arrives in zip(item_P, expert_P, arrives_P, strict=True):
        link = source_T[item], node_E[expert]
        chosen_bps, true_bps = (
            RADIO.subcarrier_hz * np.log2(1 + each.gain_NNM[link][subcarrier_NN[link]] * RADIO.snr_per_gain)
            for each in (observed, truth)
        )
        if link[0] == link[1]:
            assert arrives
            assert told.charged.energy_j_TE[item, expert] == 0
        else:
            assert arrives == (chosen_bps <= true_bps)
            with np.errstate(divide="ignore"):
                energy_j = RADIO.power_w * slot.bits_T[item] / chosen_bps
            assert told.charged.energy_j_TE[item, expert] == pytest.approx(energy_j)
    np.testing.assert_array_equal(told.quoted.energy_j_TE, told.charged.energy_j_TE)


@given(gains=GAINS, copied=st.booleans())
def test_over_links_that_are_known_everything_arrives(gains: list[float], copied: bool) -> None:
    links = links_of(gains)
    if copied:
        links = links.with_observed(links_of(gains))
    expert_P, item_P = np.nonzero(np.ones((4, 3)))
    node_P = SLOT.node_TE[item_P, expert_P]
    assert IdealPrice(links).arrives_P(Transfer(None, item_P, expert_P, node_P, SLOT, None, 1.0)).all()


def test_simulation_and_mesh_count_analog_symbols_alike() -> None:
    pytest.importorskip("torch")
    from airmoe.radio import Analog

    for values, repeats in ((400, 1), (75, 2), (75, 1), (4096, 5)):
        for snr_db in (5.0, -8.0):
            ours = Analog(repeats).channel_uses(values, snr_db)
            assert ours == analog_channel_uses(values, snr_db, repeats)


def test_the_simulated_radio_charges_airtime_and_tells_bits() -> None:
    torch = pytest.importorskip("torch")
    from airmoe.nn import RadioCarrier
    from airmoe.radio import Analog

    carrier, payload_T = RadioCarrier(Analog(), radio=RADIO), torch.zeros(3, 400)
    snr = LinkSnr(np.linspace(-12, 9, 12).reshape(3, 4))
    slot = Slot(SLOT.source_T, SLOT.placement, snr=snr)
    ours = AirtimePrice(RADIO)(slot, lambda snr_db_TE: analog_channel_uses(400, snr_db_TE))
    theirs = carrier.price(payload_T, slot)
    np.testing.assert_array_equal(theirs.charged.energy_j_TE, ours.charged.energy_j_TE)
    np.testing.assert_array_equal(theirs.quoted.airtime_s_TE, ours.quoted.airtime_s_TE)
    assert carrier.payload_bits(payload_T) == 400 * 32 + 32


ASYMMETRIC = np.array([[0.0, 9.0, 3.0], [5.0, 0.0, 9.0], [20.0, 9.0, 0.0]])


def test_an_output_that_is_charged_pays_for_the_way_back_over_the_reverse_link() -> None:
    there, back = (Ofdma(subcarriers=6, charge_return=back) for back in (False, True))
    slot = Slot([0, 1], [0, 1, 2], bits_T=np.array([1e4, 3e4]))
    subcarrier_NN = np.zeros((3, 3), np.int64)
    one_way, both_ways = (
        IdealPrice(Links.from_snr(ASYMMETRIC, radio), subcarrier_NN)(slot).charged for radio in (there, back)
    )
    reverse = IdealPrice(Links.from_snr(ASYMMETRIC.T, there), subcarrier_NN)(slot).charged
    np.testing.assert_allclose(both_ways.energy_j_TE, one_way.energy_j_TE + reverse.energy_j_TE)
    np.testing.assert_allclose(both_ways.airtime_s_TE, one_way.airtime_s_TE + reverse.airtime_s_TE)
    assert (both_ways.energy_j_TE[slot.at_home_TE] == 0).all()


def test_an_output_that_is_charged_is_lost_where_the_reverse_link_carries_less_than_was_thought() -> None:
    worse = ASYMMETRIC.copy()
    worse[1, 0] -= 3.0  # from the expert's node back
    slot = Slot([0, 0], [0, 1, 2], bits_T=np.ones(2))
    for charged, arrives in ((False, [True, True, True]), (True, [True, False, True])):
        radio = Ofdma(subcarriers=6, charge_return=charged)
        links = Links.from_snr(worse, radio).with_observed(Links.from_snr(ASYMMETRIC, radio))
        item_P, expert_P = np.array([0, 1, 0]), np.array([0, 1, 2])
        transfer = Transfer(np.zeros((2, 1)), item_P, expert_P, expert_P, slot, None, 1.0)
        assert IdealPrice(links, np.zeros((3, 3), np.int64)).arrives_P(transfer).tolist() == arrives


def test_channel_uses_are_not_charged_for_outputs() -> None:
    with pytest.raises(InvalidInputError, match="charge_return is True; expected False where channel uses"):
        AirtimePrice(Ofdma(charge_return=True))
