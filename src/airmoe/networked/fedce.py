"""Stage 1, FedCE: federated averaging of the feature extractor and a head, with cross-entropy.

A round has one exchange, "train": the server sends weights, each client trains and sends its weights back,
and the server averages them (`airmoe.federated.Averaging`).

The head is temporary. In the baseline "one FedAvg network" it has the shape of an expert and is kept.

Shape suffixes: T items, C channels or classes, H height, W width, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from airmoe.errors import InvalidInputError
from airmoe.federated import Message, State
from airmoe.federated.forms import fault_of_form, forms_of
from airmoe.networked.config import FeatureSettings
from airmoe.nn import Extractor
from airmoe.randomness import stream


class Network(nn.Module):
    """A feature extractor under a classifying head; both are averaged in FedCE.

    ``head`` maps features to logits.
    """

    def __init__(self, extractor: Extractor, head: nn.Module) -> None:
        super().__init__()
        self.extractor, self.head = extractor, head

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return logits (T, classes) of images (T, C, H, W) in [0, 1]."""
        return self.head(self.extractor(images_TCHW))  # type: ignore[no-any-return]


def train_epochs(
    network: nn.Module,
    images_T: Tensor,
    labels_T: Tensor,
    settings: FeatureSettings,
    orders: list[Tensor],
    label_smoothing: float = 0.0,
) -> float:
    """Train with SGD over the images in the given orders, one epoch each; return the mean loss.

    Args:
        network: inputs to logits; changed in place.
        images_T: inputs, first axis T.
        labels_T: int64, the classes.
        settings: batch size, learning rate, momentum, weight decay.
        orders: int64 permutations of T.
        label_smoothing: share of a label that is spread over all classes.
    """
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        foreach=True,
    )
    total, samples = torch.zeros(()), 0
    network.train()
    for order in orders:
        for batch in order.split(settings.batch_size):
            logits_TC = network(images_T[batch])
            loss = functional.cross_entropy(logits_TC, labels_T[batch], label_smoothing=label_smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.detach() * len(batch)
            samples += len(batch)
    return float(total) / samples


class FedCeClient:
    """A client of FedCE: SGD with cross-entropy on its own images, momentum begun anew each round.

    Args:
        network: images to logits; or features to logits, where ``images_TCHW`` are features of a frozen
            extractor. It is the workspace; clients of one process share it, since each step loads the
            global weights.
        images_TCHW: float32 in [0, 1], this client's images.
        labels_T: int64, their classes.
        settings: of the stage.
        seed: the run's seed.
        client: this client's number.
    """

    def __init__(
        self,
        network: nn.Module,
        images_TCHW: Tensor,
        labels_T: Tensor,
        settings: FeatureSettings,
        seed: int,
        client: int,
    ) -> None:
        self._network, self._images, self._labels = network, images_TCHW, labels_T
        self._settings, self._seed, self._client = settings, seed, client
        # They share memory with the parameters: training changes them.
        self._weights = network.state_dict()
        self._forms = forms_of(self._weights)

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Train ``local_epochs`` epochs from the weights that the server sent; reply with the new ones."""
        self._load(message.tensors)
        random = stream(self._seed, "fedce batches", int(message.numbers["round"]), self._client)
        orders = [
            torch.from_numpy(random.permutation(len(self._labels)))
            for _ in range(self._settings.local_epochs)
        ]
        loss = train_epochs(self._network, self._images, self._labels, self._settings, orders)
        return state, Message(self._weights, {"samples": len(self._labels), "loss": loss})

    def _load(self, weights: State) -> None:
        """Copy weights into the workspace: ``load_state_dict``, at a tenth of its time."""
        if fault := fault_of_form(weights, self._forms):
            raise InvalidInputError("weights from the server", fault, "those of this client's network")
        torch._foreach_copy_(list(self._weights.values()), [weights[name] for name in self._weights])
