"""The loss that makes experts overlap: each learns from all images, most from those that the gate gives it.

Shape suffixes: T items, E experts, P (item, expert) pairs.
"""

import torch
from torch import Tensor

from airmoe.channel_aware.routing_loss import SMALLEST_PROBABILITY, RoutingLoss
from airmoe.nn import MoeOutput, balance_loss


def expected_loss(output: MoeOutput, labels_T: Tensor, balance: float, common: float) -> RoutingLoss:
    """Return the loss of a batch of which each item was sent to several experts, or to all.

    With G_j the gate's weights over the A experts that were asked about an item, and L_j = -log of what
    expert j gave the true class, the gate minimises the loss that its choice would have, and the experts
    theirs:

        sum_j G_j [L_j] + sum_j ((1 - common) [G_j] + common / A) L_j + balance CV^2(batch mean of G),

    where nothing learns from what stands in brackets. Every asked expert has a gradient of at least
    common / A. So no expert forgets the images that the gate gives to others, and each can stand in for
    another whose link is bad. After Jacobs et al. (1991), "Adaptive Mixtures of Local Experts"; the common
    share is ours.

    Args:
        output: of a `MixtureOfExperts` in training mode; each weight is G_j, and they sum to 1.
        labels_T: int64, the true classes.
        balance: weight of the terms against collapse.
        common: share of each asked expert's loss that does not depend on the gate, in [0, 1].
    """
    delivery = output.delivery
    assert delivery is not None, "the output of a mixture in training mode"
    device = labels_T.device
    item_P, expert_P = (torch.from_numpy(of).to(device) for of in (delivery.item_P, delivery.expert_P))
    probability_P = delivery.output_P.gather(1, labels_T[item_P].unsqueeze(1)).squeeze(1)
    loss_P = -probability_P.clamp_min(SMALLEST_PROBABILITY).log()
    weight_P = output.weights_TE[item_P, expert_P]
    asked_T = torch.bincount(item_P, minlength=len(labels_T))
    share_P = (1 - common) * weight_P.detach() + common / asked_T[item_P]
    total = (share_P * loss_P + weight_P * loss_P.detach()).sum() / len(labels_T)
    total = total + balance * balance_loss(output.weights_TE)
    if output.load_TE is not None:
        total = total + balance * balance_loss(output.load_TE)
    mixed_T = output.y_TC.gather(1, labels_T.unsqueeze(1)).squeeze(1)
    return RoutingLoss(total, -mixed_T.clamp_min(SMALLEST_PROBABILITY).log().mean())
