"""Questions that other clients asked a client's expert; some are kept, to hold its gate back (ours).

A client trains its gate on images of its own classes alone. What the others ask shows it images of theirs,
without labels and at no further cost. A fixed number is kept, drawn evenly from all that came.

Shape suffixes: Q questions, I items, F features.
"""

import numpy as np
import torch
from torch import Tensor

from airmoe.federated import State

KEPT_QUESTIONS = 256
"""How many questions a client keeps."""

_ASKED, _LOT = "asked", "asked_lot"


def with_questions(state: State, asked_QF: Tensor, random: np.random.Generator) -> State:
    """Return a client's state that has heard further questions, (Q, F) float32.

    Every question draws a lot; those with the smallest lots are kept.
    """
    lot_Q = torch.from_numpy(random.random(len(asked_QF)))
    if _ASKED in state:
        asked_QF, lot_Q = torch.cat([state[_ASKED], asked_QF]), torch.cat([state[_LOT], lot_Q])
    kept = torch.argsort(lot_Q, stable=True)[:KEPT_QUESTIONS]
    return {**state, _ASKED: asked_QF[kept], _LOT: lot_Q[kept]}


def drawn_questions(state: State, items: int, random: np.random.Generator) -> Tensor:
    """Return questions drawn from those that are kept (I, F), I = ``items``, or none where none are kept."""
    kept_QF = state.get(_ASKED, torch.empty(0, 0))
    if not len(kept_QF):
        return kept_QF
    return kept_QF[torch.from_numpy(random.integers(len(kept_QF), size=items))]
