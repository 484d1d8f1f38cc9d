"""ResNet-18 and a vision transformer in stage 1, by FedCE and by FedSC."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from airmoe.data import ImageSet
from airmoe.federated import Averaging, Client, Loop, federate
from airmoe.networked import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.correlated_averaging import CorrelatedAveraging
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import FedCeClient, Network
from airmoe.networked.fedsc import EXCHANGES, SpectralClient, projector
from airmoe.networked.spectral import clipped, spectral_loss
from airmoe.networked.views import view

Config = Callable[..., NetworkedConfig]
BACKBONES = {"resnet18": 4, "vit": 12}
"""Each with a small width."""

CLASSES, CLIENTS, SIDE = 3, 2, 16


def coloured(images: int = 36) -> ImageSet:
    """Noisy pictures whose class is the channel that is bright."""
    random = np.random.default_rng(0)
    labels_T = np.arange(images) % CLASSES
    images_TCHW = random.integers(0, 128, (images, 3, SIDE, SIDE), dtype=np.uint8)
    images_TCHW[np.arange(images), labels_T] += 127
    return ImageSet("colours", images_TCHW, labels_T, images_TCHW, labels_T, ("red", "green", "blue"))


def config_of(tiny_config: Config, backbone: str, **features: object) -> NetworkedConfig:
    return tiny_config(
        model={"backbone": backbone, "width": BACKBONES[backbone]},
        features={"rounds": 1, "local_epochs": 4, "batch_size": 6, "learning_rate": 0.05, **features},
    )


def seen_at_once(images_TCHW: Tensor, network: Network) -> float:
    """The objective of FedSC over all images, in views that are always the same."""
    random = np.random.default_rng(0)
    with torch.no_grad():
        first, second = (clipped(network(view(images_TCHW, 0.2, True, random)), 4.0) for _ in range(2))
    return float(spectral_loss(first, second))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_round_of_fedce_lowers_the_loss_over_all_images(tiny_config: Config, backbone: str) -> None:
    config = config_of(tiny_config, backbone)
    data = split_among_clients(config, coloured())
    network = initial_network(config, (3, SIDE, SIDE), lambda features: nn.Linear(features, CLASSES))
    images_TCHW, labels_T = torch.cat(data.images_TCHW), torch.cat(data.labels_T)

    def loss() -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(network(images_TCHW), labels_T))

    each = enumerate(zip(data.images_TCHW, data.labels_T, strict=True))
    clients: list[Client] = [
        FedCeClient(network, images, labels, config.features, 0, client) for client, (images, labels) in each
    ]
    before = loss()
    state, _ = federate(Averaging("features", CLIENTS), network.state_dict(), Loop(clients), 1)
    network.load_state_dict(state)
    assert loss() < 0.95 * before


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_round_of_fedsc_lowers_the_objective_over_all_images(tiny_config: Config, backbone: str) -> None:
    spectral = {"projector_hidden": 16, "projector_out": 8, "augmentation_passes": 1, "learning_rate": 0.05}
    config = config_of(tiny_config, backbone, method="fedsc", spectral=spectral)
    data = split_among_clients(config, coloured())
    network = initial_network(config, (3, SIDE, SIDE), lambda features: projector(features, config.features))
    clients: list[Client] = [
        SpectralClient(network, images, config.features, CLIENTS, 0, client)
        for client, images in enumerate(data.images_TCHW)
    ]
    before = seen_at_once(torch.cat(data.images_TCHW), network)
    stage = CorrelatedAveraging(Averaging("features", CLIENTS, EXCHANGES), width=8)
    state, _ = federate(stage, network.state_dict(), Loop(clients), 1)
    network.load_state_dict(state)
    assert seen_at_once(torch.cat(data.images_TCHW), network) < before - 0.1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_normalisation_looks_at_other_images(tiny_config: Config, backbone: str) -> None:
    config = config_of(tiny_config, backbone)
    network = initial_network(config, (3, SIDE, SIDE), lambda features: nn.Linear(features, CLASSES)).train()
    images = torch.rand(5, 3, SIDE, SIDE)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)
    assert not any("running" in name for name in network.state_dict())
    with pytest.raises(ValueError, match="norm"):
        tiny_config(model={"backbone": "resnet18", "norm": "batch"})
