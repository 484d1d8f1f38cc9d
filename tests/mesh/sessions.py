"""Zenoh sessions that airmoe does not look after."""

import zenoh

from airmoe.mesh.zenoh_config import session_config


def untended(address: str, *connect: str) -> zenoh.Session:
    """A session that tells whom it knows, and dials nobody that it is told of."""
    changes = {"scouting/gossip/autoconnect": []}
    return zenoh.open(session_config([f"tcp/{address}"], [f"tcp/{other}" for other in connect], changes))
