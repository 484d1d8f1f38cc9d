"""Snapshots of a network in consecutive slots.

Shape suffixes: N nodes, S slots, L directed links.
"""

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

    What gates and policies see, `Links.observed`, is that of `delay_slots` slots before, with an error of
    `error_db`; without both it is the truth. Link i -> j is the link number i (N - 1) + j of the process,
    less one for j > i.

    Args:
        process: what the links do, each direction on its own.
        nodes: N >= 2.
        radio: the radio that uses the links.
        slots: S >= 0.
        random: where draws come from.
        delay_slots: age of the observation (outdated CSI), >= 0.
        error_db: standard deviation of the observation's error in dB (noisy CSI), 0 to 100.

    Raises:
        InvalidInputError: a number out of range, or a process that gives more dB than a link can have.
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
