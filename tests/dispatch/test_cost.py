"""What a transfer takes over an ideal radio and over one that is paid by airtime: joules and seconds."""

import numpy as np
import pytest

from airmoe.dispatch import AirtimePrice, IdealPrice, analog_channel_uses
from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma
from airmoe.scheduling import Slot

RADIO = Ofdma(subcarriers=6, subcarrier_hz=2e6, power_w=0.05)


SLOT = Slot(np.array([0, 1, 3]), np.array([0, 1, 1, 2]))
"""Three items at nodes 0, 1 and 3; four experts, two of them on node 1; node 3 has none."""

REMOTE_TE = np.array([[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]])


def test_a_transfer_takes_uses_over_rate_and_costs_the_power_meanwhile_and_nothing_at_home() -> None:
    price = AirtimePrice(RADIO)(SLOT, 300.0)
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
    assert analog_channel_uses(values, repeats) == uses


def test_simulation_and_mesh_count_analog_symbols_alike() -> None:
    pytest.importorskip("torch")
    from airmoe.radio import Analog

    for values, repeats in ((400, 1), (75, 2), (75, 1), (4096, 5)):
        assert Analog(repeats).channel_uses(values) == analog_channel_uses(values, repeats)


def test_the_simulated_radio_charges_airtime_and_tells_bits() -> None:
    torch = pytest.importorskip("torch")
    from airmoe.nn import RadioCarrier
    from airmoe.radio import Analog

    carrier, payload_T = RadioCarrier(Analog(), radio=RADIO), torch.zeros(3, 400)
    ours, theirs = AirtimePrice(RADIO)(SLOT, analog_channel_uses(400)), carrier.price(payload_T, SLOT)
    np.testing.assert_array_equal(theirs.charged.energy_j_TE, ours.charged.energy_j_TE)
    np.testing.assert_array_equal(theirs.quoted.airtime_s_TE, ours.quoted.airtime_s_TE)
    assert carrier.payload_bits(payload_T) == 400 * 32 + 32
