"""Names on the mesh.

    airmoe/<mesh>/<model hash>/<layer>/<expert>/<node>       an expert, as one node serves it
    airmoe/<mesh>/<model hash>/<layer>/scheduler/<node>      a node that schedules the layer
    airmoe/<mesh>/roster/<node>                              the roster that a node goes by
    airmoe/<mesh>/link/<node>                                a node that answers at once: its link is measured
    airmoe/<mesh>/report/<node>/<session>                    a node, or a client at it, that says how it is

Whoever asks adds ``/from/`` and who it is, so that a node can tell its askers apart.

The node is part of an expert's name because replicas serve the same expert: under one shared name both would
answer every request. The liveliness token of whoever serves a key has the same name.
"""

from typing import NamedTuple

REPORT = "report"
"""Stands where the hash of a model may stand, and is none."""

ANYBODY = "*"
"""An asker's name that stands for all: whoever serves declares it."""


class Replica(NamedTuple):
    """An expert as one node serves it."""

    expert: int
    node: int


def layer_key(mesh: str, model_hash: str, layer: int) -> str:
    """Return the prefix of everything about one layer."""
    return f"airmoe/{mesh}/{model_hash}/{layer}"


def expert_key(mesh: str, model_hash: str, layer: int, expert: int, node: int) -> str:
    """Return the key that one node serves an expert under."""
    return f"{layer_key(mesh, model_hash, layer)}/{expert}/{node}"


def schedulers_key(mesh: str, model_hash: str, layer: int) -> str:
    """Return the prefix of all schedulers of one layer."""
    return f"{layer_key(mesh, model_hash, layer)}/scheduler"


def scheduler_key(mesh: str, model_hash: str, layer: int, node: int) -> str:
    """Return the key that one node schedules a layer under."""
    return f"{schedulers_key(mesh, model_hash, layer)}/{node}"


def roster_key(mesh: str, node: int) -> str:
    """Return the key under which a node is asked for its roster, or brought a newer one."""
    return f"airmoe/{mesh}/roster/{node}"


def link_key(mesh: str, node: int) -> str:
    """Return the key under which a node answers at once, so that the link to it can be measured."""
    return f"airmoe/{mesh}/link/{node}"


def reports_key(mesh: str) -> str:
    """Return the prefix of all who say how they are."""
    return f"airmoe/{mesh}/{REPORT}"


def report_key(mesh: str, node: int, session: str) -> str:
    """Return the key under which a session of a node, or of a client at it, says how it is."""
    return f"{reports_key(mesh)}/{node}/{session}"


def asked_key(key: str, asker: str) -> str:
    """Return the key under which an asker asks whoever serves ``key``."""
    return f"{key}/from/{asker}"


def asker_in(key: str) -> str | None:
    """Return who asks under this key; None where the key is meant for several at once."""
    return None if "*" in key else key.rpartition("/from/")[2]
