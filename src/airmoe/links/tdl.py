"""SNR of the tapped delay lines of 3GPP TR 38.901, from Sionna.

Shape suffixes: S slots, L links, P paths, M subcarriers.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import integer_at_least, number_within, positive_number
from airmoe.errors import InvalidInputError, require
from airmoe.links.fading_processes import faded_db
from airmoe.links.processes import HIGHEST_DB, LOWEST_DB, draw_shape
from airmoe.spec_text import SpecText

TDL_MODELS = ("A", "B", "C", "D", "E")
MOST_SUBCARRIERS = 1 << 16
MOST_AT_ONCE = 8192
"""The most slots times links that Sionna draws at once; each takes about 20 kB."""


@dataclass(frozen=True)
class TdlSnr(SpecText, rule="tdl", needed=2):
    """A tapped delay line of 3GPP TR 38.901 (clause 7.7.2), drawn by Sionna; needs the extra `airmoe[train]`.

    Path p has the delay and the mean power of the model's table, scaled to the delay spread and to a total
    power of 1. Its gain is a sum of 20 sinusoids with Clarke's Doppler spectrum; D and E have a direct path.
    A slot samples the paths' gains a_p once, and

    snr_db = mean_db + 10 log10(mean over subcarriers m of |sum_p a_p exp(-2 pi i f_m tau_p)|^2).

    A wide band averages fades out: the wider the band and the longer the delays, the steadier the SNR. The
    first draw loads Sionna, which takes seconds. Each slot and link then takes about 0.06 ms. Memory grows by
    at least 20 kB per slot. The defaults are ours.

    Its text is e.g. "tdl:A:10", or "tdl:C:10:30:3e-07" for 30 m/s and a delay spread of 300 ns.

    Args:
        model: A, B, C (no direct path), D or E (direct path).
        mean_db: mean of the linear SNR over all draws, in dB.
        speed_mps: speed of the device, m/s.
        delay_spread_s: RMS delay spread, s; the report calls 100 ns nominal.
        carrier_hz: carrier frequency, Hz, 0.5 to 100 GHz.
        slot_s: time from slot to slot, s.
        subcarriers: M, as in `Ofdma`.
        subcarrier_hz: their spacing, Hz, as in `Ofdma`.

    Raises:
        InvalidInputError: the model is none of these, or a value is out of range.
    """

    model: str = "A"
    mean_db: float = 10.0
    speed_mps: float = 1.0
    delay_spread_s: float = 100e-9
    carrier_hz: float = 3.5e9
    slot_s: float = 1e-3
    subcarriers: int = 128
    subcarrier_hz: float = 1e6

    def __post_init__(self) -> None:
        if self.model not in TDL_MODELS:
            raise InvalidInputError("model", self.model, ", ".join(TDL_MODELS))
        number_within("mean_db", self.mean_db, LOWEST_DB, HIGHEST_DB)
        number_within("speed_mps", self.speed_mps, 0, 1000)
        number_within("delay_spread_s", self.delay_spread_s, 0, 1e-3)
        number_within("carrier_hz", self.carrier_hz, 0.5e9, 100e9)
        positive_number("slot_s", self.slot_s)
        integer_at_least("subcarriers", self.subcarriers, 1)
        number_within("subcarriers", self.subcarriers, 1, MOST_SUBCARRIERS)
        number_within("subcarrier_hz", self.subcarrier_hz, 1, 1e12)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`.

        The global random states of PyTorch and Sionna stay as they were.

        Raises:
            MissingExtraError: Sionna is not installed.
        """
        shape_SL = draw_shape(slots, links)
        if slots == 0:
            return np.zeros(shape_SL)
        tdl_class, sionna_config = _sionna()
        tdl = tdl_class(
            self.model,
            float(self.delay_spread_s),
            float(self.carrier_hz),
            min_speed=float(self.speed_mps),
            precision="double",
            device="cpu",
        )
        generator = sionna_config.torch_rng("cpu")
        state = generator.get_state()
        generator.manual_seed(int(random.integers(2**63)))
        try:
            at_once = max(1, MOST_AT_ONCE // slots)
            power_SL = [
                self._band_mean(tdl, slots, min(at_once, links - first)) for first in range(0, links, at_once)
            ]
        finally:
            generator.set_state(state)
        return faded_db(self.mean_db, np.concatenate(power_SL, axis=1))

    def _band_mean(self, tdl: Any, slots: int, links: int) -> NDArray[np.float64]:
        gain, _ = tdl(links, slots, 1 / self.slot_s)
        gain_LSP = gain.numpy()[:, 0, 0, 0, 0].swapaxes(1, 2)
        return band_mean_power(gain_LSP, tdl.delays.numpy(), self.subcarriers, self.subcarrier_hz).T


def band_mean_power(
    gain_LSP: NDArray[np.complex128], delay_s_P: NDArray[np.float64], subcarriers: int, subcarrier_hz: float
) -> NDArray[np.float64]:
    """Return (L, S), the mean over M subcarriers of |sum_p a_p exp(-2 pi i f_m tau_p)|^2.

    Args:
        gain_LSP: complex, a_p.
        delay_s_P: tau_p, s.
        subcarriers: M.
        subcarrier_hz: their spacing, Hz.
    """
    frequency_M = subcarrier_hz * np.arange(subcarriers)
    response_MP = np.exp(-2j * np.pi * np.outer(frequency_M, delay_s_P))
    # The mean of |H|^2 is a quadratic form of the P gains, so no array needs both slots and subcarriers.
    form_PP = response_MP.conj().T @ response_MP / subcarriers
    return np.asarray(((gain_LSP.conj() @ form_PP) * gain_LSP).sum(axis=-1).real)


def _sionna() -> tuple[Any, Any]:
    """Return Sionna's TDL class and its configuration; the first call takes seconds."""
    require("train", "sionna", by="a TDL channel")
    # Importing Sionna reseeds PyTorch's global generators at random; their states are restored.
    loaded = sys.modules.get("torch")
    devices = range(loaded.cuda.device_count()) if loaded else ()
    with loaded.random.fork_rng(devices=devices) if loaded else nullcontext():
        from sionna.phy import config
        from sionna.phy.channel.tr38901 import TDL
    return TDL, config
