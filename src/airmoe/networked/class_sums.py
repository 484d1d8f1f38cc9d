"""Sums of features over all clients, by class, and the linear discriminant that they make.

The result is that of all images in one place, to rounding, whatever the split, and a client that leaves can
be subtracted. The sums are not private: see docs/operate/privacy.md.

Shape suffixes: T items, F features, C classes, N clients, V the F (F + 1) / 2 values of a symmetric matrix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.federated import Message, State, Summing
from airmoe.networked.moments import SMALLEST_STD

IN_CLASS = "images of class "
"""Names the number of a client's images of each class, in the numbers of its reply."""


NEVER = -1e30
"""The constant of a class that has no image: below any score."""

SMALLEST_VARIANCE = 1e-6
"""Of standardised features within classes, on average: below it images of a class are all the same."""


ROWS_AT_ONCE = 512
"""Rows of a Gram matrix that are computed together."""


def packed_gram(features_TF: Tensor) -> Tensor:
    """Return the upper triangle of features^T features (V,), of which the lower one is never computed."""
    features = features_TF.shape[1]
    rows = list[Tensor]()
    for begin in range(0, features, ROWS_AT_ONCE):
        rows_RF = features_TF[:, begin : begin + ROWS_AT_ONCE].T @ features_TF[:, begin:]
        rows += [row[number:] for number, row in enumerate(rows_RF)]
    return torch.cat(rows)


def packed(symmetric_FF: Tensor) -> Tensor:
    """Return the upper triangle of a symmetric matrix, row by row (V,)."""
    return torch.cat([symmetric_FF[row, row:] for row in range(len(symmetric_FF))])


