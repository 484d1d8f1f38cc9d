"""Federated training that knows no mixture of experts: messages, steps, rounds, and an engine."""

from airmoe.federated.averaging import Aggregation, Averaging, Mean, average, make_aggregation
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
from airmoe.federated.sums import Summing, total

__all__ = [
    "Aggregation",
    "Averaging",
    "Client",
    "Engine",
    "Exchange",
    "Loop",
    "Mean",
    "Message",
    "RoundResult",
    "Stage",
    "State",
    "Summing",
    "average",
    "federate",
    "make_aggregation",
    "nbytes",
    "run_round",
    "total",
]
