"""Stage 2 without gradients: an expert from a client's own class means and the covariance of all clients.

An expert of few classes that is trained on these alone answers to foreign images with confidence. This one
knows the discriminant of all classes: what that gives to foreign classes it does not claim for its own.

Shape suffixes: T items, F features, C classes, O own classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.federated import Message, State
from airmoe.networked.class_sums import Discriminant, packed, raw, rows_of, unpacked
from airmoe.nn.discriminant import DiscriminantExpert


def told_of(discriminant: Discriminant) -> State:
    """Return what clients need of a discriminant, float32."""
    told = {
        "mean": discriminant.mean_F,
        "std": discriminant.std_F,
        "precision": packed(discriminant.precision_FF),
        "means": discriminant.class_mean_CF,
        "weight": discriminant.weight_CF,
        "bias": discriminant.bias_C,
        "share": discriminant.share_C,
    }
    return {name: tensor.float() for name, tensor in told.items()}


class SumExpertClient:
    """A client that makes its expert of what it is told and its own class means.

    Its state are the buffers of its expert. It replies with no tensor.

    Args:
        features_by: the extractor's weights to the features (T, F) of its images; called with none.
        labels_T: int64, their classes.
        mirrored: as of `airmoe.networked.class_sums.ClassSumsClient`.
        prior_images: so many images does the mean of all clients count for in the mean of a class.
        new_expert: makes an expert.
        adopt: is given its weights.
    """

    def __init__(
        self,
        features_by: Callable[[State], Tensor],
        labels_T: Tensor,
        mirrored: Callable[[], Tensor] | None,
        prior_images: float,
        new_expert: Callable[[], DiscriminantExpert],
        adopt: Callable[[State], None],
    ) -> None:
        self._features_by, self._labels, self._mirrored = features_by, labels_T, mirrored
        self._prior = prior_images
        self._new_expert, self._adopt = new_expert, adopt

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Make the expert.

        Raises:
            InvalidInputError: a feature of the client's images is not finite.
        """
        told = {name: tensor.double() for name, tensor in message.tensors.items()}
        features_TF, labels_T = self._features_by({}), self._labels
        if self._mirrored is not None:
            features_TF, labels_T = torch.cat([features_TF, self._mirrored()]), labels_T.repeat(2)
        count_C = torch.bincount(labels_T, minlength=len(told["bias"]))
        own = count_C.nonzero().flatten()
        trust_O1 = (count_C[own] / (count_C[own] + self._prior))[:, None]
        mean_OF = torch.stack([features_TF[labels_T == label].double().mean(dim=0) for label in own.tolist()])
        if not mean_OF.isfinite().all():
            raise InvalidInputError("features of own images", "nan or infinite", "finite ones")
        mean_OF = (mean_OF - told["mean"]) / told["std"]
        precision_FF = unpacked(told["precision"], features_TF.shape[1])
        mean_OF = trust_O1 * mean_OF + (1 - trust_O1) * told["means"][own]
        weight_OF, bias_O = rows_of(mean_OF, mean_OF @ precision_FF, told["share"][own])
        weight_CF, bias_C = told["weight"].clone(), told["bias"].clone()
        weight_CF[own], bias_C[own] = weight_OF, bias_O
        expert = self._new_expert()
        weight_CF, bias_C = raw(weight_CF, bias_C, told["mean"], told["std"])
        expert.weight_CF.copy_(weight_CF)
        expert.bias_C.copy_(bias_C)
        expert.own_C.copy_(count_C > 0)
        self._adopt(expert.state_dict())
        return expert.state_dict(), Message(numbers={"samples": len(self._labels)})
