"""How good and how local the clients' answers are: the measures of the study's tables.

Every client asks about every held-out image. A pair is an image and an expert that answers it; it is local if
the expert is the client's own.

Shape suffixes: N clients, T images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from airmoe.runs.evaluation import macro_f1


@dataclass(frozen=True)
class Scores:
    """Means over clients.

    Attributes:
        macro_f1: on all held-out images, the mean F1 score over classes.
        own_f1: likewise, on the images of the client's own classes and over these classes.
        local_share: share of local pairs on all held-out images.
        own_local_share: share of local pairs on the images of the client's own classes.
    """

    macro_f1: float
    own_f1: float
    local_share: float
    own_local_share: float


def scores_of(
    answers_NT: NDArray[np.int64],
    local_NT: NDArray[np.float64],
    labels_T: NDArray[np.int64],
    holds: Sequence[Sequence[int]],
    classes: int,
) -> Scores:
    """Return the scores of answers.

    Args:
        answers_NT: the class that each client takes each image for.
        local_NT: the share of each image's pairs that is local.
        labels_T: the true classes.
        holds: for each client the classes in its data. Images of none of these leave it out of own means.
        classes: how many there are.

    Examples:
        Two clients of one class each; the second is always right, by asking the first about class 0.

        >>> import numpy as np
        >>> from airmoe.networked.scores import scores_of
        >>> answers_NT, local_NT = np.array([[0, 0], [0, 1]]), np.array([[1.0, 1.0], [0.0, 1.0]])
        >>> scores_of(answers_NT, local_NT, np.array([0, 1]), [[0], [1]], classes=2)
        Scores(macro_f1=0.6666666666666666, own_f1=1.0, local_share=0.75, own_local_share=1.0)
    """
    own_NT = np.stack([np.isin(labels_T, held) for held in holds])
    asking = np.flatnonzero(own_NT.any(axis=1))
    f1 = [macro_f1(labels_T, answers_T, classes) for answers_T in answers_NT]
    own_f1 = [
        macro_f1(labels_T[own_NT[client]], answers_NT[client][own_NT[client]], classes) for client in asking
    ]
    own_local = [local_NT[client][own_NT[client]].mean() for client in asking]
    return Scores(
        macro_f1=float(np.mean(f1)),
        own_f1=float(np.mean(own_f1)) if own_f1 else float("nan"),
        local_share=float(local_NT.mean()),
        own_local_share=float(np.mean(own_local)) if own_local else float("nan"),
    )
