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
from airmoe.federated.participation import Participation
from airmoe.federated.privacy import composed_epsilon
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
    "Participation",
    "RoundResult",
    "Stage",
    "State",
    "SumStage",
    "Summing",
    "average",
    "composed_epsilon",
    "federate",
    "make_aggregation",
    "nbytes",
    "run_round",
]
