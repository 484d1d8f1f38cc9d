"""Loading weights into a network, after a check that they fit."""

from collections.abc import Mapping

from torch import Tensor, nn

from airmoe.errors import RunFolderError


def load_weights(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load weights by name.

    Args:
        network: changed in place, or not at all.
        state: all weights of the network and no other.
        origin: where they come from, for errors.

    Raises:
        RunFolderError: a weight is missing, unknown or of another shape; it names the first, and both shapes.
    """
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state:
            raise RunFolderError(f"{origin}: {name} is missing; expected shape {tuple(own[name].shape)}")
        if name not in own:
            expected = "it is of another network, or of another version of airmoe"
            raise RunFolderError(f"{origin}: {name} is unknown to this network; {expected}")
        if state[name].shape != own[name].shape:
            raise RunFolderError(
                f"{origin}: {name} has shape {tuple(state[name].shape)}; expected {tuple(own[name].shape)}"
            )
    network.load_state_dict(dict(state))
