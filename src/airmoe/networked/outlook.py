"""What a run will need, told before its long work begins."""

import math
import time

import torch
from torch import nn
from torch.nn import functional

from airmoe.data import ImageSet
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import Network

_FLOAT_BYTES, _FLOAT_BITS = 4, 32


def outlook(config: NetworkedConfig, images: ImageSet) -> list[str]:
    """Return sentences about the memory, the bytes and the time of a run; a batch is tried out for these.

    Args:
        config: the run.
        images: the data.

    Raises:
        InvalidInputError: a backbone that cannot be built.
    """
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
        seconds = _seconds(network, shape, extractor.images_at_once, trains=False) * (train + held_out)
        told.append(f"the backbone is frozen: stage 1 is left out; its features take {_duration(seconds)}")
    else:
        stage = config.features
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        exchanged_bytes = 2 * weights * config.data.clients * stage.rounds
        seconds = _seconds(network, shape, min(stage.batch_size, train), trains=True)
        seconds *= stage.rounds * stage.local_epochs * train
        told.append(
            f"stage 1: {_duration(seconds)} on this machine, {_amount(exchanged_bytes)} exchanged in all"
        )
    if config.data.name.startswith("folder:") and math.prod(extractor.size) > math.prod(shape[1:]):
        side = max(extractor.size)
        told.append(f"the backbone enlarges images to {side} pixels: size {side} keeps their detail")
    return told


def _seconds(network: Network, shape: tuple[int, ...], images: int, *, trains: bool) -> float:
    """Return the time for one image, measured on the second of two batches: the first is slower."""
    images_TCHW, labels_T = torch.zeros(images, *shape), torch.zeros(images, dtype=torch.int64)
    network.train(trains)
    begin_s = 0.0
    for _ in range(2):
        begin_s = time.perf_counter()
        with torch.set_grad_enabled(trains):
            logits_TC = network(images_TCHW)
        if trains:
            functional.cross_entropy(logits_TC, labels_T).backward()
    return (time.perf_counter() - begin_s) / images


def _amount(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:,.0f} s" if seconds < 100 else f"about {seconds / 60:,.0f} min"
