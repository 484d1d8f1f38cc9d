"""What analog transmission does to a payload: the law of ``airmoe.nn.Analog``, without PyTorch.

Shape suffixes: P payloads, one per (item, expert) pair that is transmitted.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import real_array, refuse_shape, refuse_where

SMALLEST_NORM = 1e-8
LOWEST_SNR_DB = -40.0
"""A link without gain brings noise alone, and noise has to stay a number."""


def receive_analog(
    payload_P: NDArray[np.float32], snr_db_P: ArrayLike, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return what receivers get of payloads that were sent as they are, two values to a complex symbol.

    A payload is scaled to unit power per real dimension, s = sqrt(d) u / (||u|| + 1e-8), and received as
    s + n with n ~ N(0, 10^(-snr_db/10)) per value. Its norm arrives free of errors, and the receiver undoes
    the scaling: noise is as strong as the payload itself at 0 dB, and nothing changes at inf.

    Args:
        payload_P: float32, first axis P, any trailing shape.
        snr_db_P: dB, of each payload's link; what is below -40, or -inf for no gain, counts as -40.
        random: where noise is drawn from.

    Returns:
        float32, shaped as ``payload_P``.

    Raises:
        InvalidInputError: an SNR that is NaN, or not one for each payload.
    """
    snr_db_P = real_array("snr_db_P", snr_db_P)
    refuse_shape("snr_db_P", snr_db_P, (len(payload_P),), "(P,)")
    refuse_where("snr_db_P", snr_db_P, np.isnan(snr_db_P), "a number of dB, -inf or inf")
    # Noise of the right power is added to the payload as it is: the same as to scale, add and undo.
    values = math.prod(payload_P.shape[1:])
    norm_P = np.linalg.norm(payload_P.reshape(-1, values).astype(np.float64), axis=1) + SMALLEST_NORM
    amplitude_P = 10.0 ** (-np.maximum(snr_db_P, LOWEST_SNR_DB) / 20)
    noise_rms_P = (norm_P / math.sqrt(values) * amplitude_P).astype(np.float32)
    noise_P = random.standard_normal(payload_P.shape, np.float32)
    received_P: NDArray[np.float32] = (
        payload_P + noise_rms_P.reshape(-1, *[1] * (payload_P.ndim - 1)) * noise_P
    )
    return received_P
