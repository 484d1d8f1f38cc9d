"""The experts' answers to held-out images, by which a gate is measured: the server asks every expert once.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.federated import Engine, Message, State, run_round
from airmoe.showing import OneLine


@dataclass(frozen=True, repr=False)
class HeldOut(OneLine):
    """Images that no client trains on; the server has them.

    Args:
        images_TCHW: float32 in [0, 1].
        labels_T: their classes.
        class_names: of all classes.
    """

    images_TCHW: Tensor
    labels_T: NDArray[np.int64]
    class_names: tuple[str, ...]


class AnsweringClient:
    """A client whose expert answers the server.

    Args:
        expert: features (T, F) to probabilities (T, C).
    """

    def __init__(self, expert: Callable[[Tensor], Tensor]) -> None:
        self._expert = expert

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Answer."""
        return state, Message({"probabilities": self._expert(message.tensors["features"])})


@dataclass(frozen=True)
class _Asking:
    """A stage of one round, in which every client is asked a question of its own."""

    name: str
    features_TF: Sequence[Tensor]
    exchanges: tuple[str, ...] = ("answer",)

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        return {client: Message({"features": each}) for client, each in enumerate(self.features_TF)}

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        return {str(client): reply.tensors["probabilities"] for client, reply in replies.items()}, {}


def ask_all(engine: Engine, features_TF: Sequence[Tensor], classes: int) -> Tensor:
    """Return the probabilities (T, E, classes) that every client's expert gives to features.

    An expert that does not answer is one that gives no class any probability.

    Args:
        engine: reaches clients that answer, as `AnsweringClient`.
        features_TF: for every client those that it is asked about.
        classes: how many.
    """
    answers = run_round(_Asking("held-out", features_TF), {}, 0, engine).state
    silent = torch.zeros(len(features_TF[0]), classes)
    return torch.stack([answers.get(str(client), silent) for client in range(len(features_TF))], dim=1)
