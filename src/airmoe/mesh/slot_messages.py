"""What a client and a scheduler tell each other, laid out as the one array of a frame, float32.

Request, (1 + T, 1 + 2E):                         Reply, (1 + T + N, 1 + N), where N = E:

    policy's CRC, high, low, 0 ...                    policy's CRC, high, low, 0 ...
    bits, scores_E, reachable_E      per item         feasible, mask_E              per item
                                                      0, subcarrier of n -> each    per node n

The CRC-32 of the policy's name travels as two numbers of 16 bits. All but scores are whole numbers that
float32 holds exactly; the scores of an exported gate are float32 themselves.

Shape suffixes: T items, E experts, N nodes; expert e lives on node e.
"""

import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from airmoe.errors import FrameError, RefusedError

MOST_EXACT = 1 << 24
"""Up to here float32 holds every whole number."""

_HEAD = 2
"""Values of a first row."""


class SlotRequest(NamedTuple):
    """The items of one source.

    Attributes:
        bits_T: float64, what each item's payload is charged for.
        scores_TE: float64, gate scores.
        reachable_TE: bool, the experts that the source can ask.
    """

    bits_T: NDArray[np.float64]
    scores_TE: NDArray[np.float64]
    reachable_TE: NDArray[np.bool_]


class SlotReply(NamedTuple):
    """What was decided for the items of one source.

    Attributes:
        mask_TE: bool, True where the expert gets the item.
        feasible_T: bool, False where the policy's own rule could not be met.
        subcarrier_NN: int64, the subcarrier of every link in this slot, -1 for none.
    """

    mask_TE: NDArray[np.bool_]
    feasible_T: NDArray[np.bool_]
    subcarrier_NN: NDArray[np.int64]


def pack_request(policy: str, request: SlotRequest) -> NDArray[np.float32]:
    """Return the array of a request to a scheduler that runs the policy of this name."""
    items, experts = request.scores_TE.shape
    array = np.zeros((1 + items, 1 + 2 * experts), np.float32)
    array[0, :_HEAD] = _crc_halves(policy)
    array[1:, 0] = _exact("bits", request.bits_T)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        array[1:, 1 : 1 + experts] = request.scores_TE
    array[1:, 1 + experts :] = request.reachable_TE
    return array


def unpack_request(policy: str, array: NDArray[np.float32], experts: int, most_bits: int) -> SlotRequest:
    """Return the items in a request to a scheduler that runs this policy.

    Raises:
        RefusedError: the request is for another policy.
        FrameError: a wrong shape, or a value that is not allowed.
    """
    if array.ndim != 2 or len(array) < 2 or array.shape[1] != 1 + 2 * experts:
        raise FrameError(
            f"the request's array has shape {array.shape}; expected (1 + T, {1 + 2 * experts}) for T >= 1 "
            f"items and {experts} experts"
        )
    _same_policy(policy, array)
    bits_T, scores_TE, reachable_TE = np.split(array[1:].astype(np.float64), [1, 1 + experts], axis=1)
    for name, values, right, expected in (
        ("bits", bits_T, (bits_T >= 1) & (bits_T <= most_bits), f"1 to {most_bits}"),
        ("scores", scores_TE, np.isfinite(scores_TE) & (scores_TE >= 0), "finite and >= 0"),
        ("reachable", reachable_TE, np.isin(reachable_TE, (0, 1)), "0 or 1"),
    ):
        if not right.all():
            raise FrameError(f"{name} of the request are {values[~right][0]:g}; expected {expected}")
    return SlotRequest(bits_T[:, 0], scores_TE, reachable_TE == 1)


def pack_reply(policy: str, reply: SlotReply, subcarriers: int) -> NDArray[np.float32]:
    """Return the array of a reply.

    Raises:
        FrameError: a subcarrier does not exist, serves two links, or cannot travel exactly.
    """
    items, nodes = reply.mask_TE.shape
    refuse_shared(reply.subcarrier_NN, subcarriers)
    array = np.zeros((1 + items + nodes, 1 + nodes), np.float32)
    array[0, :_HEAD] = _crc_halves(policy)
    array[1 : 1 + items, 0] = reply.feasible_T
    array[1 : 1 + items, 1:] = reply.mask_TE
    array[1 + items :, 1:] = _exact("subcarriers", reply.subcarrier_NN)
    return array


def unpack_reply(
    policy: str, array: NDArray[np.float32], shape: tuple[int, int], subcarriers: int
) -> SlotReply:
    """Return what a scheduler decided for items and experts of this shape (T, E).

    Raises:
        RefusedError: another policy decided.
        FrameError: a wrong shape, or a value that is not allowed.
    """
    items, nodes = shape
    if array.shape != (expected := (1 + items + nodes, 1 + nodes)):
        raise FrameError(f"the reply's array has shape {array.shape}; expected {expected}")
    _same_policy(policy, array)
    decided = array[1 : 1 + items]
    if not np.isin(decided, (0, 1)).all():
        raise FrameError("the reply's mask holds values other than 0 and 1")
    table_NN = array[1 + items :, 1:]
    if not (np.isfinite(table_NN) & (table_NN == np.rint(table_NN)) & (np.abs(table_NN) < MOST_EXACT)).all():
        raise FrameError("the reply's subcarriers are no whole numbers")
    subcarrier_NN = table_NN.astype(np.int64)
    refuse_shared(subcarrier_NN, subcarriers)
    return SlotReply(decided[:, 1:] == 1, decided[:, 0] == 1, subcarrier_NN)


def _crc_halves(policy: str) -> tuple[int, int]:
    return divmod(zlib.crc32(policy.encode()), 1 << 16)


def _same_policy(policy: str, array: NDArray[np.float32]) -> None:
    if tuple(array[0, :_HEAD].tolist()) != _crc_halves(policy):
        raise RefusedError(f"the policies differ: here it is {policy}")


def _exact(name: str, whole: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float32]:
    """Return whole numbers as float32, refusing those that it would change."""
    exact = whole.astype(np.float32)
    if not np.array_equal(exact.astype(np.float64), whole.astype(np.float64)):
        raise FrameError(f"{name} are up to {whole.max()}; expected whole numbers that float32 holds exactly")
    return exact


def refuse_shared(subcarrier_NN: NDArray[np.int64], subcarriers: int) -> None:
    """Refuse subcarriers that do not exist, and those that two links would use; the diagonal is no link.

    Raises:
        FrameError: the subcarrier that is wrong is named.
    """
    if not ((subcarrier_NN >= -1) & (subcarrier_NN < subcarriers)).all():
        raise FrameError(f"a subcarrier of the slot is out of range; expected -1 to {subcarriers - 1}")
    used_L = subcarrier_NN[~np.eye(len(subcarrier_NN), dtype=np.bool_) & (subcarrier_NN >= 0)]
    number_U, links_U = np.unique(used_L, return_counts=True)
    if (links_U > 1).any():
        shared = number_U[links_U > 1][0]
        raise FrameError(f"subcarrier {shared} of the slot serves {links_U.max()} links; expected one")
