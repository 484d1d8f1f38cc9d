"""The loss that teaches a gate and experts together, also with one expert per item.

Shape suffixes: T items, E experts, C classes.
"""

from typing import NamedTuple

from torch import Tensor

from airmoe.nn import MoeOutput, balance_loss

SMALLEST_PROBABILITY = 1e-12


class RoutingLoss(NamedTuple):
    """``total`` is minimised; ``nll`` is the batch mean of -log of the true class's probability."""

    total: Tensor
    nll: Tensor


def routing_loss(output: MoeOutput, labels_T: Tensor, balance: float, *, one_expert: bool) -> RoutingLoss:
    """Return the loss of a batch whose experts answer with probabilities.

    With p the mixture's probability of the true class under weights that sum to 1, the loss is

        -log p + balance (CV^2(batch mean of the weights) + CV^2(batch mean of the load)).

    Only a noisy gate has a load. With one expert j per item, p does not depend on the gate. The gate then
    learns from a second term (ours), in which p is held fixed:

        -log(G_j p + (1 - G_j) b),  b the batch mean of p.

    A choice that is better than the average choice becomes likelier, a worse one less likely. Without b, for
    example where the expert's logits are scaled with G_j, every choice that beats a blind guess becomes
    likelier, and the gate learns late what a bad link costs.

    Args:
        output: of a `MixtureOfExperts` in training mode.
        labels_T: int64, the true classes.
        balance: weight of the terms against collapse.
        one_expert: whether each item was sent to one expert only.
    """
    total_T = output.weights_TE.sum(dim=1)
    probability_T = output.y_TC.gather(1, labels_T.unsqueeze(1)).squeeze(1) / total_T
    nll = -probability_T.clamp_min(SMALLEST_PROBABILITY).log().mean()
    total = nll + balance * balance_loss(output.weights_TE)
    if output.load_TE is not None:
        total = total + balance * balance_loss(output.load_TE)
    if one_expert:
        fixed_T = probability_T.detach().clamp_min(SMALLEST_PROBABILITY)
        total = total - (total_T * fixed_T + (1 - total_T) * fixed_T.mean()).log().mean()
    return RoutingLoss(total, nll)
