"""Stage 2: a client trains its own expert on the features of its own data. Nothing leaves the client.

Shape suffixes: T items, F features.
"""

import torch
from torch import Tensor
from torch.nn import functional

from airmoe.errors import TrainingDivergedError
from airmoe.networked.config import ExpertSettings
from airmoe.nn import MlpExpert
from airmoe.randomness import stream
from airmoe.seeding import torch_seeded


def train_expert(
    features_TF: Tensor,
    labels_T: Tensor,
    classes: int,
    hidden: int,
    settings: ExpertSettings,
    seed: int,
    client: int,
) -> MlpExpert:
    """Return an expert trained with label-smoothed cross-entropy.

    An expert knows only its client's classes. Smoothing keeps it from over-confidence on the others, which
    would spoil a mixture of more than one expert per item.

    Args:
        features_TF: float32, the fixed extractor's features of the client's images.
        labels_T: int64, their classes.
        classes: number of all classes.
        hidden: width of the hidden layer.
        settings: of the stage.
        seed: the run's seed.
        client: the client's number.

    Raises:
        TrainingDivergedError: a weight is not finite.
    """
    with torch_seeded(seed, "expert weights", client):
        expert = MlpExpert(features_TF.shape[1], classes, hidden)
    optimiser = torch.optim.SGD(
        expert.parameters(), lr=settings.learning_rate, momentum=settings.momentum, foreach=True
    )
    random = stream(seed, "expert batches", client)
    for _ in range(settings.epochs):
        for batch in torch.from_numpy(random.permutation(len(labels_T))).split(settings.batch_size):
            loss = functional.cross_entropy(
                expert.logits(features_TF[batch]), labels_T[batch], label_smoothing=settings.label_smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    if not all(bool(parameter.isfinite().all()) for parameter in expert.parameters()):
        raise TrainingDivergedError(f"experts: a weight of client {client}'s expert is not finite")
    return expert.eval()
