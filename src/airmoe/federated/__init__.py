"""Federated training that knows no mixture of experts: rounds, and the engine that runs them."""

from airmoe.federated.loop import federate

__all__ = ["federate"]
