"""Links: an immutable snapshot of all directed links."""

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import Links, Ofdma

RADIO = Ofdma(subcarriers=2, subcarrier_hz=1e6, power_w=1.0, noise_w=1.0)  # gain = linear SNR


def test_gains_are_copied_and_cannot_be_changed() -> None:
    gain_NNM = np.ones((2, 2, 2))
    links = Links.from_gain(gain_NNM, RADIO)
    gain_NNM[:] = 7.0
    assert (links.gain_NNM == 1.0).all()
    with pytest.raises(ValueError, match="read-only"):
        links.gain_NNM[0, 1, 0] = 7.0


@pytest.mark.parametrize("shape", [(2, 2), (2, 3, 2), (2, 2, 3), (0, 0, 2), (2, 2, 2, 1), ()])
def test_gain_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of gain_NNM .*\(N, N, M\)"):
        Links.from_gain(np.ones(shape), RADIO)


@pytest.mark.parametrize("value", [-1e-9, np.nan, np.inf])
def test_an_impossible_gain_is_named_with_its_index(value: float) -> None:
    gain_NNM = np.ones((2, 2, 2))
    gain_NNM[1, 0, 1] = value
    with pytest.raises(InvalidInputError, match=r"gain_NNM\[1, 0, 1\] is .*; expected finite and >= 0"):
        Links.from_gain(gain_NNM, RADIO)


def test_gain_must_be_numbers() -> None:
    with pytest.raises(InvalidInputError, match="gain_NNM"):
        Links.from_gain([[["a", "b"]]], RADIO)


def test_snr_in_db_becomes_gain_by_the_radio() -> None:
    radio = Ofdma(subcarriers=3, power_w=2.0, noise_w=1e-3)
    links = Links.from_snr(20.0, radio, nodes=2)
    assert links.gain_NNM.shape == (2, 2, 3)
    np.testing.assert_allclose(links.gain_NNM, 100 * 1e-3 / 2.0, rtol=1e-14)


def test_snr_per_link_holds_on_every_subcarrier() -> None:
    links = Links.from_snr([[0.0, 10.0], [20.0, 0.0]], RADIO)
    np.testing.assert_allclose(links.gain_NNM[:, :, 0], [[1.0, 10.0], [100.0, 1.0]])
    np.testing.assert_array_equal(links.gain_NNM[:, :, 0], links.gain_NNM[:, :, 1])


def test_snr_per_link_and_subcarrier_is_taken_as_it_is() -> None:
    snr_db_NNM = np.arange(8.0).reshape(2, 2, 2)
    links = Links.from_snr(snr_db_NNM, RADIO)
    np.testing.assert_allclose(10 * np.log10(links.gain_NNM), snr_db_NNM, atol=1e-12)


def test_minus_infinity_db_is_no_gain_at_all() -> None:
    links = Links.from_snr([[0.0, -np.inf], [0.0, 0.0]], RADIO)
    assert (links.gain_NNM[0, 1] == 0.0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_impossible_snr_is_named_with_its_index(value: float) -> None:
    with pytest.raises(InvalidInputError, match=r"snr_db\[0, 1\]"):
        Links.from_snr([[0.0, value], [0.0, 0.0]], RADIO)


def test_one_snr_for_all_links_needs_the_number_of_nodes() -> None:
    with pytest.raises(InvalidInputError, match="nodes is None"):
        Links.from_snr(10.0, RADIO)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (3, 3), (2, 2, 3)])
def test_snr_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="shape of snr_db"):
        Links.from_snr(np.zeros(shape), RADIO, nodes=2)


def test_snr_of_an_item_is_the_band_mean_of_the_linear_snr() -> None:
    gain_NNM = np.ones((2, 2, 2))
    gain_NNM[0, 1] = [1.0, 199.0]  # the mean of the dB values would be 11.5 dB
    snr_db_TE = Links.from_gain(gain_NNM, RADIO).snr_db([0, 1])
    np.testing.assert_allclose(snr_db_TE, [[30.0, 20.0], [0.0, 30.0]])


def test_an_expert_at_the_items_own_node_has_30_db_wherever_it_is_placed() -> None:
    links = Links.from_snr(-20.0, RADIO, nodes=3)
    snr_db_TE = links.snr_db([2, 0], node=[2, 2, 0, 1])
    np.testing.assert_allclose(snr_db_TE, [[30.0, 30.0, -20.0, -20.0], [-20.0, -20.0, 30.0, -20.0]])


def test_snr_of_a_link_without_gain_is_minus_infinity() -> None:
    assert Links.from_snr(-np.inf, RADIO, nodes=2).snr_db([0])[0, 1] == -np.inf


@pytest.mark.parametrize(("name", "arguments"), [("source_T", ([0, 2],)), ("node", ([0], [1, -1]))])
def test_a_node_that_does_not_exist_is_named(name: str, arguments: tuple[list[int], ...]) -> None:
    with pytest.raises(InvalidInputError, match=rf"{name}\[1\] is .*; expected an integer from 0 to 1"):
        Links.from_snr(0.0, RADIO, nodes=2).snr_db(*arguments)


def test_nodes_are_integers() -> None:
    with pytest.raises(InvalidInputError, match="source_T is 'float64'; expected an array of integers"):
        Links.from_snr(0.0, RADIO, nodes=2).snr_db([0.0])


def test_without_an_observation_links_are_seen_as_they_are() -> None:
    links = Links.from_snr(0.0, RADIO, nodes=2)
    assert links.observed is links


def test_gates_and_policies_see_the_observation_and_carriers_the_truth() -> None:
    truth, seen = Links.from_snr(0.0, RADIO, nodes=2), Links.from_snr(9.0, RADIO, nodes=2)
    links = truth.with_observed(seen)
    assert links.observed is seen
    np.testing.assert_array_equal(links.gain_NNM, truth.gain_NNM)
    assert truth.observed is truth


def test_an_observation_of_other_links_is_refused() -> None:
    links = Links.from_snr(0.0, RADIO, nodes=2)
    with pytest.raises(InvalidInputError, match=r"observed\.gain_NNM"):
        links.with_observed(Links.from_snr(0.0, RADIO, nodes=3))


def test_a_bit_is_priced_on_the_subcarrier_of_its_link() -> None:
    gain_NNM = np.ones((3, 3, 2))
    gain_NNM[0, 1] = [1.0, 3.0]
    gain_NNM[1, 0] = [7.0, 0.0]
    gain_NNM[0, 2] = [0.0, 15.0]
    subcarrier_NN = [[-1, 1, 0], [0, -1, -1], [0, 1, -1]]
    energy_NN = Links.from_gain(gain_NNM, RADIO).energy_per_bit_j(subcarrier_NN)
    # SNRs 3 and 7 carry 2 and 3 Mbit/s for 1 W; link 0 -> 2 has no gain there, link 1 -> 2 no subcarrier.
    np.testing.assert_allclose(
        energy_NN, [[0.0, 1e-6 / 2, np.inf], [1e-6 / 3, 0.0, np.inf], [1e-6, 1e-6, 0.0]], rtol=1e-14
    )


@pytest.mark.parametrize(
    ("subcarrier_NN", "named"),
    [([[-1, 2], [0, -1]], r"subcarrier_NN\[0, 1\] is 2"), ([[-1, 0]], "shape of subcarrier_NN")],
)
def test_subcarriers_that_do_not_exist_are_refused(subcarrier_NN: list[list[int]], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Links.from_snr(0.0, RADIO, nodes=2).energy_per_bit_j(subcarrier_NN)
