"""How well the demonstration's models predict held-out texts, and what that takes over simulated links."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from airmoe.language import MoeTransformer, Texts
from airmoe.language.config import DmoeConfig
from airmoe.language.measure import bits_per_byte, questions
from airmoe.language.protocol import ask_text, faded_carriers
from airmoe.language.stages import DmoeModel
from airmoe.links import Ofdma, RayleighFading
from airmoe.progress import Progress
from airmoe.scheduling import Placement
from airmoe.studies.text_demo.results import Predicted

WINDOWS = 32
"""Windows of each domain that are predicted."""

POLICIES = ("topk:2", "jesa:0.7:2")
"""Who chooses experts over links."""


def predicted(
    config: DmoeConfig, texts: Texts, trained: DmoeModel, progress: Progress
) -> tuple[Predicted, ...]:
    """Return bits per byte of the seed, of each expert alone and of the mixture, and the mixture's joules."""
    windows = questions(texts, config.model.context, WINDOWS)
    model = trained.model
    alone = [(f"expert {expert} alone", model.alone(expert)) for expert in range(config.model.experts)]
    table = []
    for done, (name, each) in enumerate([("dense seed", trained.seed), *alone, ("mixture, top-2", model)]):
        progress("held-out texts", done, 2 + len(alone) + len(POLICIES), name)
        table.append(Predicted(name, _bits(each, windows)))
    for done, policy in enumerate(POLICIES):
        progress("held-out texts", 2 + len(alone) + done, 2 + len(alone) + len(POLICIES), policy)
        table.append(_over_links(config, model, windows, policy))
    return tuple(table)


def _bits(model: MoeTransformer, windows: list[Tensor]) -> tuple[float, ...]:
    every = [
        bits_per_byte(lambda tokens_BS: model(tokens_BS).logits_BSV, windows_WS) for windows_WS in windows
    ]
    return (*every, float(np.mean(every)))


def _over_links(config: DmoeConfig, model: MoeTransformer, windows: list[Tensor], policy: str) -> Predicted:
    """Return the figures with expert e on node e and windows that rest on the nodes in turn."""
    settings, links = config.model, config.links
    radio = Ofdma(
        subcarriers=links.subcarriers,
        subcarrier_hz=links.subcarrier_hz,
        power_w=links.power_w,
        charge_return=links.charge_return,
    )
    fading = RayleighFading(settings.experts, radio, links.mean_snr_db, config.seed)
    carriers = faded_carriers(fading.at, settings.layers)
    model.place(Placement(np.arange(settings.experts)))
    costs = [
        ask_text(model, windows_WS, policy, carriers, np.arange(len(windows_WS)) % settings.experts)
        for windows_WS in windows
    ]
    bits = [cost.bits_per_byte for cost in costs]
    joules = float(np.mean([cost.energy_j_per_token for cost in costs]))
    return Predicted(f"mixture, {policy} over links", (*bits, float(np.mean(bits))), joules)


def largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Return the largest absolute difference between two lists of tensors."""
    return max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True))
