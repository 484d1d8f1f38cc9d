"""The images of every client, after a partition has split them.

Shape suffixes: T items, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.checks import refuse_type
from airmoe.data import ImageSet, as_pixels, partition
from airmoe.data.partitions import parts_of
from airmoe.errors import InvalidInputError
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.fedsc import SPECTRAL, refuse_too_few
from airmoe.networked.held_out import HeldOut
from airmoe.showing import OneLine


@dataclass(frozen=True, repr=False)
class ClientData(OneLine):
    """The training images of every client, and the held-out images that nobody trains on.

    ``images_TCHW`` float32 in [0, 1] and ``labels_T`` int64 are lists over clients.
    """

    images_TCHW: list[Tensor]
    labels_T: list[Tensor]
    test_images_TCHW: Tensor
    test_labels_T: NDArray[np.int64]
    class_names: tuple[str, ...]

    @property
    def held_out(self) -> HeldOut:
        """The images that nobody trains on."""
        return HeldOut(self.test_images_TCHW, self.test_labels_T, self.class_names)

    @property
    def holds(self) -> list[list[int]]:
        """The classes in each client's data, ascending."""
        return [labels.unique().tolist() for labels in self.labels_T]


def split_among_clients(config: NetworkedConfig, images: ImageSet) -> ClientData:
    """Split the training images among the clients as the configuration says.

    Raises:
        InvalidInputError: the partition cannot serve that many clients, a client has fewer images than stage
            1 needs, or an argument is of another type.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("images", images, ImageSet)
    parts = _divided(partition, config, images)
    return ClientData(
        [torch.from_numpy(as_pixels(images.train_images[part])) for part in parts],
        [torch.from_numpy(images.train_labels[part]) for part in parts],
        torch.from_numpy(as_pixels(images.test_images)),
        images.test_labels,
        images.class_names,
    )


def held_out_of(images: ImageSet) -> HeldOut:
    """Return the images that nobody trains on."""
    return HeldOut(torch.from_numpy(as_pixels(images.test_images)), images.test_labels, images.class_names)


def images_of_clients(config: NetworkedConfig, images: ImageSet) -> list[int]:
    """Return how many images each client will have, at the cost of the labels alone.

    Raises:
        InvalidInputError: as `split_among_clients`.
    """
    return [len(part) for part in _divided(parts_of, config, images)]


def _divided(
    divide: Callable[..., list[NDArray[np.int64]]], config: NetworkedConfig, images: ImageSet
) -> list[NDArray[np.int64]]:
    data, names = config.data, images.class_names
    try:
        parts = divide(images.train_labels, data.clients, data.partition, seed=config.seed, class_names=names)
    except InvalidInputError as error:
        if error.name != "clients":
            raise
        train, held_out = len(images.train_labels), len(images.test_labels)
        told = f"{error.expected}; there are {train} training images, and {held_out} more are held out"
        raise InvalidInputError("clients", data.clients, told) from None
    if config.features.method in SPECTRAL:
        for client, part in enumerate(parts):
            refuse_too_few(client, len(part))
    return parts
