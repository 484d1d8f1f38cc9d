"""Zenoh's settings, as all sessions of airmoe have them."""

import json
from collections.abc import Mapping, Sequence

import zenoh

from airmoe.mesh.access import access_control
from airmoe.mesh.frame import MAX_FRAME_BYTES
from airmoe.mesh.identity import AUTHORITY, KEY, Identity

LEASE_MS = 1500
"""A node that says nothing for this long is taken for dead."""


def session_config(
    listen: Sequence[str] = (),
    connect: Sequence[str] = (),
    changes: Mapping[str, object] | None = None,
    identity: Identity | None = None,
) -> zenoh.Config:
    """Return the settings of a peer that keeps retrying its connections and learns of others by gossip.

    Multicast and shared memory are off.

    Args:
        listen: Zenoh's locators to listen at.
        connect: those to connect to.
        changes: other values of settings, or other settings.
        identity: of the node; with it all links have mutual TLS, and everybody may do what the roster says.

    Raises:
        IdentityError: the certificate does not hold now.
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
        # Else opening takes half a second wherever an address is dead, or gossip tells of many peers.
        "open/return_conditions/connect_scouted": False,
        "transport/shared_memory/enabled": False,
        "transport/link/tx/lease": LEASE_MS,
        "transport/link/rx/max_message_size": 2 * MAX_FRAME_BYTES,  # with room for Zenoh's own headers
        # A send to a node that stopped reading holds up the whole session. This closes the node's link.
        "transport/link/tx/queue/congestion_control/block/wait_before_close": LEASE_MS * 1000,
    }
    if identity is not None:
        values |= _secured(identity)
    for key, value in (values | dict(changes or {})).items():
        config.insert_json5(key, json.dumps(value))
    return config


def _secured(identity: Identity) -> dict[str, object]:
    certificate, key = str(identity.certificate()), str(identity.folder / KEY)
    tls = "transport/link/tls"
    return {
        # Gossip could have an honest node dial tcp/. The other kind is the door of this very process.
        "transport/link/protocols": ["tls", "unixsock-stream"],
        f"{tls}/root_ca_certificate": str(identity.folder / AUTHORITY),
        f"{tls}/enable_mtls": True,
        f"{tls}/listen_certificate": certificate,
        f"{tls}/listen_private_key": key,
        f"{tls}/connect_certificate": certificate,
        f"{tls}/connect_private_key": key,
        f"{tls}/verify_name_on_connect": False,  # who it is says the common name; addresses change
        f"{tls}/close_link_on_expiration": True,
        "access_control": access_control(identity.roster),
        # A quicker redial is in time to be taken in the second in which a certificate ends.
        "connect/retry": {"period_init_ms": 1500, "period_max_ms": 3000, "period_increase_factor": 1.5},
    }
