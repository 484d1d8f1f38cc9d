"""A check that the mesh answers as the same mixture does in one process; else the demonstration ends.

Shape suffixes: T images, C channels or classes, H height, W width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from airmoe.data import as_pixels
from airmoe.errors import MeshError
from airmoe.mesh import MeshClient
from airmoe.nn import MixtureOfExperts
from airmoe.scheduling import TopK

SAME_ANSWERS = 1e-5
"""Largest difference allowed between the mesh and the same mixture in one process."""

BATCH = 45
"""Images in one query."""


def mesh_minus_simulation(
    clients: Sequence[MeshClient], model: MixtureOfExperts, images_TCHW: NDArray[np.uint8]
) -> float:
    """Return the largest difference between class probabilities from the mesh and from one process.

    The mesh answers by top-1 and top-2; the same mixture answers with all experts in this process.

    Raises:
        MeshError: they differ by more than `SAME_ANSWERS`.
    """
    worst = 0.0
    for client, _, part_TCHW in batches_in_turn(clients, images_TCHW):
        for policy in (TopK(1), TopK(2)):
            with torch.no_grad():
                expected_TC = model(torch.from_numpy(as_pixels(part_TCHW)), policy=policy).y_TC.numpy()
            answered_TC = client.predict(part_TCHW, policy=policy).probability_TC
            worst = max(worst, float(np.abs(answered_TC - expected_TC).max()))
    return refused_if_large(worst)


def batches_in_turn(
    clients: Sequence[MeshClient], images_TCHW: NDArray[np.uint8]
) -> Iterator[tuple[MeshClient, int, NDArray[np.uint8]]]:
    """Yield the client that asks next, the number of its first image, and its images."""
    for index, start in enumerate(range(0, len(images_TCHW), BATCH)):
        yield clients[index % len(clients)], start, images_TCHW[start : start + BATCH]


def refused_if_large(difference: float) -> float:
    """Return a difference between mesh and simulation.

    Raises:
        MeshError: it is larger than `SAME_ANSWERS`, or NaN.
    """
    if not difference <= SAME_ANSWERS:
        raise MeshError(
            f"the mesh and the same mixture in one process differ by {difference}; "
            f"expected at most {SAME_ANSWERS}"
        )
    return difference
