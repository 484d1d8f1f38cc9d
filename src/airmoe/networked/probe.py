"""What features are worth that were learnt without labels: a linear probe.

Shape suffixes: T items, F features, C classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from airmoe.networked.closed_form import bordered, ridge
from airmoe.networked.moments import SMALLEST_STD
from airmoe.runs.evaluation import macro_f1

RIDGE = 10.0


def probed(fitted_TF: Tensor, labels_T: Tensor, features_TF: Tensor, classes: int) -> NDArray[np.int64]:
    """Return the classes (T',) that a linear classifier names, fitted in closed form to labelled features.

    Args:
        fitted_TF: float32, the features to fit to; they are standardised by their own moments.
        labels_T: int64, their classes.
        features_TF: float32 (T', F), the features to classify.
        classes: C.
    """
    mean_F, std_F = fitted_TF.mean(dim=0), fitted_TF.std(dim=0, correction=0).clamp_min(SMALLEST_STD)
    bordered_TG = bordered(fitted_TF, mean_F, std_F)
    true_TC = functional.one_hot(labels_T, classes).double()
    weight_GC = ridge(bordered_TG.T @ bordered_TG, bordered_TG.T @ true_TC, RIDGE)
    return (bordered(features_TF, mean_F, std_F) @ weight_GC).argmax(dim=1).numpy()


def probe_macro_f1(features_TF: Tensor, labels_T: NDArray[np.int64], classes: int) -> float:
    """Return macro-F1 of a linear probe in [0, 1], by cross-validation in two halves.

    Each half is classified by a probe that is fitted to the other one, so no further labels are needed.

    Args:
        features_TF: float32.
        labels_T: the classes.
        classes: C.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from airmoe.networked.probe import probe_macro_f1
        >>> labels_T = np.arange(40) % 2
        >>> probe_macro_f1(torch.from_numpy(labels_T)[:, None].float(), labels_T, classes=2)
        1.0
    """
    half_T = np.empty(len(labels_T), np.bool_)
    half_T[np.argsort(labels_T, kind="stable")] = np.arange(len(labels_T)) % 2 == 0  # the classes alike
    answers_T = np.empty(len(labels_T), np.int64)
    for fitted_T in (half_T, ~half_T):
        labels = torch.from_numpy(labels_T[fitted_T])
        answers_T[~fitted_T] = probed(features_TF[fitted_T], labels, features_TF[~fitted_T], classes)
    return macro_f1(labels_T, answers_T, classes)
