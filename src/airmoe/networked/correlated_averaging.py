"""The server of FedSC: FedAvg whose clients are also told the sum of their correlation matrices.

Shape suffixes: P values of a projection.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from airmoe.federated import Averaging, Message, State
from airmoe.federated.forms import fault_of_form
from airmoe.federated.sums import Sums
from airmoe.networked.fedsc import EXCHANGES, MATRIX

_KEPT = "correlation/"
"""How the server's state names the matrices that it keeps of clients."""


@dataclass(frozen=True)
class CorrelatedAveraging:
    """The server of FedSC: FedAvg whose clients are also told the sum of their correlation matrices.

    Where all clients take part in every round, the server needs no more than the sum of the matrices of the
    round. Where a share does, it keeps every client's last matrix, and the sum is over all clients that ever
    took part.

    Args:
        averaging: of the weights, with `EXCHANGES`.
        width: P, rows and columns of a matrix.
    """

    averaging: Averaging
    width: int

    exchanges, by_samples = EXCHANGES, True

    @property
    def name(self) -> str:
        """The name of the stage."""
        return self.averaging.name

    @property
    def sums(self) -> tuple[str, ...]:
        """What the server needs as a sum alone."""
        share = self.averaging.participation.share
        return sums_of(share)[:-1] + self.averaging.sums

    def opening(self, state: State, round_: int) -> Mapping[int, Message]:
        """Send the weights to the clients of the round."""
        return self.averaging.opening(weights_of(state), round_)

    def fault(self, exchange: str, state: State, reply: Message) -> str:
        """Return how a reply differs in form from a matrix, or from weights that were sent."""
        if (samples := reply.numbers.get("samples")) != 1:
            return f"samples is {samples}; expected 1: every client counts alike"
        if exchange == EXCHANGES[0]:
            return fault_of_form(reply.tensors, {MATRIX: (torch.float32, (self.width, self.width))})
        return self.averaging.fault(exchange, weights_of(state), reply)

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, Mapping[int, Message]]:
        """Tell the sum of the matrices; then take the mean of the weights."""
        if exchange == EXCHANGES[0]:
            return state, _told(total, len(replies), replies)
        weights, told = self.averaging.sum_step(exchange, weights_of(state), total, replies)
        return {**weights, **_kept(state)}, told

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, Mapping[int, Message]]:
        """Keep the matrices, and tell the sum of all that are kept; then aggregate the weights."""
        if exchange != EXCHANGES[0]:
            weights, told = self.averaging.server_step(exchange, weights_of(state), replies)
            return {**weights, **_kept(state)}, told
        new = {f"{_KEPT}{client}": reply.tensors[MATRIX] for client, reply in replies.items()}
        kept = _kept(state) | new
        sums = Sums(by_samples=False)
        for _, matrix_PP in sorted(kept.items(), key=lambda each: int(each[0].removeprefix(_KEPT))):
            sums.add(Message({MATRIX: matrix_PP}))
        return {**weights_of(state), **kept}, _told(sums.total, len(kept), replies)


def sums_of(participation: float) -> tuple[str, ...]:
    """Return the exchanges that are sums, where the mean of the weights is taken.

    "correlate" is one where all clients take part in every round.
    """
    return EXCHANGES if participation == 1 else EXCHANGES[1:]


def _told(total: State, clients: int, replies: Mapping[int, Message]) -> dict[int, Message]:
    if not replies:
        return {}
    return dict.fromkeys(replies, Message({"sum": total[MATRIX].float()}, {"clients": clients}))


def _kept(state: State) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(_KEPT)}


def weights_of(state: State) -> dict[str, Tensor]:
    """Return the weights in the server's state."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_KEPT)}
