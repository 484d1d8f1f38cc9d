"""The full chain: known error rates, and the fast chain held against it."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from airmoe.errors import MissingExtraError
from airmoe.radio import Digital, error_rates, fast_chain, sionna_chain
from airmoe.radio.quantiser import to_bits
from airmoe.radio.sionna_chain import send_words
from tests.radio.received_digits import compare, expert_and_digits, receive

WITHIN_99 = 2.58


def wrong_words(words: int, bits: int, modulation: str, code: str, snr_db: float) -> Tensor:
    """Which bits of random words are decided wrongly, (W, K)."""
    torch.manual_seed(0)
    word_WK = torch.randint(2, (words, bits), dtype=torch.uint8)
    return send_words(word_WK, modulation, code, torch.full((words,), snr_db)) != word_WK


def interval(wrong_WK: Tensor) -> tuple[float, float]:
    """Bit-error rate and 99 % half width; errors of a word come together, so words are what is counted."""
    rate_W = wrong_WK.double().mean(dim=1)
    return rate_W.mean().item(), WITHIN_99 * rate_W.std().item() / math.sqrt(len(rate_W))


# Known error rates


@pytest.mark.parametrize(("snr_db", "rate"), [(0, 0.1587), (5, 0.0377), (10, 0.00078)])
def test_qpsk_errs_at_q_of_the_root_of_the_snr(snr_db: float, rate: float) -> None:
    found, half_width = interval(wrong_words(400, 1000, "qpsk", "none", snr_db))
    assert found == pytest.approx(rate, abs=half_width)


@pytest.mark.parametrize("snr_db", [-3.0, 3.0, 8.0, 14.0])
def test_sixteen_qam_errs_as_the_closed_form_says(snr_db: float) -> None:
    """Each of the four bits of a symbol at the rate of its class."""
    class_WSB = wrong_words(400, 1000, "16qam", "none", snr_db).view(400, 250, 2, 2)
    rates = error_rates.uncoded(torch.tensor([snr_db]), "16qam")[0]
    for of_class, rate in enumerate(rates.tolist()):
        found, half_width = interval(class_WSB[:, :, of_class].flatten(1))
        assert found == pytest.approx(rate, abs=half_width)


@pytest.mark.parametrize("level", [0, 15])
def test_the_rates_are_the_same_if_all_values_are(level: int) -> None:
    """Scrambled, they do not send one point of the constellation again and again."""
    torch.manual_seed(0)
    level_PD = torch.full((400, 100), level, dtype=torch.uint8)
    received_PD = sionna_chain.transmit(level_PD, 4, "16qam", "none", torch.full((400,), 8.0))
    rate = error_rates.uncoded(torch.tensor([8.0]), "16qam").mean().item()
    found, half_width = interval(to_bits(level_PD ^ received_PD, 4))
    assert found == pytest.approx(rate, abs=half_width)


@pytest.mark.parametrize(
    ("code", "snr_db", "rate"),
    [
        *[("none", -1, 0.186), ("none", 0, 0.159), ("none", 3, 0.079)],
        *[("conv", -1, 0.300), ("conv", 0, 0.154), ("conv", 3, 8e-4)],
        *[("ldpc", -1, 0.222), ("ldpc", 0, 0.168), ("ldpc", 3, 0.0)],
    ],
)
def test_512_bits_in_1024_over_qpsk_err_as_known(code: str, snr_db: float, rate: float) -> None:
    wrong_WK = wrong_words(200 if code == "ldpc" else 600, 512, "qpsk", code, snr_db)
    found, half_width = interval(wrong_WK)
    rounding = 0.5e-4 if rate == 8e-4 else 0.5e-3
    assert found == pytest.approx(rate, abs=half_width + rounding)
    torch.manual_seed(0)
    levels_PD = torch.zeros(600, 512, dtype=torch.uint8)
    flipped_PD = fast_chain.transmit(levels_PD, 1, "qpsk", code, torch.full((600,), float(snr_db)))
    by_fast, fast_half_width = interval(flipped_PD)
    assert by_fast == pytest.approx(found, abs=math.hypot(half_width, fast_half_width) + 1e-9)


def test_the_longer_a_convolutional_codeword_the_less_its_ends_matter() -> None:
    """At 3 dB most errors are in the last bits: 1,500 bits err at half the rate of 250, in both chains."""
    rate = {}
    for bits, words in ((250, 1500), (1500, 250)):
        rate[bits], half_width = interval(wrong_words(words, bits, "qpsk", "conv", 3.0))
        table = error_rates.convolutional("qpsk", bits).bit(torch.tensor([3.0])).item()
        assert table == pytest.approx(rate[bits], abs=half_width)
    assert rate[1500] < 0.6 * rate[250]


@pytest.mark.parametrize("code", ["none", "conv", "ldpc"])
def test_nothing_is_wrong_at_the_highest_snr_and_half_at_the_lowest(code: str) -> None:
    for snr_db, rate in ((300.0, 0.0), (-torch.inf, 0.5)):
        wrong_WK = wrong_words(40, 512, "16qam", code, snr_db)
        assert wrong_WK.double().mean().item() == pytest.approx(rate, abs=0.02)


# Payloads


@pytest.mark.parametrize("code", ["none", "conv", "ldpc"])
@pytest.mark.parametrize(("values", "bits"), [(37, 3), (130, 8), (5, 1)])
def test_every_level_finds_its_way_back(code: str, values: int, bits: int) -> None:
    """Through interleaver, blocks, filling and a last symbol that is not full."""
    torch.manual_seed(0)
    level_PD = torch.randint(2**bits, (4, values)).to(torch.uint8)
    snr_db_P = torch.tensor([40.0, torch.inf, 60.0, -20.0])
    received_PD = sionna_chain.transmit(level_PD, bits, "16qam", code, snr_db_P)
    assert torch.equal(received_PD[:3], level_PD[:3])
    assert not torch.equal(received_PD[3], level_PD[3])


def test_words_are_decoded_alike_in_one_batch_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sionna_chain, "BITS_AT_ONCE", 512 * 7)
    wrong_WK = wrong_words(40, 512, "qpsk", "conv", 20.0)
    assert wrong_WK.shape == (40, 512)
    assert not wrong_WK.any()


@pytest.mark.parametrize(("code", "snr_db"), [("ldpc", -2.0), ("conv", 2.0)])
def test_errors_fall_on_all_bits_of_a_payload_alike(code: str, snr_db: float) -> None:
    """As coded, the first LDPC bits and the last convolutional ones err more often than the others."""
    torch.manual_seed(0)
    level_PD = torch.randint(16, (300, 32)).to(torch.uint8)
    received_PD = sionna_chain.transmit(level_PD, 4, "qpsk", code, torch.full((300,), snr_db))
    rate_B = to_bits(level_PD ^ received_PD, 4).double().mean(dim=0)
    expected = rate_B.mean().item()
    # Wrong bits of a payload come together, which leaves the rates of single bits independent.
    assert rate_B.std().item() == pytest.approx(math.sqrt(expected * (1 - expected) / 300), rel=0.25)


@pytest.mark.parametrize("code", ["none", "conv", "ldpc"])
def test_the_seed_of_torch_decides_the_noise(code: str) -> None:
    payload_P = torch.randn(3, 64, generator=torch.Generator().manual_seed(5))
    digital = Digital(4, "qpsk", code, "full")
    first, again, other = (
        (torch.manual_seed(seed), digital(payload_P, torch.full((3,), -2.0)))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sionna_is_loaded_when_needed_and_leaves_the_seed_alone() -> None:
    """Loading it reseeds PyTorch at random: without care the first transmission would differ each time."""
    script = """
