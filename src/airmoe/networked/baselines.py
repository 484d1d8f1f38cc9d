"""Baselines of the networked MoE: one FedAvg network, and a mixture trained on all data at once.

Shape suffixes: T items, C channels or classes, H height, W width, E experts.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from airmoe.checks import integer_at_least, refuse_type
from airmoe.data import ImageSet, as_pixels
from airmoe.data.split import held_out_split
from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.feature_training import train_network
from airmoe.networked.features import initial_network, norm_of
from airmoe.networked.fedce import Network
from airmoe.nn import MixtureOfExperts, balance_loss, build_model
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.evaluation import macro_f1, outputs_in_batches, routed_answers
from airmoe.seeding import torch_seeded

BALANCE = 1e-2

DECIDING_SHARE = 0.1
"""Share of the training images that decides how long a central mixture is trained."""

PATIENCE = 5
"""Epochs of a central mixture without a gain until its rate drops, or its training ends."""

RATE_DROPS = 2
"""How often the rate of a central mixture drops."""

RATE_FACTOR = 0.1
"""To what part of itself it drops."""


def refuse_without_gradients(config: NetworkedConfig) -> None:
    """Refuse a backbone that gradients do not train.

    Raises:
        InvalidInputError: the backbone is "patches", whose filters would stay as they were drawn.
    """
    if config.model.backbone == "patches":
        expected = "a backbone that gradients train, for this baseline has no sums to fit filters to"
        raise InvalidInputError("model.backbone", config.model.backbone, expected)


def network_of_one_expert(config: NetworkedConfig, data: ClientData) -> Network:
    """Return a network of the run's backbone whose head has the shape of one expert, with initial weights.

    Raises:
        InvalidInputError: as `refuse_without_gradients`.
    """
    refuse_without_gradients(config)

    def head(features: int) -> nn.Module:
        hidden = config.model.expert_hidden
        return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, len(data.class_names)))

    return initial_network(config, data.test_images_TCHW.shape[1:], head)


def train_fedavg_network(
    config: NetworkedConfig, data: ClientData, progress: Progress = silent, *, rounds: int | None = None
) -> tuple[Network, list[MetricsRow]]:
    """Return one network of the same backbone, trained by federated averaging, and the metrics rows.

    Its head has the shape of one expert and is averaged like the rest.

    Args:
        config: the run; settings are those of stage 1.
        data: of all clients.
        progress: told of every round.
        rounds: how many; left out, as many as stage 1 has. `airmoe.networked.equal_budget.equal_rounds`
            returns those that cost as much as all stages of the mixture.

    Raises:
        InvalidInputError: an argument is of another type, ``rounds`` is below 1, or gradients do not train
            the backbone.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("data", data, ClientData)
    if rounds is not None:
        features = config.features.model_copy(update={"rounds": integer_at_least("rounds", rounds, 1)})
        config = config.model_copy(update={"features": features})
    network = network_of_one_expert(config, data)
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
        InvalidInputError: an argument is of another type, ``epochs`` is negative, or gradients do not train
            the backbone.
        TrainingDivergedError: the loss is not finite.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("images", images, ImageSet)
    integer_at_least("epochs", epochs, 0)
    training = _CentralTraining(config, images, torch.arange(len(images.train_labels)))
    rows = list[MetricsRow]()
    for row in training.rows(epochs):
        rows.append(row)
        progress("central MoE", len(rows), epochs, f"loss {row['loss']:.3f}")
    return training.model.eval(), rows


