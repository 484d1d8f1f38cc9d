"""The noise of analog transmission, without PyTorch: the same law as `airmoe.radio.Analog`.

Shape suffixes: P payloads, one per (item, expert) pair that is transmitted.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import real_array, refuse_shape, refuse_where

SMALLEST_NORM = 1e-8
LOWEST_SNR_DB = -40.0
"""A link without gain delivers noise alone; the noise must stay finite."""


def receive_analog(
    payload_P: NDArray[np.float32], snr_db_P: ArrayLike, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return payloads as receivers get them when values are sent uncoded, two to a complex symbol.

    The sender scales a payload to unit power per real dimension, s = sqrt(d) u / (||u|| + 1e-8). The link
    adds n ~ N(0, 10^(-snr_db/10)) to every value. The norm arrives free of errors, and the receiver undoes
    the scaling. At 0 dB the noise is as strong as the payload; at inf nothing changes.

    Args:
        payload_P: float32, first axis P, any trailing shape.
        snr_db_P: dB, of each payload's link; -inf and anything below -40 count as -40.
        random: the generator that draws the noise.

    Returns:
        float32, shaped as ``payload_P``.

    Raises:
        InvalidInputError: an SNR is NaN, or there is not one SNR for each payload.
    """
    snr_db_P = real_array("snr_db_P", snr_db_P)
    refuse_shape("snr_db_P", snr_db_P, (len(payload_P),), "(P,)")
    refuse_where("snr_db_P", snr_db_P, np.isnan(snr_db_P), "a number of dB, -inf or inf")
    # Scaling, adding noise and undoing the scaling equals adding noise of the right power.
    values = math.prod(payload_P.shape[1:])
    norm_P = np.linalg.norm(payload_P.reshape(-1, values).astype(np.float64), axis=1) + SMALLEST_NORM
    amplitude_P = 10.0 ** (-np.maximum(snr_db_P, LOWEST_SNR_DB) / 20)
    noise_rms_P = (norm_P / math.sqrt(values) * amplitude_P).astype(np.float32)
    noise_P = random.standard_normal(payload_P.shape, np.float32)
    received_P: NDArray[np.float32] = (
        payload_P + noise_rms_P.reshape(-1, *[1] * (payload_P.ndim - 1)) * noise_P
    )
    return received_P
