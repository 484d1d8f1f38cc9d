"""Snapshots of a network in consecutive slots, drawn by an SNR process.

Shape suffixes: N nodes, S slots, L directed links.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import integer_at_least
from airmoe.links.observation import LinkSnr
from airmoe.links.processes import SnrProcess
from airmoe.links.radio import Ofdma
from airmoe.links.snapshot import OWN_NODE_SNR_DB, Links


def link_sequence(
    process: SnrProcess,
    nodes: int,
    radio: Ofdma,
    slots: int,
    random: np.random.Generator,
    *,
    delay_slots: int = 0,
    error_db: float = 0.0,
) -> list[Links]:
    """Return the links between all nodes in consecutive slots; all subcarriers of a link have the same SNR.

    Gates and policies see `Links.observed`: the links of `delay_slots` slots before, with an error of
    `error_db`. Without delay and error they see the truth. Link i -> j is the process's link number
    i (N - 1) + j, less one for j > i.

    Args:
        process: draws the SNR of the links; the two directions between nodes are two links.
        nodes: N >= 2.
        radio: the radio that uses the links.
        slots: S >= 0.
        random: the generator that the process and the errors draw from.
        delay_slots: age of the observation (outdated CSI), >= 0.
        error_db: standard deviation of the observation's error, dB (noisy CSI), 0 to 100.

    Raises:
        InvalidInputError: a number is out of range, or the process gives more dB than a link can have.

    Examples:
        >>> import numpy as np
        >>> from airmoe.links import Ofdma, OneBadSnr, link_sequence
        >>> random = np.random.default_rng(0)
        >>> slots = link_sequence(OneBadSnr(-10, 20), 2, Ofdma(subcarriers=4), slots=3, random=random)
        >>> slots[0].snr_db([0, 1]).round().tolist()
        [[30.0, -10.0], [20.0, 30.0]]
    """
    nodes = integer_at_least("nodes", nodes, 2)
    snr = LinkSnr.drawn(
        process, slots, nodes * (nodes - 1), random, delay_slots=delay_slots, error_db=error_db
    )
    truth = [_between(nodes, snr_db_L, radio) for snr_db_L in snr.true_db_TE]
    if not delay_slots and not error_db:
        return truth
    observed = [_between(nodes, snr_db_L, radio) for snr_db_L in snr.observed_db_TE]
    return [links.with_observed(seen) for links, seen in zip(truth, observed, strict=True)]


def _between(nodes: int, snr_db_L: NDArray[np.float64], radio: Ofdma) -> Links:
    snr_db_NN = np.full((nodes, nodes), OWN_NODE_SNR_DB)
    snr_db_NN[~np.eye(nodes, dtype=np.bool_)] = snr_db_L
    return Links.from_snr(snr_db_NN, radio)
