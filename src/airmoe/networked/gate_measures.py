"""How good the gate of stage 3 is on held-out images, and how much each client keeps to itself.

Shape suffixes: T items, E experts, F features, C classes.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.nn import PersonalGates
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.evaluation import macro_f1, routed_answers

COLLAPSED = 0.9
"""A client whose gate keeps so large a share of all held-out images to itself has collapsed."""


@dataclass(frozen=True)
class HeldOutAnswers:
    """What all experts answer about the held-out images.

    Attributes:
        features_TF: float32.
        labels_T: their classes.
        probability_TEC: every expert's answers.
        snr_db_TE: what a gate sees of the links; None over ideal ones.
        asks_T: int64, the client that asks about each image; None where every client asks about every image.
    """

    features_TF: Tensor
    labels_T: NDArray[np.int64]
    probability_TEC: Tensor
    snr_db_TE: Tensor | None = None
    asks_T: NDArray[np.int64] | None = None


def measures(gate: nn.Module, held_out: HeldOutAnswers) -> dict[str, float]:
    """Return what a metrics row says of a gate under top-1 routing, means over the clients that ask.

    ``macro_f1`` is of the best expert's answer. ``local_share`` is the share of the images for which that is
    the asker's own expert, and ``local_weight`` the own expert's mean score. ``collapsed``, the share of the
    clients whose own ``local_share`` is `COLLAPSED` or more, is there if there are such clients.
    """
    _, experts, classes = held_out.probability_TEC.shape
    every = {client: _asked_by(client, held_out) for client in range(experts)}
    f1, share, weight = list[float](), list[float](), list[float]()
    scores_TE: Tensor | None = None
    for client, item_T in every.items():
        if not len(item_T):
            continue
        if scores_TE is None or isinstance(gate, PersonalGates):
            scores_TE = _scores(gate.gates[client] if isinstance(gate, PersonalGates) else gate, held_out)
            answers_T = routed_answers(scores_TE, held_out.probability_TEC)
        share.append(float((scores_TE[item_T].argmax(dim=1) == client).float().mean()))
        weight.append(float(scores_TE[item_T, client].mean()))
        if not f1 or held_out.asks_T is not None or isinstance(gate, PersonalGates):
            f1.append(macro_f1(held_out.labels_T[item_T], answers_T[item_T], classes))
    measured = {
        "macro_f1": float(np.mean(f1)),
        "local_share": float(np.mean(share)),
        "local_weight": float(np.mean(weight)),
    }
    if experts > 1 and (collapsed := float(np.mean(np.array(share) >= COLLAPSED))):
        measured["collapsed"] = collapsed
    return measured


def warn_of_collapse(stage: str, row: MetricsRow | Mapping[str, float]) -> None:
    """Log a warning if the last metrics row of a stage says that gates have collapsed."""
    if row.get("collapsed"):
        logging.getLogger("airmoe").warning(
            "%s: the gates of %.0f %% of the clients keep %.0f %% or more of all held-out images to "
            "themselves, so the experts of others are of no use to them (macro-F1 %.3f); "
            'gate.sync = "fedavg" or "partial:3" holds them back',
            stage,
            100 * float(row["collapsed"]),
            100 * COLLAPSED,
            row["macro_f1"],
        )


def warn_of_silence(stage: str, rows: Sequence[MetricsRow], clients: int) -> None:
    """Log a warning about clients that were missing from every round: nobody knows their experts' answers."""
    missing = [set(str(row.get("missing", "")).split(", ")) for row in rows]
    silent = [client for client in range(clients) if all(str(client) in each for each in missing)]
    if silent:
        logging.getLogger("airmoe").warning(
            "%s: clients %s answered in no round, so the gate knows nothing of their experts and may send "
            "images to them all the same; leave them out, or train stage 3 again when they are back",
            stage,
            ", ".join(map(str, silent)),
        )


def _asked_by(client: int, held_out: HeldOutAnswers) -> NDArray[np.int64]:
    if held_out.asks_T is None:
        return np.arange(len(held_out.labels_T))
    return np.flatnonzero(held_out.asks_T == client)


def _scores(gate: nn.Module, held_out: HeldOutAnswers) -> Tensor:
    with torch.no_grad():
        return gate.eval()(held_out.features_TF, held_out.snr_db_TE).scores_TE  # type: ignore[no-any-return]
