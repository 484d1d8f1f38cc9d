"""Serving experts over a network: nodes, clients and their wire format. No PyTorch."""

from airmoe.mesh.client import Answer, MeshClient
from airmoe.mesh.link_source import simulated_links
from airmoe.mesh.node import Node
from airmoe.mesh.session import open_session, parse_address

__all__ = ["Answer", "MeshClient", "Node", "open_session", "parse_address", "simulated_links"]
