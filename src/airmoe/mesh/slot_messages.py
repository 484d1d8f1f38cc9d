"""Messages between a client and a scheduler: the arrays of a frame.

    ITEMS        policy uint8 (text)   source int32 ()   node int32 (E,)
                 bits float64 (T,)   scores float64 (T, E)   reachable bool (T, E)
    SCHEDULE     policy uint8 (text)   source int32 ()
                 mask bool (T, E)   feasible bool (T,)   subcarrier int32 (N, N)

Shape suffixes: T items, E experts, N nodes.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import FrameError, RefusedError
from airmoe.mesh.frame import Frame

MOST_NAMED_BYTES = 60
"""How many bytes of another policy's name an error quotes."""


class SlotRequest(NamedTuple):
    """The items of one source.

    Attributes:
        source: the node that asks.
        node_E: int64, the node that would serve each expert for this source.
        bits_T: float64, the bits of each item's payload.
        scores_TE: float64, gate scores.
        reachable_TE: bool, the experts that the source can ask.
    """

    source: int
    node_E: NDArray[np.int64]
    bits_T: NDArray[np.float64]
    scores_TE: NDArray[np.float64]
    reachable_TE: NDArray[np.bool_]


class SlotReply(NamedTuple):
    """The decision for the items of one source.

    Attributes:
        source: the node that asked.
        mask_TE: bool, True where the expert gets the item.
        feasible_T: bool, False where the policy's own rule could not be met.
        subcarrier_NN: int64, the subcarrier of every link in this slot, -1 for none.
    """

    source: int
    mask_TE: NDArray[np.bool_]
    feasible_T: NDArray[np.bool_]
    subcarrier_NN: NDArray[np.int64]


def request_arrays(policy: str, request: SlotRequest) -> dict[str, NDArray[Any]]:
    """Return the arrays of a request to a scheduler that runs the policy of this name."""
    return {
        "policy": _text(policy),
        "source": np.array(request.source, np.int32),
        "node": request.node_E.astype(np.int32),
        "bits": request.bits_T,
        "scores": request.scores_TE,
        "reachable": request.reachable_TE,
    }


def read_request(
    policy: str, frame: Frame, placement: list[list[int]], nodes: int, most_bits: int
) -> SlotRequest:
    """Return the items in a request to a scheduler that runs this policy.

    Args:
        policy: name of the policy that the scheduler runs.
        frame: the request.
        placement: for each expert the nodes that serve it.
        nodes: N.
        most_bits: the most bits of one item's payload.

    Raises:
        RefusedError: the request is for another policy.
        FrameError: a missing array, a wrong shape, or a value that is not allowed.
    """
    _same_policy(policy, frame)
    experts = len(placement)
    source = _number(frame, "source", nodes)
    node_E = frame.array("node", np.int32, (experts,)).astype(np.int64)
    scores_TE = frame.array("scores", np.float64, (None, experts))
    items = len(scores_TE)
    bits_T = frame.array("bits", np.float64, (items,))
    reachable_TE = frame.array("reachable", np.bool_, (items, experts))
    if not items:
        raise FrameError("the request has no items; expected at least one")
    for expert, node in enumerate(node_E.tolist()):
        if node not in placement[expert]:
            raise FrameError(f"node of expert {expert} is {node}; expected one of {placement[expert]}")
    for name, values, right, expected in (
        ("bits", bits_T, (bits_T >= 1) & (bits_T <= most_bits), f"1 to {most_bits}"),
        ("scores", scores_TE, np.isfinite(scores_TE) & (scores_TE >= 0), "finite and >= 0"),
    ):
        if not right.all():
            raise FrameError(f"{name} of the request are {values[~right][0]:g}; expected {expected}")
    return SlotRequest(source, node_E, bits_T, scores_TE, reachable_TE)


def reply_arrays(policy: str, reply: SlotReply, subcarriers: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a reply.

    Raises:
        FrameError: a subcarrier does not exist or serves two links.
    """
    refuse_shared(reply.subcarrier_NN, subcarriers)
    return {
        "policy": _text(policy),
        "source": np.array(reply.source, np.int32),
        "mask": reply.mask_TE,
        "feasible": reply.feasible_T,
        "subcarrier": reply.subcarrier_NN.astype(np.int32),
    }


def read_reply(policy: str, frame: Frame, request: SlotRequest, nodes: int, subcarriers: int) -> SlotReply:
    """Return what a scheduler decided for the items of a request.

    Raises:
        RefusedError: another policy decided.
        FrameError: a missing array, a wrong shape, or a value that is not allowed.
    """
    _same_policy(policy, frame)
    items, experts = request.scores_TE.shape
    source = _number(frame, "source", nodes)
    if source != request.source:
        raise FrameError(f"it is for source {source}; expected {request.source}")
    mask_TE = frame.array("mask", np.bool_, (items, experts))
    feasible_T = frame.array("feasible", np.bool_, (items,))
    subcarrier_NN = frame.array("subcarrier", np.int32, (nodes, nodes)).astype(np.int64)
    refuse_shared(subcarrier_NN, subcarriers)
    return SlotReply(source, mask_TE, feasible_T, subcarrier_NN)


def refuse_shared(subcarrier_NN: NDArray[np.int64], subcarriers: int) -> None:
    """Refuse subcarriers that do not exist, and those that two links would use; the diagonal is no link.

    Raises:
        FrameError: a subcarrier does not exist, or serves two links.
    """
    if not ((subcarrier_NN >= -1) & (subcarrier_NN < subcarriers)).all():
        raise FrameError(f"a subcarrier of the slot is out of range; expected -1 to {subcarriers - 1}")
    used_L = subcarrier_NN[~np.eye(len(subcarrier_NN), dtype=np.bool_) & (subcarrier_NN >= 0)]
    number_U, links_U = np.unique(used_L, return_counts=True)
    if (links_U > 1).any():
        shared = number_U[links_U > 1][0]
        raise FrameError(f"subcarrier {shared} of the slot serves {links_U.max()} links; expected one")


def _text(policy: str) -> NDArray[np.uint8]:
    return np.frombuffer(policy.encode(), np.uint8)


def _same_policy(policy: str, frame: Frame) -> None:
    text = frame.array("policy", np.uint8, (None,)).tobytes()
    if text != policy.encode():
        told = text[:MOST_NAMED_BYTES].decode(errors="replace")
        raise RefusedError(f"the policies differ: here it is {policy}, there {told}")


def _number(frame: Frame, name: str, limit: int) -> int:
    number = int(frame.array(name, np.int32, ()))
    if not 0 <= number < limit:
        raise FrameError(f"the {name} is node {number}; expected less than {limit}")
    return number
