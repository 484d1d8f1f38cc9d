"""Federated training that knows no mixture of experts: messages, steps, rounds, and an engine."""

from airmoe.federated.averaging import Aggregation, Averaging, Mean, average, make_aggregation
from airmoe.federated.exchange import (
    Client,
    Engine,
    Exchange,
    Judge,
    Message,
    Stage,
    State,
    SumStage,
    nbytes,
)
from airmoe.federated.loop import Loop
from airmoe.federated.round import RoundResult, run_round
from airmoe.federated.rounds import federate
from airmoe.federated.sums import Summing

__all__ = [
    "Aggregation",
    "Averaging",
    "Client",
    "Engine",
    "Exchange",
    "Judge",
    "Loop",
    "Mean",
    "Message",
    "RoundResult",
    "Stage",
    "State",
    "SumStage",
    "Summing",
    "average",
    "federate",
    "make_aggregation",
    "nbytes",
    "run_round",
]