import sys, torch
from airmoe.radio import Digital
payload_P, snr_db_P = torch.ones(2, 8).cumsum(1), torch.zeros(2)
Digital(4, code="ldpc")(payload_P, snr_db_P)
assert "sionna" not in sys.modules
def send():
    torch.manual_seed(3)
    return Digital(4, chain="full")(payload_P, snr_db_P)
first, again = send(), send()
assert "sionna" in sys.modules
assert torch.equal(first, again)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=500)


def test_without_sionna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sionna_chain._blocks.cache_clear()
    monkeypatch.setitem(sys.modules, "sionna", None)
    with pytest.raises(MissingExtraError, match=r"\[train\]"):
        Digital(4, chain="full")(torch.randn(2, 4), torch.zeros(2))


# Fast against full


@pytest.mark.parametrize(
    ("digital", "snr_db"),
    [
        (Digital(4, "16qam", "none"), 8.0),
        (Digital(4, "qpsk", "conv"), 1.0),
        pytest.param(Digital(8, "qpsk", "ldpc"), 1.5, marks=pytest.mark.long),
    ],
    ids=lambda value: getattr(value, "name", f"{value} dB"),
)
def test_the_chains_agree_in_error_and_in_what_an_expert_makes_of_it(digital: Digital, snr_db: float) -> None:
    """Nine comparisons, so each within its 99 % interval; `test_chains_agree` makes many within 95 %."""
    measures = compare(digital, snr_db)
    assert abs(measures["error_T"].deviations) < WITHIN_99
    assert abs(measures["correct_T"].deviations) < WITHIN_99
    assert abs(measures["failed_T"].deviations) < WITHIN_99
    if digital.code == "ldpc":  # 64 values of 8 bits: one block
        assert 0.05 < measures["failed_T"].full < 0.12


def test_a_good_link_leaves_the_expert_as_good_as_it_was() -> None:
    expert, features_TF, label_T = expert_and_digits()
    accuracy = (expert(features_TF).argmax(dim=1) == label_T).double().mean().item()
    assert accuracy > 0.95
    received, _ = receive(Digital(8, "qpsk", "conv"), 8.0, 1)
    assert received.correct_T.mean().item() == pytest.approx(accuracy, abs=0.005)
