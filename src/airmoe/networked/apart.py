"""The nodes of a run that are elsewhere, as the server reaches them.

Nodes keep what they learn. All that the server has to see to is that those that come late make up for what
they missed: they are told the extractor, make their expert, and are told the moments of the features.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airmoe.federated import Engine, Exchange, Message, State
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node import CLASS_SUMS, EXPERTS, STATISTICS
from airmoe.runs.settings import dump_config

if TYPE_CHECKING:
    from airmoe.federated.flower.engine import FlowerReach

EXTRACTOR = "extractor"
"""The part of a run in which a late node is told the extractor, where its expert is not made by that."""


def told_to_nodes(config: NetworkedConfig, held_out: HeldOut) -> str:
    """Return what the server tells every node of a run: its settings, classes and the shape of its images."""
    shape = list(held_out.images_TCHW.shape[1:])
    return json.dumps([dump_config(config), list(held_out.class_names), shape])


class NodesApart:
    """The nodes of a run; `airmoe.networked.node.Nodes`.

    Args:
        reach: reaches them.
        clients: how many.
    """

    def __init__(self, reach: "FlowerReach", clients: int) -> None:
        self._reach, self.clients = reach, clients

    def engine(self, stage: str) -> Engine:
        """Return what reaches the clients in a stage."""
        return self._reach.engine(stage)

    def ask_all(self) -> None:
        """Ask everybody who is there in the next exchange, whoever missed before."""
        self._reach.ask_all()

    def settle(self, extractor: State, experts: Mapping[int, State], told: State | None = None) -> None:
        """Let nodes that come late be told the extractor, or make their expert, before anything else."""
        if told is not None:
            self._reach.first_take(EXPERTS, Exchange(EXPERTS, 0, "train"), _of_round_0(told))
        elif extractor:
            step = Exchange(EXTRACTOR, 0, "tell")
            self._reach.first_take(EXTRACTOR, step, _of_round_0(extractor), like=(CLASS_SUMS, "sum"))

    def standardise(self, moments: State) -> None:
        """Let nodes that come late be told the moments first."""
        step = Exchange("gate statistics", 0, "tell")
        self._reach.first_take(STATISTICS, step, _of_round_0(moments))


def _of_round_0(state: State) -> Message:
    return Message(state, {"round": 0})
