"""SNR processes of small-scale fading: a mean SNR times the power |h|^2 of a complex gain, E |h|^2 = 1.

Shape suffixes: S slots, L links.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import number_within
from airmoe.links.processes import HIGHEST_DB, LOWEST_DB, draw_shape
from airmoe.spec_text import SpecText

LEAST_POWER = 1e-30
"""A gain of zero counts as -300 dB, so that every SNR is finite."""

SINUSOIDS = 64
"""How many sinusoids `JakesSnr` adds up for each link."""


@dataclass(frozen=True)
class RayleighSnr(SpecText, rule="rayleigh"):
    """Rayleigh block fading: |h|^2 ~ Exp(1), drawn anew for every slot and link.

    snr_db = mean_db + 10 log10 |h|^2. Its text is e.g. "rayleigh:10".

    Args:
        mean_db: mean of the linear SNR, in dB.

    Raises:
        InvalidInputError: a mean outside -300 to 300 dB.
    """

    mean_db: float

    def __post_init__(self) -> None:
        number_within("mean_db", self.mean_db, LOWEST_DB, HIGHEST_DB)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`."""
        return faded_db(self.mean_db, random.standard_exponential(draw_shape(slots, links)))


@dataclass(frozen=True)
class RicianSnr(SpecText, rule="rician"):
    """Rician block fading: the direct path is K times as strong as the scattered ones; new in every slot.

    h = sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) w with w ~ CN(0, 1). |h|^2 has mean 1 and variance
    (1 + 2 K) / (1 + K)^2.

    Its text is e.g. "rician:10:5".

    Args:
        mean_db: mean of the linear SNR, in dB.
        k_db: the K factor, in dB.

    Raises:
        InvalidInputError: a mean outside -300 to 300 dB, or a K factor outside -100 to 100 dB.
    """

    mean_db: float
    k_db: float

    def __post_init__(self) -> None:
        number_within("mean_db", self.mean_db, LOWEST_DB, HIGHEST_DB)
        number_within("k_db", self.k_db, -100, 100)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`."""
        k = 10.0 ** (self.k_db / 10)
        scattered_SL = _complex_normal(draw_shape(slots, links), random)
        return faded_db(self.mean_db, _power((np.sqrt(k) + scattered_SL) / np.sqrt(k + 1)))


@dataclass(frozen=True)
class GaussMarkovSnr(SpecText, rule="gauss-markov"):
    """Rayleigh fading with memory, a Gauss-Markov process of first order.

    h_{t+1} = a h_t + sqrt(1 - a^2) w_t with w_t ~ CN(0, 1). It begins in its stationary state,
    h_0 ~ CN(0, 1). Over d slots h correlates as a^d, and |h|^2 as a^(2 d).

    Its text is e.g. "gauss-markov:10:0.9".

    Args:
        mean_db: mean of the linear SNR, in dB.
        correlation: a, from 0 (block fading) to 1 (all slots are equal).

    Raises:
        InvalidInputError: a mean outside -300 to 300 dB, or a correlation outside 0 to 1.
    """

    mean_db: float
    correlation: float

    def __post_init__(self) -> None:
        number_within("mean_db", self.mean_db, LOWEST_DB, HIGHEST_DB)
        number_within("correlation", self.correlation, 0, 1)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`."""
        shape_SL = draw_shape(slots, links)
        # Real and imaginary part of h are two independent processes of variance 1/2.
        parts = np.sqrt(0.5) * random.standard_normal((2, *shape_SL))
        real_SL, imaginary_SL = (first_order(part_SL, self.correlation) for part_SL in parts)
        return faded_db(self.mean_db, real_SL**2 + imaginary_SL**2)


@dataclass(frozen=True)
class JakesSnr(SpecText, rule="jakes"):
    """Rayleigh fading of a moving device amid scatterers all around it (Clarke, Jakes).

    Over n slots h correlates as J0(2 pi f_d T n), and |h|^2 about as its square. The model is the sum of
    sinusoids of Xiao, Zheng and Beaulieu (IEEE Trans. Wireless Commun. 5(12), 2006),
    h_t = N^(-1/2) sum_n exp(j (2 pi f_d T t cos alpha_n + phi_n)) with alpha_n = (2 pi n + theta_n) / N.
    Each link draws theta_n and phi_n uniformly from -pi to pi. Over many links the covariance of h is exact.
    The covariance and the variance of |h|^2 are low by at most 1 / N. N = 64 is ours.

    Its text is e.g. "jakes:10:0.01".

    Args:
        mean_db: mean of the linear SNR, in dB.
        doppler: f_d T, the largest Doppler shift times the length of a slot, e.g. 0.01.

    Raises:
        InvalidInputError: a mean outside -300 to 300 dB, or a Doppler shift outside 0 to 100.
    """

    mean_db: float
    doppler: float

    def __post_init__(self) -> None:
        number_within("mean_db", self.mean_db, LOWEST_DB, HIGHEST_DB)
        number_within("doppler", self.doppler, 0, 100)

    def draw(self, slots: int, links: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return (S, L), dB; see `SnrProcess.draw`."""
        shape_SL = draw_shape(slots, links)
        turn_S = 2 * np.pi * self.doppler * np.arange(slots)
        gain_SL = np.zeros(shape_SL, dtype=np.complex128)
        for wave in range(SINUSOIDS):  # one after the other, to save memory
            theta_L, phase_L = random.uniform(-np.pi, np.pi, (2, links))
            angle_L = (2 * np.pi * wave + theta_L) / SINUSOIDS
            gain_SL += np.exp(1j * (np.outer(turn_S, np.cos(angle_L)) + phase_L))
        return faded_db(self.mean_db, _power(gain_SL) / SINUSOIDS)


def faded_db(mean_db: float, power_SL: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the SNR in dB of links with a mean SNR in dB and a power gain; a gain of 0 counts as -300 dB."""
    return np.asarray(mean_db + 10 * np.log10(np.maximum(power_SL, LEAST_POWER)))


def first_order(noise_SL: NDArray[np.float64], correlation: float) -> NDArray[np.float64]:
    """Return x_0 = n_0, x_{t+1} = a x_t + sqrt(1 - a^2) n_{t+1}; x has the variance of the noise n."""
    from scipy.signal import lfilter  # importing it takes most of a second

    driving_SL = np.sqrt(1 - correlation**2) * noise_SL
    driving_SL[:1] = noise_SL[:1]
    return np.asarray(lfilter([1.0], [1.0, -correlation], driving_SL, axis=0))


def _complex_normal(shape: tuple[int, int], random: np.random.Generator) -> NDArray[np.complex128]:
    real, imaginary = np.sqrt(0.5) * random.standard_normal((2, *shape))
    return np.asarray(real + 1j * imaginary)


def _power(gain_SL: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.asarray(gain_SL.real**2 + gain_SL.imag**2)