def unpacked(upper_V: Tensor, features: int) -> Tensor:
    """Return the symmetric matrix (F, F) of an upper triangle."""
    if upper_V.shape != (features * (features + 1) // 2,):
        expected = f"({features * (features + 1) // 2},), an upper triangle of {features} features"
        raise InvalidInputError("shape of a packed matrix", tuple(upper_V.shape), expected)
    symmetric_FF = upper_V.new_empty(features, features)
    begin = 0
    for row in range(features):
        values = upper_V[begin : begin + features - row]
        symmetric_FF[row, row:] = values
        symmetric_FF[row:, row] = values
        begin += features - row
    return symmetric_FF


def class_sums(features_TF: Tensor, labels_T: Tensor, classes: int) -> dict[str, Tensor]:
    """Return ``sums`` of features by class (C, F) and their ``gram`` matrix, packed; float64."""
    features_TF = features_TF.double()
    sums_CF = torch.zeros(classes, features_TF.shape[1], dtype=torch.float64)
    sums_CF.index_add_(0, labels_T, features_TF)
    return {"sums": sums_CF, "gram": packed_gram(features_TF)}


class ClassSumsClient:
    """A client that sends the sums of its features.

    Args:
        features_by: the extractor's weights to the features (T, F) of its images; see `ExpertClient`.
        labels_T: int64, their classes.
        classes: number of all classes.
        mirrored: returns the features of its images mirrored, which are added, too; None for none.
    """

    def __init__(
        self,
        features_by: Callable[[State], Tensor],
        labels_T: Tensor,
        classes: int,
        mirrored: Callable[[], Tensor] | None = None,
    ) -> None:
        self._features_by, self._labels, self._classes = features_by, labels_T, classes
        self._mirrored = mirrored

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Send them, and in the open how many images of each class there are."""
        features_TF = self._features_by(message.tensors)
        times = 1 if self._mirrored is None else 2
        counts_C = torch.bincount(self._labels, minlength=self._classes).tolist()
        numbers = {
            IN_CLASS + str(label): float(times * count) for label, count in enumerate(counts_C) if count
        }
        sums = class_sums(features_TF, self._labels, self._classes)
        if self._mirrored is not None:
            of_mirrored = class_sums(self._mirrored(), self._labels, self._classes)
            sums = {name: tensor.add_(of_mirrored[name]) for name, tensor in sums.items()}
        return state, Message(sums, {"samples": len(self._labels), **numbers})


@dataclass(frozen=True)
class ClassSums(Summing):
    """The server's side: its state becomes the ``sums``, the ``gram`` and ``counts`` (N, C), float64.

    Args:
        classes: C.
    """

    classes: int = field(kw_only=True)

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Keep the sums, and who holds how many images of which class."""
        counts_NC = torch.zeros(self.clients, self.classes, dtype=torch.float64)
        for client, reply in replies.items():
            for label in range(self.classes):
                counts_NC[client, label] = reply.numbers.get(IN_CLASS + str(label), 0.0)
        return {**total, "counts": counts_NC}, {}


@dataclass(frozen=True)
class Discriminant:
    """A linear discriminant of standardised features.

    Args:
        mean_F: of all features; ``std_F`` their standard deviation.
        precision_FF: inverse of the shrunk covariance within classes.
        class_mean_CF: of standardised features.
        counts_NC: how many images of each class every client has.
        weight_CF: of the discriminant; ``bias_C`` its constants.
    """

    mean_F: Tensor
    std_F: Tensor
    precision_FF: Tensor
    class_mean_CF: Tensor
    counts_NC: Tensor
    weight_CF: Tensor
    bias_C: Tensor

    @staticmethod
    def fit(sums: State, shrinkage: float) -> "Discriminant":
        """Return the discriminant of all clients' sums.

        Args:
            sums: the state of `ClassSums`.
            shrinkage: s; the covariance is (1 - s) S + s trace(S) / F I.

        Raises:
            InvalidInputError: images of a class are all the same, or the covariance has no inverse.
        """
        counts_C, sums_CF = sums["counts"].sum(dim=0), sums["sums"]
        images, features = counts_C.sum(), sums_CF.shape[1]
        mean_F = sums_CF.sum(dim=0) / images
        covariance_FF = unpacked(sums["gram"], features)
        std_F = (covariance_FF.diagonal() / images - mean_F.square()).clamp_min(0).sqrt()
        std_F = std_F.clamp_min(SMALLEST_STD)
        class_mean_CF = sums_CF / counts_C.clamp_min(1)[:, None]
        # In place: of many features it is by far the largest thing there is.
        covariance_FF.addmm_((class_mean_CF * counts_C[:, None]).T, class_mean_CF, alpha=-1).div_(images)
        covariance_FF.div_(std_F[:, None]).div_(std_F)
        average = covariance_FF.diagonal().mean()
        if not average > SMALLEST_VARIANCE:
            expected = "images that differ within their classes: there is no covariance to invert"
            raise InvalidInputError("variance of features within classes", float(average), expected)
        covariance_FF.mul_(1 - shrinkage)
        covariance_FF.diagonal().add_(shrinkage * average)
        factor_FF, failed = torch.linalg.cholesky_ex(covariance_FF)
        if failed:
            expected = "larger: with it, the covariance of the features cannot be inverted"
            raise InvalidInputError("experts.shrinkage", shrinkage, expected)
        precision_FF = torch.cholesky_inverse(factor_FF)
        standard_CF = torch.where(counts_C[:, None] > 0, (class_mean_CF - mean_F) / std_F, 0.0)
        weight_CF, bias_C = rows_of(standard_CF, standard_CF @ precision_FF, counts_C / images)
        return Discriminant(mean_F, std_F, precision_FF, standard_CF, sums["counts"], weight_CF, bias_C)

    @property
    def share_C(self) -> Tensor:
        """Each class's share of all images."""
        counts_C = self.counts_NC.sum(dim=0)
        return counts_C / counts_C.sum()

    def of_raw_features(self) -> tuple[Tensor, Tensor]:
        """Return weights (C, F) and constants (C,) for features as they are."""
        return raw(self.weight_CF, self.bias_C, self.mean_F, self.std_F)


def rows_of(mean_CF: Tensor, weight_CF: Tensor, share_C: Tensor) -> tuple[Tensor, Tensor]:
    """Return a discriminant's weights and constants; a class without images is never chosen."""
    bias_C = -0.5 * (mean_CF * weight_CF).sum(dim=1) + share_C.log()
    return weight_CF, bias_C.masked_fill(share_C == 0, NEVER)


def raw(weight_CF: Tensor, bias_C: Tensor, mean_F: Tensor, std_F: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights and constants for features as they are, of those for standardised ones."""
    scaled_CF = weight_CF / std_F
    return scaled_CF, bias_C - scaled_CF @ mean_F
