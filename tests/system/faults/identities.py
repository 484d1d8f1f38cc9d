"""Who nodes and clients are while faults are tried: nobody, or themselves where AIRMOE_TLS is set."""

import os
from pathlib import Path

from airmoe.mesh import Identity, local_identity


def identity_here(client_folder: Path) -> Identity | None:
    """The identity of a client's folder for this machine, if faults are to be tried with mutual TLS."""
    return local_identity(client_folder) if "AIRMOE_TLS" in os.environ else None