def train_best_central_moe(
    config: NetworkedConfig, images: ImageSet, most_epochs: int, progress: Progress = silent
) -> tuple[MixtureOfExperts, list[MetricsRow]]:
    """Return a mixture as `train_central_moe` does, trained until more training brings nothing.

    A tenth of the training images of each class is held out to decide. After `PATIENCE` epochs without a gain
    of macro-F1 on them, training goes back to the best weights and a tenth of the rate. After `RATE_DROPS`
    such drops it ends there.

    Args:
        config: as `train_central_moe`.
        images: all of the data; images that are held out for all methods decide nothing.
        most_epochs: where it ends at the latest.
        progress: told of every epoch.

    Raises:
        InvalidInputError: an argument is of another type, ``most_epochs`` is below 1, or gradients do not
            train the backbone.
        TrainingDivergedError: the loss is not finite.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("images", images, ImageSet)
    integer_at_least("most_epochs", most_epochs, 1)
    labels_T, classes = images.train_labels, len(images.class_names)
    of_class_C = torch.bincount(torch.from_numpy(labels_T), minlength=classes)
    train_T, deciding_T = held_out_split(labels_T, (of_class_C * DECIDING_SHARE).ceil().long().numpy())
    deciding_TCHW = torch.from_numpy(as_pixels(images.train_images[deciding_T]))
    training = _CentralTraining(config, images, torch.from_numpy(train_T))
    rows, best_f1, best, waited, drops = list[MetricsRow](), -1.0, training.weights(), 0, 0
    for row in training.rows(most_epochs):
        answers_T = top_1_answers(training.model, deciding_TCHW)
        f1 = macro_f1(labels_T[deciding_T], answers_T.numpy(), classes)
        rows.append({**row, "validation_f1": f1})
        progress("central MoE", len(rows), most_epochs, f"macro-F1 {f1:.3f}")
        waited += 1
        if f1 > best_f1:
            best_f1, best, waited = f1, training.weights(), 0
        elif waited == PATIENCE:
            if drops == RATE_DROPS:
                break
            training.go_back(best, RATE_FACTOR)
            waited, drops = 0, drops + 1
    training.model.load_state_dict(best)
    return training.model.eval(), rows


def top_1_answers(model: MixtureOfExperts, images_TCHW: Tensor) -> Tensor:
    """Return the class that each image's best-scored expert names (T,), int64."""
    features_TF = outputs_in_batches(model.extractor, images_TCHW)
    with torch.no_grad():
        scores_TE = model.layer.gate.eval()(features_TF).scores_TE
    probability_TEC = torch.stack([outputs_in_batches(e, features_TF) for e in model.layer.experts], dim=1)
    return torch.from_numpy(routed_answers(scores_TE, probability_TEC))


class _CentralTraining:
    """The training of a mixture in one place, on some of the images."""

    def __init__(self, config: NetworkedConfig, images: ImageSet, train_T: Tensor) -> None:
        refuse_without_gradients(config)
        self._settings, self._seed = config.features, config.seed
        self._pixels_TCHW = torch.from_numpy(as_pixels(images.train_images))
        self._labels_T, self._train_T = torch.from_numpy(images.train_labels), train_T
        _, channels, height, width = self._pixels_TCHW.shape
        with torch_seeded(self._seed, "central weights"):
            self.model = build_model(
                config.model.backbone,
                classes=len(images.class_names),
                experts=config.data.clients,
                channels=channels,
                norm=norm_of(config.model),
                width=config.model.width,
                size=(height, width),
                expert_hidden=config.model.expert_hidden,
            )
        self._optimiser = self._new_optimiser(self._settings.learning_rate)

    def rows(self, epochs: int) -> Iterator[MetricsRow]:
        """Train epoch by epoch; yield a row after each."""
        for epoch in range(epochs):
            loss = self._epoch(epoch)
            if not math.isfinite(loss):
                raise TrainingDivergedError(
                    f"central MoE: the loss is {loss} in epoch {epoch + 1} of {epochs}"
                )
            yield {"stage": "central MoE", "round": epoch + 1, "loss": loss}

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights."""
        return {name: weight.clone() for name, weight in self.model.state_dict().items()}

    def go_back(self, weights: dict[str, Tensor], rate_factor: float) -> None:
        """Go on from these weights, without momentum and at a part of the rate."""
        self.model.load_state_dict(weights)
        self._optimiser = self._new_optimiser(self._optimiser.param_groups[0]["lr"] * rate_factor)

    def _new_optimiser(self, rate: float) -> torch.optim.SGD:
        return torch.optim.SGD(
            self.model.parameters(), lr=rate, momentum=self._settings.momentum, foreach=True
        )

    def _epoch(self, epoch: int) -> float:
        """Train one epoch; return the mean loss."""
        random = stream(self._seed, "central batches", epoch)
        order = self._train_T[torch.from_numpy(random.permutation(len(self._train_T)))]
        total = 0.0
        self.model.train()
        for batch in order.split(self._settings.batch_size):
            output = self.model(self._pixels_TCHW[batch])
            probability_T = output.y_TC[torch.arange(len(batch)), self._labels_T[batch]]
            nll = -probability_T.clamp_min(1e-12).log().mean()
            loss = nll + BALANCE * balance_loss(output.scores_TE)
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
            total += float(nll.detach()) * len(batch)
        return total / len(order)
