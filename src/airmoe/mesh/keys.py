"""Names on the mesh: airmoe/<mesh>/<model hash>/<layer>/<expert>, and .../<layer>/scheduler/<node>."""


def expert_key(mesh: str, model_hash: str, layer: int, expert: int) -> str:
    """Return the key that one expert is served under."""
    return f"{layer_key(mesh, model_hash, layer)}/{expert}"


def layer_key(mesh: str, model_hash: str, layer: int) -> str:
    """Return the prefix of all experts of one layer."""
    return f"airmoe/{mesh}/{model_hash}/{layer}"


def scheduler_key(mesh: str, model_hash: str, layer: int, node: int) -> str:
    """Return the key that one node schedules a layer under."""
    return f"{schedulers_key(mesh, model_hash, layer)}/{node}"


def schedulers_key(mesh: str, model_hash: str, layer: int) -> str:
    """Return the prefix of all schedulers of one layer."""
    return f"{layer_key(mesh, model_hash, layer)}/scheduler"
