"""Serving experts over a network: nodes, clients and their wire format. No PyTorch."""

from airmoe.mesh.addresses import parse_address
from airmoe.mesh.answer import Answer
from airmoe.mesh.client import MeshClient, Reach
from airmoe.mesh.identity import Identity, read_identity
from airmoe.mesh.link_meter import LinkMeasure
from airmoe.mesh.local_identities import identity_of, local_identity
from airmoe.mesh.measured_links import MeasuredLinks
from airmoe.mesh.membership import Membership
from airmoe.mesh.node import Node
from airmoe.mesh.run_links import simulated_links
from airmoe.mesh.session import close_session, open_session
from airmoe.mesh.tending import tend_links

__all__ = [
    "Answer",
    "Identity",
    "LinkMeasure",
    "MeasuredLinks",
    "Membership",
    "MeshClient",
    "Node",
    "Reach",
    "close_session",
    "identity_of",
    "local_identity",
    "open_session",
    "parse_address",
    "read_identity",
    "simulated_links",
    "tend_links",
]
