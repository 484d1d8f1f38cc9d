"""The division of an image set among clients."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.checks import indices, integer_at_least, refuse_shape
from airmoe.errors import InvalidInputError
from airmoe.randomness import stream
from airmoe.spec_text import SpecText, SpecTexts

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

    The first two give every image to exactly one client:

    * ``"iid"``: a random permutation is cut into equal parts.
    * ``"ring"``: every client holds a few classes and shares each with a neighbour. With n clients and c
      classes, n <= c, the classes are cut into n arcs, A_i = {j : j n // c = i}. Client i holds A_i and
      A_(i+1 mod n), so every class has two holders. With n = c these are the classes i and i+1 mod c. With
      n > c, client i holds the classes i mod c and i+1 mod c. The images of a class are permuted at random
      and cut into equal parts for its holders.

    A plugin may bring others, which may also leave images out or give one to several clients: the log says
    how many. Equal parts differ by one image at most. `airmoe.randomness.stream` draws, with the purpose
    "partition".

    Args:
        labels: integer, (T,). The classes are the distinct labels, in order.
        clients: number of clients; at least 1 for ``"iid"`` and 2 for ``"ring"``.
        scheme: ``"iid"``, ``"ring"``, or the text of a plugin's partition.
        seed: not negative.
        class_names: what errors call the classes 0, 1, ...; left out, by their labels.

    Returns:
        For each client the indices of its images: int64, sorted.

    Raises:
        InvalidInputError: an argument is none of the above, there are more clients than images, a class has
            fewer images than holders, or a plugin's partition gives other than an array of indices to each
            client.

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
    if isinstance(divide, Ring):
        names, (labels_C, images_C) = dict(enumerate(class_names)), np.unique(labels_T, return_counts=True)
        images = {
            names.get(label, str(label)): n for label, n in zip(labels_C.tolist(), images_C, strict=True)
        }
        divide.refuse_too_many(number, images)
    return _checked(scheme, divide(labels_T, number, stream(seed, "partition")), number, len(labels_T))


def make_partition(text: str) -> Partition:
    """Return the partition of this name.

    Args:
        text: "iid", "ring", or one that a plugin brings.

    Raises:
        InvalidInputError: none of these (the message lists them), or a parameter out of range.
    """
    return _PARTITIONS.read(text)


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


@dataclass(frozen=True)
class Iid(SpecText, rule="iid"):
    """Equal parts of a random permutation."""

    def __call__(
        self, labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """Divide; see `Partition`."""
        return np.array_split(random.permutation(len(labels_T)), clients)


@dataclass(frozen=True)
class Ring(SpecText, rule="ring"):
    """Every client holds a few classes and shares each with a neighbour; see `partition`."""

    fewest_clients: ClassVar[int] = 2

    def __call__(
        self, labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """Divide; see `Partition`."""
        return _ring(labels_T, clients, random)

    def refuse_too_many(self, clients: int, images: Mapping[str, int]) -> None:
        """Refuse so many clients that one gets no image of a class that it holds.

        Args:
            clients: how many.
            images: how many there are of each class, by its name.
        """
        holders_C = map(len, _ring_holders(clients, len(images)))
        for (name, held), holders in zip(images.items(), holders_C, strict=True):
            if held < holders:
                expected = (
                    f"{_most_in_ring(list(images.values()), clients)}, or the partition iid: in a ring, "
                    f"the training images of class {name} ({held}) are shared by {holders} clients"
                )
                raise InvalidInputError("clients", clients, expected)


def _ring(
    labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    classes_C = np.unique(labels_T)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label, holders in zip(classes_C, _ring_holders(clients, len(classes_C)), strict=True):
        of_class = np.flatnonzero(labels_T == label)
        for holder, part in zip(
            holders, np.array_split(random.permutation(of_class), len(holders)), strict=True
        ):
            parts[holder].append(part)
    return [np.concatenate(of_client) for of_client in parts]


def _most_in_ring(images_C: Sequence[int], clients: int) -> str:
    """Return in words how many clients, fewer than so many, leave each holder of a class an image."""
    # With C classes or more, a class has at least 2 * (clients // C) holders.
    above = len(images_C) * (min(images_C) // 2 + 1)
    for fewer in range(min(clients, above) - 1, 1, -1):
        holders = map(len, _ring_holders(fewer, len(images_C)))
        if all(held >= shared for held, shared in zip(images_C, holders, strict=True)):
            return f"at most {fewer}"
    return "2 training images at least in every class"


def _ring_holders(clients: int, classes: int) -> list[list[int]]:
    """Return the clients that hold each class."""
    if clients <= classes:
        arcs = [j * clients // classes for j in range(classes)]
        return [sorted({arc, (arc - 1) % clients}) for arc in arcs]
    return [[i for i in range(clients) if j in (i % classes, (i + 1) % classes)] for j in range(classes)]


_PARTITIONS = SpecTexts[Partition]("partition", (Iid, Ring))
