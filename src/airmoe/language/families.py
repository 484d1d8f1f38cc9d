"""Families of Hugging Face mixtures: how a router's logits become scores, and what experts weigh.

Shape suffixes: T tokens, E experts, G groups of experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airmoe.errors import InvalidInputError


@dataclass(frozen=True)
class Routed:
    """What a router says of a batch.

    Attributes:
        scores_TE: float32, what the family chooses by, >= 0; -inf became 0 where it rules experts out.
        weigh: bool (T, E) of chosen experts to their weights (T, E), 0 elsewhere.
    """

    scores_TE: Tensor
    weigh: Callable[[Tensor], Tensor]


Route = Callable[[Any, Tensor], Routed]
"""(router module, its logits (T, E)) to what it says."""


def softmax_renormalised(router: Any, logits_TE: Tensor) -> Routed:
    """Mixtral, GraniteMoE; Qwen2-MoE, Qwen3-MoE, OLMoE where ``norm_topk_prob``, else scores as they are.

    Scores made to sum to 1 are the softmax over the logits of the chosen, which does not underflow.
    """
    scores_TE = torch.softmax(logits_TE.float(), dim=-1)

    def weigh(chosen_TE: Tensor) -> Tensor:
        if not getattr(router, "norm_topk_prob", True):
            return scores_TE * chosen_TE
        return torch.softmax(logits_TE.float().masked_fill(~chosen_TE, -math.inf), dim=-1)

    return Routed(scores_TE, weigh)


def biased_sigmoid(router: Any, logits_TE: Tensor) -> Routed:
    """DeepSeek-V3: chosen by sigmoid and bias within the best groups, weighed by the sigmoid.

    Scores are those that decide, moved above 0 where a bias made them negative, as shares of their sum.
    """
    sigmoid_TE = logits_TE.float().sigmoid()
    biased_TE = sigmoid_TE + router.e_score_correction_bias
    grouped_TGE = biased_TE.unflatten(-1, (router.num_group, -1))
    group_TG = grouped_TGE.topk(2, dim=-1)[0].sum(dim=-1)
    best_TG = torch.zeros_like(group_TG, dtype=torch.bool)
    best_TG.scatter_(1, group_TG.topk(router.topk_group, dim=-1)[1], True)
    allowed_TE = best_TG[..., None].expand_as(grouped_TGE).flatten(1)
    lowest_T1 = biased_TE.amin(dim=-1, keepdim=True)
    above_TE = torch.where(lowest_T1 > 0, biased_TE, biased_TE - lowest_T1 + 1e-6) * allowed_TE

    def weigh(chosen_TE: Tensor) -> Tensor:
        weights_TE = sigmoid_TE * chosen_TE
        if router.norm_topk_prob:
            weights_TE = weights_TE / (weights_TE.sum(dim=-1, keepdim=True) + 1e-20)
        return weights_TE * float(router.routed_scaling_factor)

    return Routed(above_TE / above_TE.sum(dim=-1, keepdim=True), weigh)


FAMILIES: dict[str, Route] = {
    "mixtral": softmax_renormalised,
    "qwen2_moe": softmax_renormalised,
    "qwen3_moe": softmax_renormalised,
    "olmoe": softmax_renormalised,
    "granitemoe": softmax_renormalised,
    "deepseek_v3": biased_sigmoid,
}
"""Families whose routers are known, by ``model_type``."""

REFUSED = {
    "gpt_oss": "its experts have biases, and weights in another layout",
    "phimoe": "its router has a rule of its own, in which the second expert depends on the first",
    "llama4": "its router scales what goes into an expert, not what comes out",
    "longcat_flash": "some of its experts compute nothing",
}
"""Families that are known not to work, and why."""


def route_of(model: Any) -> Route:
    """Return how the routers of a model are read.

    Raises:
        InvalidInputError: the family is not known, or known not to work.
    """
    family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if family in REFUSED:
        raise InvalidInputError("family", family, f"one of {', '.join(FAMILIES)}: {REFUSED[family]}")
    if family not in FAMILIES:
        raise InvalidInputError("family", family, f"one of {', '.join(FAMILIES)}")
    return FAMILIES[family]
