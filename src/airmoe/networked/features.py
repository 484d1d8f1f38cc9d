"""The shared feature extractor of a run, and what it makes of the clients' images.

Shape suffixes: T items, C channels, H height, W width, F features.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from airmoe.networked.config import ModelSettings, NetworkedConfig
from airmoe.networked.fedce import Network
from airmoe.networked.fedsc import SPECTRAL, projector
from airmoe.nn import Extractor, PooledExtractor, PretrainedExtractor, build_extractor
from airmoe.nn.build import options_of
from airmoe.progress import Progress, silent
from airmoe.runs.evaluation import outputs_in_batches
from airmoe.seeding import torch_seeded


def norm_of(settings: ModelSettings) -> str | None:
    """Return the normalisation: "group" where the backbone has a choice and the settings name none.

    Batch normalisation, ResNet-18's own, has statistics that differ from client to client.
    """
    return settings.norm or ("group" if "norm" in options_of(settings.backbone) else None)


def network_extractor(settings: ModelSettings, image_shape: Sequence[int]) -> Extractor:
    """Return a feature extractor, its weights drawn anew, whose payload is the vector that experts see.

    Args:
        settings: of the networks.
        image_shape: (channels, height, width).

    Raises:
        InvalidInputError: as `airmoe.nn.build_extractor`.
    """
    channels, height, width = image_shape
    extractor = build_extractor(
        settings.backbone, channels, norm_of(settings), settings.width, (height, width)
    )
    if settings.tuned:
        assert isinstance(extractor, PretrainedExtractor)  # the settings say so
        extractor.thaw()
    return extractor if extractor.pooling == "vector" else PooledExtractor(extractor)


def initial_network(
    config: NetworkedConfig, image_shape: Sequence[int], head: Callable[[int], nn.Module]
) -> Network:
    """Return a feature extractor under ``head(features)`` with the run's initial weights.

    Raises:
        InvalidInputError: as `airmoe.nn.build_extractor`.
    """
    with torch_seeded(config.seed, "initial weights"):
        extractor = network_extractor(config.model, image_shape)
        return Network(extractor, head(extractor.features))


def feature_network(config: NetworkedConfig, image_shape: Sequence[int], classes: int) -> Network:
    """Return what stage 1 trains, with the run's initial weights: a feature extractor under a temporary head.

    The head is a projector in FedSC and its baseline, and otherwise linear.

    Args:
        config: the run.
        image_shape: (channels, height, width).
        classes: how many.

    Raises:
        InvalidInputError: as `airmoe.nn.build_extractor`.
    """
    settings = config.features
    if settings.method in SPECTRAL:
        return initial_network(config, image_shape, lambda features: projector(features, settings))
    return initial_network(config, image_shape, lambda features: nn.Linear(features, classes))


def features_of(
    extractor: nn.Module, images_TCHW: Sequence[Tensor], progress: Progress = silent
) -> list[Tensor]:
    """Return the features (T, F) of every client's images.

    Args:
        extractor: an `airmoe.nn.Extractor`.
        images_TCHW: float32 in [0, 1], for each client.
        progress: told of every client, where the extractor is frozen: its features are the long work.
    """
    assert isinstance(extractor, Extractor)
    features_TF = []
    for client, images in enumerate(images_TCHW):
        features_TF.append(outputs_in_batches(extractor, images, extractor.images_at_once))
        if extractor.frozen:
            progress("features of a frozen backbone", client + 1, len(images_TCHW))
    return features_TF
