"""How good answers are: F1 scores, and the outputs that they are computed from.

Shape suffixes: T items, Q queries (one item each), N clients, C classes, E experts.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BATCH = 500


def macro_f1(labels_T: NDArray[np.int64], answers_T: NDArray[np.int64], classes: int) -> float:
    """Return the mean F1 score over the classes that occur in ``labels_T``, in [0, 1]."""
    return float(np.nanmean(class_f1(labels_T, answers_T, classes)))


def class_f1(labels_T: NDArray[np.int64], answers_T: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return each class's F1 score (C,), in [0, 1]; NaN for classes that do not occur in ``labels_T``."""
    from sklearn.metrics import f1_score

    score_C = np.asarray(
        f1_score(labels_T, answers_T, labels=np.arange(classes), average=None, zero_division=0.0), np.float64
    )
    score_C[~np.isin(np.arange(classes), labels_T)] = np.nan
    return score_C


def client_f1(
    labels_Q: NDArray[np.int64], answers_Q: NDArray[np.int64], client_Q: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Return each class's F1 score for each client that asked; NaN for classes it did not ask about."""
    own = [client_Q == client for client in np.unique(client_Q)]
    return np.stack([class_f1(labels_Q[own_Q], answers_Q[own_Q], classes) for own_Q in own])


def mean_macro_f1(
    labels_Q: NDArray[np.int64], answers_Q: NDArray[np.int64], client_Q: NDArray[np.int64], classes: int
) -> float:
    """Return the mean over the clients that asked of each one's macro-F1, in [0, 1]."""
    f1_NC = client_f1(labels_Q, answers_Q, client_Q, classes)
    return float(np.nanmean(f1_NC, axis=1).mean())


def outputs_in_batches(network: nn.Module, inputs_T: Tensor, at_once: int = BATCH) -> Tensor:
    """Return a network's outputs in evaluation mode, without gradients, for ``at_once`` inputs at a time."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(batch) for batch in inputs_T.split(at_once)])


def routed_answers(scores_TE: Tensor, probability_TEC: Tensor) -> NDArray[np.int64]:
    """Return (T,), the class that each item's best-scored expert names (top-1 routing)."""
    best_T = scores_TE.argmax(dim=1)
    return probability_TEC[torch.arange(len(best_T)), best_T].argmax(dim=1).numpy()
