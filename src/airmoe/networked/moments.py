"""Mean and standard deviation of all clients' features together, by which the gate standardises features.

The stage has one round. Each client sends sums and sums of squares, and gets the result. They are added in
float64, so that the result hardly depends on how images fall on clients.

Shape suffixes: T items, F features.
"""

from collections.abc import Mapping

from torch import Tensor

from airmoe.federated import Message, State

SMALLEST_STD = 1e-2
"""The smallest standard deviation that is told, so that features that hardly vary are not blown up."""


class MomentsClient:
    """A client that sends the sums of its features, and keeps the moments that come back.

    Args:
        features_TF: float32, of this client's images.
    """

    def __init__(self, features_TF: Tensor) -> None:
        self._features = features_TF

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """In "sum", reply with the sums; in "tell", keep ``mean`` and ``std``."""
        if exchange == "tell":
            return message.tensors, Message()
        features_TF = self._features.double()
        sums = {"sum": features_TF.sum(dim=0), "sum_of_squares": features_TF.square().sum(dim=0)}
        return state, Message(sums, {"samples": len(features_TF)})


class Moments:
    """The server's side: its state becomes ``mean`` and ``std`` (F,), float32.

    Args:
        name: of the stage.
        clients: how many.
    """

    exchanges, sums, by_samples = ("sum", "tell"), ("sum",), False

    def __init__(self, name: str, clients: int) -> None:
        self.name, self._clients = name, clients

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Ask all clients."""
        return dict.fromkeys(range(self._clients), Message())

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Keep the moments when they have been told."""
        return state, {}

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Tell all clients the moments."""
        samples = sum(reply.numbers["samples"] for reply in replies.values())
        mean_F = total["sum"] / samples
        variance_F = total["sum_of_squares"] / samples - mean_F.square()
        std_F = variance_F.clamp_min(0).sqrt().clamp_min(SMALLEST_STD)
        moments = {"mean": mean_F.float(), "std": std_F.float()}
        return moments, dict.fromkeys(replies, Message(moments))
