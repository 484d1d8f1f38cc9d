"""What a run will need, told before its long work begins."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from airmoe.checks import refuse_type
from airmoe.data import ImageSet
from airmoe.federated import Participation, composed_epsilon
from airmoe.networked.client_data import images_of_clients
from airmoe.networked.config import NetworkedConfig, SpectralSettings
from airmoe.networked.features import feature_network
from airmoe.networked.fedce import Network
from airmoe.networked.fedsc import SPECTRAL
from airmoe.networked.node import FEATURES
from airmoe.networked.patch_sums import patch_rounds
from airmoe.nn import PatchExtractor
from airmoe.nn.threads import training_threads

BATCHES, ENOUGH_S = 9, 2.0
"""Of so many batches the time is measured; of fewer, once they have taken so long together."""

WIDE = 1.5
"""The time is told as a range where the slower batches take so many times as long as the faster ones."""

_FLOAT_BYTES, _FLOAT_BITS = 4, 32


def outlook(
    config: NetworkedConfig, images: ImageSet, *, clock: Callable[[], float] = time.perf_counter
) -> list[str]:
    """Return sentences about the memory, bytes, time and privacy of a run; a few batches are tried out.

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
    of_clients = images_of_clients(config, images)
    with training_threads(config.model.backbone):
        return _told(config, images, of_clients, clock)


def _told(
    config: NetworkedConfig, images: ImageSet, of_clients: list[int], clock: Callable[[], float]
) -> list[str]:
    train, held_out, shape = len(images.train_images), len(images.test_images), images.train_images.shape[1:]
    network = feature_network(config, shape, len(images.class_names))
    extractor, features = network.extractor, network.extractor.features
    stored_bytes = _FLOAT_BYTES * (train + held_out) * math.prod(shape)
    size = " x ".join(map(str, shape))
    told = [
        f"{train:,} images to train on, {held_out:,} held out, {size}: {_amount(stored_bytes)} of memory",
        f"{features:,} features travel to an expert: {_FLOAT_BITS * features / 1000:,.1f} kbit an image",
    ]
    if extractor.frozen:
        seconds = _seconds(_evaluation(network, shape, extractor.images_at_once), clock)
        needed = _duration(seconds / extractor.images_at_once * (train + held_out))
        told.append(f"the backbone is frozen: stage 1 is left out; its features take {needed}")
    elif isinstance(extractor, PatchExtractor):
        rounds = patch_rounds(config.features.patches.rounds, extractor.directions)
        told.append(f"stage 1: {rounds} rounds of sums over the clients")
    else:
        told += _stage_1(config, network, shape, of_clients, clock)
    if config.data.name.startswith("folder:") and math.prod(extractor.size) > math.prod(shape[1:]):
        side = max(extractor.size)
        told.append(f"the backbone enlarges images to {side} pixels: size {side} keeps their detail")
    return told


def _stage_1(
    config: NetworkedConfig,
    network: Network,
    shape: Sequence[int],
    of_clients: list[int],
    clock: Callable[[], float],
) -> list[str]:
    stage, spectral = config.features, config.features.spectral
    participation = Participation(stage.participation, config.seed)
    drawn = [participation.drawn(FEATURES, round_, len(of_clients)) for round_ in range(stage.rounds)]
    rounds_of = np.bincount(np.concatenate(drawn), minlength=len(of_clients))
    trained_images = int(rounds_of @ np.array(of_clients))
    batch = min(stage.batch_size, sum(of_clients))
    exchanged_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    views = 2 if stage.method in SPECTRAL else 1
    seconds = _seconds(_training(network, shape, views * batch), clock) / batch
    seconds = seconds * (stage.local_epochs * trained_images)
    privacy = []
    if stage.method == "fedsc":
        exchanged_bytes += _FLOAT_BYTES * spectral.projector_out**2
        passes = _seconds(_evaluation(network, shape, batch), clock) / batch
        seconds = seconds + np.median(passes) * spectral.augmentation_passes * trained_images
        privacy = [_privacy(spectral, of_clients, rounds_of)]
    exchanged = _amount(2 * exchanged_bytes * int(rounds_of.sum()))
    if config.federation.secure_sums:
        exchanged += ", and half as much again for secure sums,"
    return [f"stage 1: {_duration(seconds)} on this machine, {exchanged} exchanged in all", *privacy]


def _privacy(spectral: SpectralSettings, of_clients: list[int], rounds_of: NDArray[np.int64]) -> str:
    if not spectral.noise_std:
        return "no privacy: correlation matrices and weights are sent as they are (noise_std is 0)"
    spent = [
        composed_epsilon(spectral.mu / images, spectral.noise_std, int(releases), spectral.delta)
        for images, releases in zip(of_clients, rounds_of, strict=True)
    ]
    return (
        f"privacy of the correlation matrices in the end: epsilon {min(spent):.3g} to {max(spent):.3g} over "
        f"the clients, delta {spectral.delta:g}; the weights have none"
    )


def _evaluation(network: Network, shape: Sequence[int], images: int) -> Callable[[], None]:
    """Return what evaluates a batch."""
    images_TCHW = torch.zeros(images, *shape)

    def step() -> None:
        network.eval()
        with torch.no_grad():
            network(images_TCHW)

    return step


def _training(network: Network, shape: Sequence[int], images: int) -> Callable[[], None]:
    """Return what takes the gradient of a batch."""
    images_TCHW, labels_T = torch.zeros(images, *shape), torch.zeros(images, dtype=torch.int64)

    def step() -> None:
        network.train()
        functional.cross_entropy(network(images_TCHW), labels_T).backward()

    return step


def _seconds(step: Callable[[], None], clock: Callable[[], float]) -> NDArray[np.float64]:
    """Return the time for a step, measured several times; the first is slower and does not count."""
    seconds = list[float]()
    while len(seconds) <= BATCHES and sum(seconds[1:]) < ENOUGH_S:
        begin_s = clock()
        step()
        seconds.append(clock() - begin_s)
    return np.array(seconds[1:])


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
