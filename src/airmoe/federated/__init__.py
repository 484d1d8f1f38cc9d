"""Federated training that knows no mixture of experts: messages, steps, rounds, and an engine."""

from airmoe.federated.averaging import Averaging, average
from airmoe.federated.exchange import (
    Client,
    Engine,
    Exchange,
    Message,
    RoundResult,
    Stage,
    State,
    nbytes,
    run_round,
)
from airmoe.federated.loop import Loop
from airmoe.federated.rounds import federate

__all__ = [
    "Averaging",
    "Client",
    "Engine",
    "Exchange",
    "Loop",
    "Message",
    "RoundResult",
    "Stage",
    "State",
    "average",
    "federate",
    "nbytes",
    "run_round",
]
