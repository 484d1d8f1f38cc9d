"""The ways in which images are divided among clients.

Shape suffixes: T images, C classes, N clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from airmoe.checks import positive_number
from airmoe.errors import InvalidInputError
from airmoe.spec_text import SpecText

MOST_DRAWS = 1000
"""How often shares are drawn until every client has an image."""


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


@dataclass(frozen=True)
class Disjoint(SpecText, rule="disjoint"):
    """The classes are cut into arcs, and every client holds one; see `partition`."""

    def __call__(
        self, labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """Divide; see `Partition`."""
        class_T = np.unique(labels_T, return_inverse=True)[1]
        holder_T = class_T * clients // (class_T.max() + 1)
        return [np.flatnonzero(holder_T == client) for client in range(clients)]

    def refuse_too_many(self, clients: int, images: Mapping[str, int]) -> None:
        """Refuse more clients than classes.

        Args:
            clients: how many.
            images: how many there are of each class, by its name.
        """
        if clients > len(images):
            expected = f"at most {len(images)}, or the partition iid: each client holds a class of its own"
            raise InvalidInputError("clients", clients, expected)


@dataclass(frozen=True)
class Dirichlet(SpecText, rule="dirichlet", needed=1):
    """The shares of a class among the clients come from a Dirichlet distribution; see `partition`.

    Args:
        alpha: the concentration, above 0. At 100 all clients have almost the same share of every class.
    """

    alpha: float

    def __post_init__(self) -> None:
        positive_number("alpha", self.alpha)

    def __call__(
        self, labels_T: NDArray[np.integer], clients: int, random: np.random.Generator
    ) -> list[NDArray[np.int64]]:
        """Divide; see `Partition`.

        Raises:
            InvalidInputError: a client was left without an image in all of `MOST_DRAWS` draws.
        """
        images_C = np.unique(labels_T, return_counts=True)[1]
        shuffled_T = np.argsort(labels_T, kind="stable")
        for of_class in np.split(shuffled_T, np.cumsum(images_C)[:-1]):
            random.shuffle(of_class)
        for _ in range(MOST_DRAWS):
            share_CN = random.dirichlet(np.full(clients, self.alpha), len(images_C))
            end_CN = np.rint(np.cumsum(share_CN, axis=1) * images_C[:, np.newaxis]).astype(np.int64)
            size_CN = np.diff(end_CN, axis=1, prepend=0)
            if size_CN.sum(axis=0).min() > 0:
                break
        else:
            expected = f"fewer, or a larger alpha: in {MOST_DRAWS} draws of {self.name} a client got no image"
            raise InvalidInputError("clients", clients, expected)
        holder_T = np.repeat(np.tile(np.arange(clients), len(images_C)), size_CN.ravel())
        return [shuffled_T[holder_T == client] for client in range(clients)]
