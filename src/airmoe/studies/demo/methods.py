"""The methods of the demonstration: one table for asking, sweeping and reporting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from airmoe.mesh.client import GateFunction
from airmoe.report.measured import Figures, MethodId, MethodResult
from airmoe.scheduling import All, Des, Jesa, Local, Policy, RandomK, TopK

IMPORTANCE = 0.3
"""Importance factor of DES and JESA through the mesh."""


@dataclass(frozen=True)
class Method:
    """A method of the demonstration.

    Attributes:
        id: its name in code.
        label: its name on the screen.
        policy: decides.
        family: "networked" for what the demonstration shows, "baseline" for what it is compared with.
        measured_in: "mesh" (node processes answer) or "simulation" (one process).
        gate: takes the place of the trained one.
        at_importance: returns the policy at another importance factor; None for methods that are not swept.
    """

    id: MethodId
    label: str
    policy: Policy
    family: Literal["networked", "baseline"] = "baseline"
    measured_in: Literal["mesh", "simulation"] = "mesh"
    gate: GateFunction | None = None
    at_importance: Callable[[float], Policy] | None = None

    def result(self, figures: Figures) -> MethodResult:
        """Return its entry in the report."""
        return MethodResult(
            id=self.id, label=self.label, family=self.family, measured_in=self.measured_in, figures=figures
        )


def demo_methods(clients: int, seed: int) -> tuple[Method, ...]:
    """Return the table of methods, in the order of the report; client i holds expert i.

    The policy of the one FedAvg network says where its answers come from: each client's own copy.
    """

    def des(importance: float) -> Policy:
        return Des(importance, 2)

    def jesa(importance: float) -> Policy:
        return Jesa(importance, 2)

    return (
        Method("moe-top1", "networked MoE, top-1", TopK(1), "networked"),
        Method("moe-top2", "networked MoE, top-2", TopK(2), "networked"),
        Method("moe-des", "networked MoE, DES", des(IMPORTANCE), "networked", at_importance=des),
        Method("moe-jesa", "networked MoE, JESA", jesa(IMPORTANCE), "networked", at_importance=jesa),
        Method("all-averaged", "all experts averaged", All(), gate=_equal_scores(clients)),
        Method("random", "random routing", RandomK(1, seed)),
        Method("local", "local expert only", Local()),
        Method("fedavg-network", "one FedAvg network", Local(), measured_in="simulation"),
        Method("central-moe", "centrally trained MoE", TopK(1), measured_in="simulation"),
    )


def _equal_scores(experts: int) -> GateFunction:
    return lambda features_TF, snr_db_TE: np.full((len(features_TF), experts), 1 / experts, np.float32)
