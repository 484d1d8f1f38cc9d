"""Routers from sums: each expert's owner adds up the hidden states of its own text, and that is all.

The scores of a layer are the posterior of a linear discriminant: which expert's text does this hidden state
come from? With the means m_e of the owners' hidden states and a covariance S that all share, the logit of
expert e is w_e h + b_e, w_e = S^-1 m_e and b_e = -m_e w_e / 2. Hidden states are those of the dense seed,
which all owners have: all layers take one exchange, no owner needs another's expert, no gradient is taken.

Shape suffixes: B sequences, S positions, T tokens, W width, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.errors import InvalidInputError
from airmoe.language.texts import drawn_windows
from airmoe.language.transformer import MoeTransformer
from airmoe.randomness import stream

SHRINKAGE = 0.05
"""Part of a covariance that is made a multiple of 1."""


@dataclass(frozen=True)
class HiddenSums:
    """What an owner adds up for one layer.

    Attributes:
        tokens: how many.
        sum_W: float64, of hidden states.
        gram_WW: float64, of their products.
    """

    tokens: int
    sum_W: Tensor
    gram_WW: Tensor


def hidden_sums(seed: MoeTransformer, tokens_BS: Tensor) -> list[HiddenSums]:
    """Return the sums of each layer over what its experts would be given of these bytes."""
    found = list[HiddenSums]()

    def add(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        hidden_TW = inputs[0].double()
        found.append(HiddenSums(len(hidden_TW), hidden_TW.sum(dim=0), hidden_TW.T @ hidden_TW))

    hooks = [block.moe.register_forward_pre_hook(add) for block in seed.blocks]  # type: ignore[union-attr]
    try:
        with torch.no_grad():
            seed(tokens_BS)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def fit_routers(
    model: MoeTransformer, seed: MoeTransformer, text_E: Sequence[NDArray[np.uint8]], windows: int, draw: int
) -> None:
    """Set the routers of a mixture, in place, by the sums of all owners.

    Args:
        model: the mixture.
        seed: the dense model that its experts branched off, in evaluation mode.
        text_E: the text of each expert's owner.
        windows: of its text that each owner adds up, drawn at random.
        draw: seed of the draw.

    Raises:
        InvalidInputError: not one text for each expert.
    """
    if len(text_E) != model.settings.experts:
        raise InvalidInputError(
            "texts of owners", len(text_E), f"{model.settings.experts}, one for each expert"
        )
    steps = model.settings.context
    sums_EL = [
        hidden_sums(
            seed,
            torch.from_numpy(
                drawn_windows(text, windows, steps, stream(draw, "hidden states added up", expert))
            ),
        )
        for expert, text in enumerate(text_E)
    ]
    for block, sums_E in zip(model.blocks, zip(*sums_EL, strict=True), strict=True):
        weight_EW, bias_E = discriminant(sums_E)
        linear = block.moe.gate.linear  # type: ignore[union-attr]
        with torch.no_grad():
            linear.weight.copy_(weight_EW)  # type: ignore[union-attr, operator]
            linear.bias.copy_(bias_E)  # type: ignore[union-attr, operator]


def discriminant(sums_E: Sequence[HiddenSums]) -> tuple[Tensor, Tensor]:
    """Return the weights (E, W) and biases (E,), float64, of the posterior; owners are equally probable."""
    mean_EW = torch.stack([each.sum_W / each.tokens for each in sums_E])
    tokens = sum(each.tokens for each in sums_E)
    within_WW = torch.stack([each.gram_WW for each in sums_E]).sum(dim=0) / tokens
    for each, mean_W in zip(sums_E, mean_EW, strict=True):
        within_WW = within_WW - each.tokens / tokens * torch.outer(mean_W, mean_W)
    floor = within_WW.diagonal().mean() * torch.eye(len(within_WW), dtype=within_WW.dtype)
    weight_EW = torch.linalg.solve((1 - SHRINKAGE) * within_WW + SHRINKAGE * floor, mean_EW.T).T
    return weight_EW, -(weight_EW * mean_EW).sum(dim=1) / 2
