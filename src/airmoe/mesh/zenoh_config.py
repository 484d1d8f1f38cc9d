"""Zenoh's settings, as all sessions of airmoe have them."""

import json
from collections.abc import Mapping, Sequence

import zenoh

from airmoe.mesh.frame import MAX_FRAME_BYTES

LEASE_MS = 1500
"""A node that says nothing for this long is taken for dead."""


def session_config(
    listen: Sequence[str] = (), connect: Sequence[str] = (), changes: Mapping[str, object] | None = None
) -> zenoh.Config:
    """Return the settings of a peer that keeps retrying its connections and learns of others by gossip.

    Multicast and shared memory are off.

    Args:
        listen: Zenoh's locators to listen at.
        connect: those to connect to.
        changes: other values of settings, or other settings.
    """
    config = zenoh.Config()
    values: dict[str, object] = {
        "mode": "peer",
        "listen/endpoints": list(listen),
        "connect/endpoints": list(connect),
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {"period_init_ms": 100, "period_max_ms": 500, "period_increase_factor": 1.5},
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": True,
        "transport/shared_memory/enabled": False,
        "transport/link/tx/lease": LEASE_MS,
        "transport/link/rx/max_message_size": 2 * MAX_FRAME_BYTES,  # with room for Zenoh's own headers
        # A send to a node that stopped reading holds up the whole session. This closes the node's link.
        "transport/link/tx/queue/congestion_control/block/wait_before_close": LEASE_MS * 1000,
    }
    for key, value in (values | dict(changes or {})).items():
        config.insert_json5(key, json.dumps(value))
    return config
