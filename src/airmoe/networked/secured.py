"""The server's side of a stage, with secure sums where the settings say so."""

from airmoe.errors import require
from airmoe.federated import Engine, Stage
from airmoe.networked.config import NetworkedConfig


def secured(config: NetworkedConfig, stage: Stage, engine: Engine) -> Engine:
    """Return an engine that learns no client's part of a sum; without ``federation.secure_sums``, as it was.

    Raises:
        InvalidInputError: the stage has no exchange that is a sum.
        MissingExtraError: the package cryptography is missing.
    """
    if not config.federation.secure_sums:
        return engine
    require("train", "cryptography", by="federation.secure_sums")
    from airmoe.federated.secure_sums import SecureSums

    return SecureSums(engine, stage)
