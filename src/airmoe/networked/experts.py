"""Stage 2: a client trains its own expert on the features of its own data. The expert stays at the client.

Shape suffixes: T items, F features.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from airmoe.errors import TrainingDivergedError
from airmoe.federated import Message, State
from airmoe.networked.calibration import calibrate, held_back
from airmoe.networked.config import ExpertSettings
from airmoe.nn import MlpExpert
from airmoe.randomness import stream
from airmoe.seeding import torch_seeded


class ExpertClient:
    """A client that is told the trained extractor, and trains its expert on what that makes of its images.

    Its state are the weights of its expert. It replies with no tensor.

    Args:
        settings: of the stage.
        labels_T: int64, the classes of its images.
        seed: the run's seed.
        client: its number.
        features_by: the extractor's weights to the features (T, F) of its images.
        new_expert: makes an expert.
        adopt: is given the weights of the expert when it is trained.
    """

    def __init__(
        self,
        settings: ExpertSettings,
        labels_T: Tensor,
        seed: int,
        client: int,
        features_by: Callable[[State], Tensor],
        new_expert: Callable[[], MlpExpert],
        adopt: Callable[[State], None],
    ) -> None:
        self._settings, self._labels, self._seed, self._client = settings, labels_T, seed, client
        self._features_by, self._new_expert, self._adopt = features_by, new_expert, adopt

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Train the expert, and set its confidence by what was held back."""
        features_TF = self._features_by(message.tensors)
        with torch_seeded(self._seed, "expert weights", self._client):
            expert = self._new_expert()
        held = held_back(len(self._labels), self._settings.calibration)
        order_T = torch.from_numpy(
            stream(self._seed, "held back", self._client).permutation(len(self._labels))
        )
        apart_T, kept_T = order_T[:held], order_T[held:].sort().values
        kept_TF, kept_labels_T = features_TF[kept_T], self._labels[kept_T]
        loss = train_expert(expert, kept_TF, kept_labels_T, self._settings, self._seed, self._client)
        if held:
            calibrate(expert, features_TF[apart_T], self._labels[apart_T])
        self._adopt(expert.state_dict())
        return expert.state_dict(), Message(numbers={"samples": len(self._labels), "loss": loss})


def train_expert(
    expert: MlpExpert,
    features_TF: Tensor,
    labels_T: Tensor,
    settings: ExpertSettings,
    seed: int,
    client: int,
) -> float:
    """Train an expert in place with label-smoothed cross-entropy; return the mean loss of the last epoch.

    An expert knows only its client's classes. Smoothing keeps it from over-confidence on the others, which
    would spoil a mixture of more than one expert per item.

    Args:
        expert: the one to train; in evaluation mode afterwards.
        features_TF: float32, the fixed extractor's features of the client's images.
        labels_T: int64, their classes.
        settings: of the stage.
        seed: the run's seed.
        client: the client's number.

    Raises:
        TrainingDivergedError: a weight is not finite.
    """
    optimiser = torch.optim.SGD(
        expert.parameters(), lr=settings.learning_rate, momentum=settings.momentum, foreach=True
    )
    random = stream(seed, "expert batches", client)
    total = torch.zeros(())
    for _ in range(settings.epochs):
        total.zero_()
        for batch in torch.from_numpy(random.permutation(len(labels_T))).split(settings.batch_size):
            loss = functional.cross_entropy(
                expert.logits(features_TF[batch]), labels_T[batch], label_smoothing=settings.label_smoothing
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(batch)
    if not all(bool(parameter.isfinite().all()) for parameter in expert.parameters()):
        raise TrainingDivergedError(f"experts: a weight of client {client}'s expert is not finite")
    expert.eval()
    return float(total) / len(labels_T)
