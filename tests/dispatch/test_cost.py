"""What airtime costs: power times channel uses over the symbol rate, whatever the link."""

import numpy as np
import pytest

from airmoe.dispatch import AirtimePrice, analog_channel_uses
from airmoe.errors import InvalidInputError
from airmoe.links import Ofdma
from airmoe.scheduling import Slot

RADIO = Ofdma(subcarriers=6, subcarrier_hz=2e6, power_w=0.05)


def slot(bits_T: list[float] | None) -> Slot:
    """Three items at nodes 0, 1 and 3; four experts, two of them on node 1; node 3 has none."""
    bits = None if bits_T is None else np.array(bits_T)
    return Slot(np.array([0, 1, 3]), np.array([0, 1, 1, 2]), bits_T=bits)


def test_a_transfer_costs_power_times_uses_over_rate_and_nothing_at_home() -> None:
    price = AirtimePrice(RADIO)(slot([100.0, 200.0, 400.0]))
    use_j = 0.05 / 2e6
    expected = use_j * np.array([[0, 100, 100, 100], [200, 0, 0, 200], [400, 400, 400, 400]])
    np.testing.assert_allclose(price.charged_j_TE, expected, rtol=1e-12)
    np.testing.assert_array_equal(price.quoted_j_TE, price.charged_j_TE)


def test_what_is_quoted_may_be_changed_without_changing_what_is_charged() -> None:
    price = AirtimePrice(RADIO)(slot([1.0, 1.0, 1.0]))
    price.quoted_j_TE[:] = np.inf
    assert np.isfinite(price.charged_j_TE).all()


def test_every_subcarrier_costs_the_same() -> None:
    price, slot_ = AirtimePrice(RADIO), slot([1.0, 2.0, 3.0])
    other = price(slot_, np.full((4, 4), -1))
    np.testing.assert_array_equal(other.charged_j_TE, price(slot_).charged_j_TE)


def test_a_slot_that_does_not_say_how_much_is_sent_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"slot.bits_T is None; expected the channel uses"):
        AirtimePrice(RADIO)(slot(None))


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


def test_the_simulated_radio_charges_airtime() -> None:
    pytest.importorskip("torch")
    from airmoe.nn import RadioCarrier
    from airmoe.radio import Analog

    slot_ = slot([10.0, 20.0, 30.0])
    ours, theirs = AirtimePrice(RADIO)(slot_), RadioCarrier(Analog(), radio=RADIO).price_j(slot_)
    np.testing.assert_array_equal(theirs.charged_j_TE, ours.charged_j_TE)
    np.testing.assert_array_equal(theirs.quoted_j_TE, ours.quoted_j_TE)
