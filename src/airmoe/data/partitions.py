"""The division of an image set among clients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError
from airmoe.randomness import stream


def partition(
    labels: NDArray[np.integer], clients: int, scheme: str, *, seed: int
) -> list[NDArray[np.int64]]:
    """Give every image to exactly one client.

    * ``"iid"``: a random permutation is cut into equal parts.
    * ``"ring"``: every client holds a few classes and shares each with a neighbour. With n clients and c
      classes, n <= c, the classes are cut into n arcs, A_i = {j : j n // c = i}. Client i holds A_i and
      A_(i+1 mod n), so every class has two holders. With n = c these are the classes i and i+1 mod c. With
      n > c, client i holds the classes i mod c and i+1 mod c. The images of a class are permuted at random
      and cut into equal parts for its holders.

    Equal parts differ by one image at most. `airmoe.randomness.stream` with the purpose "partition" draws.

    Args:
        labels: integer, (T,). The classes are the distinct labels, in order.
        clients: number of clients; at least 1 for ``"iid"`` and 2 for ``"ring"``.
        scheme: ``"iid"`` or ``"ring"``.
        seed: not negative.

    Returns:
        For each client the indices of its images: int64, sorted.

    Raises:
        InvalidInputError: an argument is none of the above, there are more clients than images, or a class
            has fewer images than holders.

    Examples:
        >>> import numpy as np
        >>> from airmoe.data import partition
        >>> labels_T = np.array([0, 1, 2] * 4)
        >>> held = partition(labels_T, clients=3, scheme="ring", seed=0)
        >>> [np.unique(labels_T[images]).tolist() for images in held]
        [[0, 1], [1, 2], [0, 2]]
    """
    labels_T = np.asarray(labels)
    if labels_T.ndim != 1 or labels_T.dtype.kind not in "iu":
        raise InvalidInputError("labels", f"{labels_T.dtype}{labels_T.shape}", "integers of shape (T,)")
    if scheme not in _SCHEMES:
        raise InvalidInputError("scheme", scheme, " or ".join(_SCHEMES))
    integer_at_least("seed", seed, 0)
    fewest_clients, divide = _SCHEMES[scheme]
    if type(clients) is not int or not fewest_clients <= clients <= len(labels_T):
        raise InvalidInputError(
            "clients",
            clients,
            f"{fewest_clients} to {len(labels_T)} (the number of images) for scheme {scheme!r}",
        )
    return divide(labels_T, clients, stream(seed, "partition"))


def _iid(labels_T: NDArray[np.integer], clients: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
    return [np.sort(part) for part in np.array_split(random.permutation(len(labels_T)), clients)]


def _ring(
    labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
) -> list[NDArray[np.int64]]:
    classes_C = np.unique(labels_T)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label, holders in zip(classes_C, _ring_holders(clients, len(classes_C)), strict=True):
        of_class = np.flatnonzero(labels_T == label)
        if len(of_class) < len(holders):
            raise InvalidInputError(
                "clients",
                clients,
                f"as many images as holders in every class, but class {label} has {len(of_class)} images "
                f"for {len(holders)} holders",
            )
        for holder, part in zip(
            holders, np.array_split(random.permutation(of_class), len(holders)), strict=True
        ):
            parts[holder].append(part)
    return [np.sort(np.concatenate(of_client)) for of_client in parts]


def _ring_holders(clients: int, classes: int) -> list[list[int]]:
    """Return the clients that hold each class."""
    if clients <= classes:
        arcs = [j * clients // classes for j in range(classes)]
        return [sorted({arc, (arc - 1) % clients}) for arc in arcs]
    return [[i for i in range(clients) if j in (i % classes, (i + 1) % classes)] for j in range(classes)]


_Divide = Callable[[NDArray[np.integer], int, np.random.Generator], list[NDArray[np.int64]]]
_SCHEMES: dict[str, tuple[int, _Divide]] = {"iid": (1, _iid), "ring": (2, _ring)}
