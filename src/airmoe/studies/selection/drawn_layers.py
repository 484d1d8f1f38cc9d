"""Random layers: gate scores, tokens on nodes, links and computation. Every method gets the same ones.

Shape suffixes: T tokens, E experts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airmoe.links import Links, MultipathFading, Ofdma, RayleighFading
from airmoe.randomness import stream
from airmoe.scheduling import Plan, schedule_layer
from airmoe.studies.selection.settings import LayerSettings, ScheduleSettings


@dataclass(frozen=True, eq=False)
class DrawnLayer:
    """One MoE layer in one slot.

    Attributes:
        scores_TE: gate scores, a row sums to 1.
        source_T: the node of each token.
        links: the links in this slot.
        compute_j_E: J that each expert spends on a token.
    """

    scores_TE: NDArray[np.float64]
    source_T: NDArray[np.int64]
    links: Links
    compute_j_E: NDArray[np.float64]


def draw_layer(settings: LayerSettings, seed: int, slot: int) -> DrawnLayer:
    """Return the layer of a slot; it depends on the settings, the seed and the slot alone.

    The gate's noise does not depend on the number of subcarriers, nor the links on the number of tokens.
    """
    noise = stream(seed, "selection study tokens", slot)
    logits_TE = noise.normal(0.0, settings.gate_std, (settings.tokens, settings.nodes))
    scores_TE = np.exp(logits_TE - logits_TE.max(axis=1, keepdims=True))
    scores_TE /= scores_TE.sum(axis=1, keepdims=True)
    radio = Ofdma(subcarriers=settings.subcarriers)
    fading: RayleighFading | MultipathFading
    if settings.fading == "multipath":
        fading = MultipathFading(settings.nodes, radio, settings.taps, settings.mean_snr_db, seed)
    else:
        fading = RayleighFading(settings.nodes, radio, settings.mean_snr_db, seed)
    return DrawnLayer(
        scores_TE=scores_TE,
        source_T=noise.integers(0, settings.nodes, settings.tokens),
        links=fading.at(slot),
        compute_j_E=stream(seed, "selection study computation").uniform(*settings.compute_j, settings.nodes),
    )


def schedule(layer: DrawnLayer, settings: ScheduleSettings, seed: int) -> Plan:
    """Return the joint schedule of a layer."""
    return schedule_layer(
        layer.scores_TE,
        layer.source_T,
        layer.links.gain_NNM,
        layer.links.radio,
        threshold=settings.threshold,
        max_experts=settings.max_experts,
        token_bits=settings.token_bits,
        compute_j_per_token=layer.compute_j_E,
        bound=settings.bound,
        restarts=settings.restarts,
        seed=seed,
    )
