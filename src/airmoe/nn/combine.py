"""Mix the outputs that arrived, weighted by the gate's scores.

Shape suffixes: T items, E experts, P (item, expert) pairs, C outputs.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Normalise = Literal["chosen", "none"]


def mixing_weights(scores_TE: Tensor, arrived_TE: Tensor, normalise: Normalise) -> Tensor:
    """Return (T, E): scores of what arrived, zero elsewhere.

    "chosen" makes each row sum to 1 (equal shares where the scores that arrived are all zero). "none" leaves
    the scores as they are. With one expert per item a renormalised weight would be 1 whatever the gate says,
    and the gate would learn nothing.

    Examples:
        >>> import torch
        >>> from airmoe.nn import mixing_weights
        >>> scores_TE, arrived_TE = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[False, True, True]])
        >>> mixing_weights(scores_TE, arrived_TE, "chosen").tolist()
        [[0.0, 0.5, 0.5]]
        >>> mixing_weights(scores_TE, arrived_TE, "none").tolist()
        [[0.0, 0.25, 0.25]]
    """
    weights_TE = scores_TE * arrived_TE
    if normalise == "none":
        return weights_TE
    total_T1 = weights_TE.sum(dim=-1, keepdim=True)
    equal_TE = arrived_TE.to(scores_TE.dtype) / arrived_TE.sum(dim=-1, keepdim=True)
    # Not clamp_min: a total may be smaller than the smallest normal number.
    return torch.where(total_T1 > 0, weights_TE / torch.where(total_T1 > 0, total_T1, 1.0), equal_TE)


def combine(
    weights_TE: Tensor,
    item_P: NDArray[np.int64],
    expert_P: NDArray[np.int64],
    output_PC: Tensor,
) -> Tensor:
    """Return (T, C): for each item the sum of its outputs times their weights; gradients reach both.

    Outputs may have any shape behind P, for example (P, tokens, width).

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from airmoe.nn import combine
        >>> weights_TE = torch.tensor([[0.25, 0.75]])
        >>> output_PC = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> combine(weights_TE, np.array([0, 0]), np.array([0, 1]), output_PC).tolist()
        [[0.25, 0.75]]
    """
    item = torch.from_numpy(item_P).to(output_PC.device)
    weight_P = weights_TE[item, torch.from_numpy(expert_P).to(output_PC.device)]
    weight_P1 = weight_P.reshape(-1, *[1] * (output_PC.ndim - 1))
    total_TC = output_PC.new_zeros(len(weights_TE), *output_PC.shape[1:])
    return total_TC.index_add(0, item, weight_P1 * output_PC)
