"""The full digital chain: Sionna codes, maps, sends and decodes every bit.

Sionna takes seconds to load; the first transmission loads it. PyTorch's default generator of the device draws
the noise, so `torch.manual_seed` decides it.

Shape suffixes: P pairs, D values of a payload, W codewords, K bits of a codeword before coding, N bits after,
S symbols.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from airmoe.errors import require
from airmoe.radio.coding import BITS_PER_SYMBOL, BLOCK_BITS, CODE_RATE, bits_before_coding, interleaver
from airmoe.radio.quantiser import from_bits, to_bits

SNR_LIMIT_DB = 50.0
"""SNRs are clipped to [-50, 50] dB: below, float32 cannot tell symbols apart; above, no error happens."""

BITS_AT_ONCE = 2**17
"""The most bits that are decoded together; a decoder needs about a kilobyte for each."""


def transmit(level_PD: Tensor, bits: int, modulation: str, code: str, snr_db_P: Tensor) -> Tensor:
    """Return the levels that are received, uint8 (P, D); arguments as in `airmoe.radio.fast_chain.transmit`.

    Raises:
        MissingExtraError: Sionna is not installed.
    """
    noisy_P = snr_db_P < torch.inf
    sent = to_bits(level_PD[noisy_P], bits)
    payload_bits = sent.shape[1]
    whole_bits = bits_before_coding(payload_bits, code)
    whole = functional.pad(sent, (0, whole_bits - payload_bits))
    order = _orders(len(whole), whole_bits, code, whole.device)
    ordered = whole.gather(1, order)
    scrambling = torch.randint_like(ordered, 2)
    word_WK = ordered ^ scrambling
    if code == "ldpc":
        word_WK = word_WK.reshape(-1, BLOCK_BITS)
    snr_db_W = snr_db_P[noisy_P].repeat_interleave(len(word_WK) // max(len(sent), 1))
    decided = send_words(word_WK, modulation, code, snr_db_W).reshape(ordered.shape) ^ scrambling
    received = torch.empty_like(whole).scatter_(1, order, decided)
    received_PD = level_PD.clone()
    received_PD[noisy_P] = from_bits(received[:, :payload_bits], bits)
    return received_PD


def _orders(pairs: int, bits: int, code: str, device: torch.device) -> Tensor:
    """Return int64 (P, bits), the bit at each place; rotated at random before a code."""
    place_PB = torch.arange(bits, device=device).expand(pairs, bits)
    if code != "none":
        place_PB = (place_PB + torch.randint(bits, (pairs, 1), device=device)) % bits
    return interleaver(bits).to(device)[place_PB]


def send_words(word_WK: Tensor, modulation: str, code: str, snr_db_W: Tensor) -> Tensor:
    """Code, map, send and decode words; return the bits that the receiver decides on, uint8 (W, K).

    Args:
        word_WK: uint8 bits; K = 512 for "ldpc".
        modulation: "qpsk" or "16qam".
        code: "none", "conv" or "ldpc".
        snr_db_W: Es/N0 of each word's link, dB, finite or -inf.

    Raises:
        MissingExtraError: Sionna is not installed.
    """
    decided_WK = torch.empty_like(word_WK)
    words = max(1, BITS_AT_ONCE // word_WK.shape[1])
    for first in range(0, len(word_WK), words):
        some = slice(first, first + words)
        decided_WK[some] = _send(word_WK[some], modulation, code, snr_db_W[some])
    return decided_WK


def _send(word_WK: Tensor, modulation: str, code: str, snr_db_W: Tensor) -> Tensor:
    blocks = _blocks(modulation, code, str(word_WK.device))
    word_WK = word_WK.float()
    coded_WN = blocks.encoder(word_WK) if code != "none" else word_WK
    spare = -coded_WN.shape[1] % BITS_PER_SYMBOL[modulation]
    symbol_WS = blocks.mapper(functional.pad(coded_WN, (0, spare)))
    noise_W1 = torch.pow(10.0, -snr_db_W.float().clamp(-SNR_LIMIT_DB, SNR_LIMIT_DB) / 10).unsqueeze(1)
    # Half of the noise power on each of two real dimensions.
    noise_WS = torch.view_as_complex(torch.randn(*symbol_WS.shape, 2, device=word_WK.device))
    received_WS = symbol_WS + noise_WS * (noise_W1 / 2).sqrt()
    llr_WN: Tensor = blocks.demapper(received_WS, noise_W1)[:, : coded_WN.shape[1]]
    if code == "none":
        return (llr_WN > 0).to(torch.uint8)
    decided_WK: Tensor = blocks.decoder(llr_WN)
    return decided_WK.to(torch.uint8)


class _Blocks(NamedTuple):
    mapper: Any
    demapper: Any
    encoder: Any
    decoder: Any


@lru_cache(maxsize=16)
def _blocks(modulation: str, code: str, device: str) -> _Blocks:
    require("train", "sionna", by="the full digital chain")
    # Importing Sionna reseeds PyTorch's default generators; their states are restored.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        from sionna.phy.fec.conv import ConvEncoder, ViterbiDecoder
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
        from sionna.phy.mapping import Demapper, Mapper

        per_symbol = BITS_PER_SYMBOL[modulation]
        encoder = decoder = None
        if code == "conv":
            encoder = ConvEncoder(rate=CODE_RATE[code], constraint_length=7, device=device)
            decoder = ViterbiDecoder(encoder=encoder, device=device)
        elif code == "ldpc":
            coded_bits = int(BLOCK_BITS / CODE_RATE[code])
            encoder = LDPC5GEncoder(BLOCK_BITS, coded_bits, num_bits_per_symbol=per_symbol, device=device)
            decoder = LDPC5GDecoder(encoder, hard_out=True, device=device)
        # Without a code the nearest point is the most likely one.
        demapper = Demapper("maxlog" if code == "none" else "app", "qam", per_symbol, device=device)
        return _Blocks(Mapper("qam", per_symbol, device=device), demapper, encoder, decoder)
