"""Serving experts over a network: nodes, clients and their wire format. No PyTorch."""

from airmoe.mesh.addresses import parse_address
from airmoe.mesh.answer import Answer
from airmoe.mesh.client import MeshClient, Reach
from airmoe.mesh.node import Node
from airmoe.mesh.run_links import simulated_links
from airmoe.mesh.session import close_session, open_session
from airmoe.mesh.tending import tend_links

__all__ = [
    "Answer",
    "MeshClient",
    "Node",
    "Reach",
    "close_session",
    "open_session",
    "parse_address",
    "simulated_links",
    "tend_links",
]
