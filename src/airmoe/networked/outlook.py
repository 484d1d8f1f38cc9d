"""What a run will need, told before its long work begins."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from airmoe.checks import refuse_type
from airmoe.data import ImageSet
from airmoe.networked.client_data import refuse_impossible_split
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import Network
from airmoe.nn.threads import training_threads

BATCHES, ENOUGH_S = 9, 2.0
"""Of so many batches the time is measured; of fewer, once they have taken so long together."""

WIDE = 1.5
"""The time is told as a range where the slower batches take so many times as long as the faster ones."""

_FLOAT_BYTES, _FLOAT_BITS = 4, 32


def outlook(
    config: NetworkedConfig, images: ImageSet, *, clock: Callable[[], float] = time.perf_counter
) -> list[str]:
    """Return sentences about the memory, the bytes and the time of a run; a few batches are tried out.

    Args:
        config: the run.
        images: the data.
        clock: seconds that pass.

    Raises:
        InvalidInputError: a backbone that cannot be built, images that cannot be split among the clients, or
            an argument of another type.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("images", images, ImageSet)
    refuse_impossible_split(config, images)
    with training_threads(config.model.backbone):
        return _told(config, images, clock)


def _told(config: NetworkedConfig, images: ImageSet, clock: Callable[[], float]) -> list[str]:
    train, held_out, shape = len(images.train_images), len(images.test_images), images.train_images.shape[1:]
    classes = len(images.class_names)
    network = initial_network(config, shape, lambda features: nn.Linear(features, classes))
    extractor, features = network.extractor, network.extractor.features
    stored_bytes = _FLOAT_BYTES * (train + held_out) * math.prod(shape)
    size = " x ".join(map(str, shape))
    told = [
        f"{train:,} images to train on, {held_out:,} held out, {size}: {_amount(stored_bytes)} of memory",
        f"{features:,} features travel to an expert: {_FLOAT_BITS * features / 1000:,.1f} kbit an image",
    ]
    if extractor.frozen:
        seconds = _seconds(network, shape, extractor.images_at_once, clock, trains=False)
        needed = _duration(seconds * (train + held_out))
        told.append(f"the backbone is frozen: stage 1 is left out; its features take {needed}")
    else:
        stage = config.features
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        exchanged_bytes = 2 * weights * config.data.clients * stage.rounds
        seconds = _seconds(network, shape, min(stage.batch_size, train), clock, trains=True)
        needed = _duration(seconds * (stage.rounds * stage.local_epochs * train))
        told.append(f"stage 1: {needed} on this machine, {_amount(exchanged_bytes)} exchanged in all")
    if config.data.name.startswith("folder:") and math.prod(extractor.size) > math.prod(shape[1:]):
        side = max(extractor.size)
        told.append(f"the backbone enlarges images to {side} pixels: size {side} keeps their detail")
    return told


def _seconds(
    network: Network, shape: Sequence[int], images: int, clock: Callable[[], float], *, trains: bool
) -> NDArray[np.float64]:
    """Return the time for one image, measured on several batches; the first is slower and does not count."""
    images_TCHW, labels_T = torch.zeros(images, *shape), torch.zeros(images, dtype=torch.int64)
    network.train(trains)
    seconds = list[float]()
    while len(seconds) <= BATCHES and sum(seconds[1:]) < ENOUGH_S:
        begin_s = clock()
        with torch.set_grad_enabled(trains):
            logits_TC = network(images_TCHW)
        if trains:
            functional.cross_entropy(logits_TC, labels_T).backward()
        seconds.append(clock() - begin_s)
    return np.array(seconds[1:]) / images


def _amount(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: NDArray[np.float64]) -> str:
    """Return a duration in words: the median, or a range where the machine is at times much slower."""
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    if high < 1:
        return "less than a second"
    unit_s, unit = (1, "s") if low < 100 else (60, "min")
    if high <= WIDE * low:
        return f"about {middle / unit_s:,.0f} {unit}"
    return f"{low / unit_s:,.0f} to {high / unit_s:,.0f} {unit}"
