"""Baselines of the networked MoE: one FedAvg network, and a mixture trained on all data at once.

Shape suffixes: T items, C channels, H height, W width.
"""

import math

import torch
from torch import nn

from airmoe.checks import integer_at_least, refuse_type
from airmoe.data import ImageSet, as_pixels
from airmoe.errors import TrainingDivergedError
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.feature_training import train_network
from airmoe.networked.features import initial_network, norm_of
from airmoe.networked.fedce import Network
from airmoe.nn import MixtureOfExperts, balance_loss, build_model
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.checkpoint import MetricsRow
from airmoe.seeding import torch_seeded

BALANCE = 1e-2


def train_fedavg_network(
    config: NetworkedConfig, data: ClientData, progress: Progress = silent
) -> tuple[Network, list[MetricsRow]]:
    """Return one network of the same backbone, trained by federated averaging for as many rounds as stage 1.

    Its head has the shape of one expert and is averaged like the rest.

    Raises:
        InvalidInputError: an argument is of another type.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("data", data, ClientData)

    def head(features: int) -> nn.Module:
        hidden = config.model.expert_hidden
        return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, len(data.class_names)))

    network = initial_network(config, data.test_images_TCHW.shape[1:], head)
    return network, train_network("fedavg network", config, network, data, progress=progress)


def train_central_moe(
    config: NetworkedConfig, images: ImageSet, epochs: int, progress: Progress = silent
) -> tuple[MixtureOfExperts, list[MetricsRow]]:
    """Return a mixture of the same backbone, trained jointly on all training images in one place, and a row
    per epoch.

    Routing is top-1 with the gate's probability as weight (Switch style). The loss is

        -log(G_j p_j(y)) of the chosen j, plus 0.01 CV^2(batch mean of G)

    Args:
        config: the run; batch size, learning rate and momentum are those of stage 1.
        images: all of the data.
        epochs: passes over it.
        progress: told of every epoch.

    Raises:
        InvalidInputError: an argument is of another type, or ``epochs`` is negative.
        TrainingDivergedError: the loss is not finite.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("images", images, ImageSet)
    integer_at_least("epochs", epochs, 0)
    settings, seed = config.features, config.seed
    pixels_TCHW = torch.from_numpy(as_pixels(images.train_images))
    labels_T = torch.from_numpy(images.train_labels)
    with torch_seeded(seed, "central weights"):
        model = build_model(
            config.model.backbone,
            classes=len(images.class_names),
            experts=config.data.clients,
            channels=pixels_TCHW.shape[1],
            norm=norm_of(config.model),
            width=config.model.width,
            size=(pixels_TCHW.shape[2], pixels_TCHW.shape[3]),
            expert_hidden=config.model.expert_hidden,
        )
    optimiser = torch.optim.SGD(
        model.parameters(), lr=settings.learning_rate, momentum=settings.momentum, foreach=True
    )
    model.train()
    rows = list[MetricsRow]()
    for epoch in range(epochs):
        order = torch.from_numpy(stream(seed, "central batches", epoch).permutation(len(labels_T)))
        total = 0.0
        for batch in order.split(settings.batch_size):
            output = model(pixels_TCHW[batch])
            probability_T = output.y_TC[torch.arange(len(batch)), labels_T[batch]]
            nll = -probability_T.clamp_min(1e-12).log().mean()
            loss = nll + BALANCE * balance_loss(output.scores_TE)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(nll.detach()) * len(batch)
        if not math.isfinite(total):
            raise TrainingDivergedError(f"central MoE: the loss is {total} in epoch {epoch + 1} of {epochs}")
        rows.append({"stage": "central MoE", "round": epoch + 1, "loss": total / len(labels_T)})
        progress("central MoE", epoch + 1, epochs, f"loss {total / len(labels_T):.3f}")
    return model.eval(), rows
