"""The division of an image set among clients."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import indices, integer_at_least, refuse_shape
from airmoe.data.index_lists import IndexLists
from airmoe.data.schemes import Dirichlet, Disjoint, Iid, Ring
from airmoe.errors import InvalidInputError
from airmoe.randomness import stream
from airmoe.spec_text import SpecTexts

_log = logging.getLogger("airmoe.data")


class Partition(Protocol):
    """A division of images among clients; `airmoe.plugins` brings your own."""

    def __call__(
        self, labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
    ) -> Sequence[ArrayLike]:
        """Return for each client the indices of its images, one at least, none twice."""
        ...


def partition(
    labels: NDArray[np.integer], clients: int, scheme: str, *, seed: int, class_names: Sequence[str] = ()
) -> list[NDArray[np.int64]]:
    """Divide images among clients.

    These give every image to exactly one client:

    * ``"iid"``: a random permutation is cut into equal parts.
    * ``"disjoint"``: the classes are cut into as many arcs as there are clients, and client i holds A_i, as
      below, alone.
    * ``"dirichlet:ALPHA"``: the shares of a class among the clients are drawn from a symmetric Dirichlet
      distribution of this concentration. The smaller it is, the fewer classes has a client. All shares are
      drawn again until each client has an image.
    * ``"ring"``: every client holds a few classes and shares each with a neighbour. With n clients and c
      classes, n <= c, the classes are cut into n arcs, A_i = {j : j n // c = i}. Client i holds A_i and
      A_(i+1 mod n), so every class has two holders. With n = c these are the classes i and i+1 mod c. With
      n > c, client i holds the classes i mod c and i+1 mod c. The images of a class are permuted at random
      and cut into equal parts for its holders.

    ``"lists:FILE"`` is your own division. FILE is JSON with a list for each client: the indices of its
    training images, as in ``[[0, 5, 7], [1, 2]]``. ``clients`` is the number of lists. No list is empty, and
    no index stands there twice, in one list or in two. The file has 16 MiB at most.

    Lists may leave images out. So may the partitions that a plugin brings, which may also give an image to
    several clients: the log says how many. Equal parts differ by one image at most.
    `airmoe.randomness.stream` draws, with the purpose "partition".

    Args:
        labels: integer, (T,). The classes are the distinct labels, in order.
        clients: number of clients; at least 2 for ``"ring"``, at most one for each class for ``"disjoint"``,
            one for each list for ``"lists:FILE"``.
        scheme: one of the above, or the text of a plugin's partition.
        seed: not negative.
        class_names: what errors call the classes 0, 1, ...; left out, by their labels.

    Returns:
        For each client the indices of its images: int64, sorted.

    Raises:
        InvalidInputError: an argument is none of the above, there are more clients than images, a class has
            fewer images than holders, no draw of shares left an image for each client, or a plugin's
            partition gives other than an array of indices to each client. Of lists, the message names client
            and place.
        DataError: a file of lists that is missing, too large, or no JSON.

    Examples:
        >>> import numpy as np
        >>> from airmoe.data import partition
        >>> labels_T = np.array([0, 1, 2] * 4)
        >>> held = partition(labels_T, clients=3, scheme="ring", seed=0)
        >>> [np.unique(labels_T[images]).tolist() for images in held]
        [[0, 1], [1, 2], [0, 2]]
    """
    parts = parts_of(labels, clients, scheme, seed=seed, class_names=class_names)
    held_T = np.bincount(np.concatenate(parts), minlength=len(labels))
    left_out, shared = int((held_T == 0).sum()), int((held_T > 1).sum())
    if left_out or shared:
        told = "partition %s: of %d images %d go to no client, %d to several"
        _log.warning(told, scheme, len(labels), left_out, shared)
    return parts


def parts_of(
    labels: NDArray[np.integer], clients: int, scheme: str, *, seed: int, class_names: Sequence[str] = ()
) -> list[NDArray[np.int64]]:
    """Divide images among clients as `partition` does, and log nothing."""
    labels_T = np.asarray(labels)
    if labels_T.ndim != 1 or labels_T.dtype.kind not in "iu":
        raise InvalidInputError("labels", f"{labels_T.dtype}{labels_T.shape}", "integers of shape (T,)")
    try:
        divide = make_partition(scheme)
    except InvalidInputError as error:
        if error.name != "partition":
            raise
        raise InvalidInputError("scheme", scheme, error.expected) from None
    integer_at_least("seed", seed, 0)
    fewest_clients = getattr(divide, "fewest_clients", 1)
    expected = f"{fewest_clients} to {len(labels_T)} (the number of training images)"
    try:
        number = integer_at_least("clients", clients, fewest_clients)
    except InvalidInputError:
        number = len(labels_T) + 1
    if number > len(labels_T):
        raise InvalidInputError("clients", clients, f"{expected} for scheme {scheme!r}")
    if isinstance(divide, Ring | Disjoint):
        names, (labels_C, images_C) = dict(enumerate(class_names)), np.unique(labels_T, return_counts=True)
        images = {
            names.get(label, str(label)): n for label, n in zip(labels_C.tolist(), images_C, strict=True)
        }
        divide.refuse_too_many(number, images)
    return _checked(scheme, divide(labels_T, number, stream(seed, "partition")), number, len(labels_T))


def make_partition(text: str) -> Partition:
    """Return the partition of this name.

    Args:
        text: one of `partition`'s, or one that a plugin brings.

    Raises:
        InvalidInputError: none of these (the message lists them), or a parameter out of range.
    """
    return _PARTITIONS.read(text)


def partition_digest(scheme: str) -> str:
    """Return SHA-256 of the file that a partition reads; "" unless it is ``"lists:FILE"``.

    Raises:
        InvalidInputError: no partition of this name.
        DataError: the file is missing, too large, or no regular file.
    """
    divide = make_partition(scheme)
    return divide.digest if isinstance(divide, IndexLists) else ""


def refuse_other_lists(scheme: str, clients: int) -> None:
    """Refuse, before any image is read, a file of lists that is not there or has no list for each client.

    Raises:
        InvalidInputError: as `partition`.
        DataError: as `partition`.
    """
    divide = make_partition(scheme)
    if isinstance(divide, IndexLists):
        divide.refuse_other_number(clients)


def _checked(scheme: str, parts: Sequence[ArrayLike], clients: int, items: int) -> list[NDArray[np.int64]]:
    """Return the parts as sorted int64 arrays."""
    name = f"partition {scheme}"
    if len(parts) != clients:
        raise InvalidInputError(f"arrays of {name}", len(parts), f"{clients}, one for each client")
    checked = []
    for client, part in enumerate(parts):
        index_I = indices(f"{name}, client {client}", part, 0, items - 1)
        refuse_shape(f"{name}, client {client}", index_I, (index_I.size,), "one dimension")
        sorted_I = np.unique(index_I)
        if not len(index_I) or len(sorted_I) != len(index_I):
            said = f"{len(index_I)} indices, {len(sorted_I)} of them different"
            raise InvalidInputError(f"{name}, client {client}", said, "one at least, and none twice")
        checked.append(sorted_I)
    return checked


_PARTITIONS = SpecTexts[Partition]("partition", (Iid, Ring, Disjoint, Dirichlet, IndexLists))
