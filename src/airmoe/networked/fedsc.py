"""Stage 1, FedSC: a feature extractor learnt without labels, by spectral contrast across clients.

After Jing et al., ICML 2024 (arXiv 2405.03949); `airmoe.networked.spectral` has the loss, and
`airmoe.networked.correlated_averaging` the server's side. A round has two exchanges, `EXCHANGES`:

* "correlate": the server sends weights. Each client replies with the correlation matrix of its whole local
  set, in evaluation mode, with Gaussian noise if the settings say so.
* "train": the server sends the sum of the matrices. Each client trains with the mean of the others' matrices
  and replies with its weights, of which the server takes the plain mean: every client counts alike.

The projector under which correlations are taken is temporary. Without the first exchange, and with alpha = 1
throughout, the same steps are FedAvg of local spectral contrast, the baseline.

Shape suffixes: T items, B items of a batch, C channels, H height, W width, P values of a projection.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.errors import InvalidInputError
from airmoe.federated import Message, State, composed_epsilon
from airmoe.networked.config import FeatureSettings
from airmoe.networked.fedce import Network
from airmoe.networked.spectral import clipped, cosine_rate, own_weight, spectral_loss
from airmoe.networked.views import view
from airmoe.randomness import stream
from airmoe.runs.weights import not_finite

SPECTRAL = ("fedsc", "local-spectral")
"""The methods of stage 1 whose clients are those of this module."""

EXCHANGES = ("correlate", "train")
"""The exchanges of a round of FedSC. FedAvg of local spectral contrast has the last one alone."""

_WEIGHTS, _OWN, _RELEASES = "weights/", "own correlation", "releases"
"""Names in a client's state. The first two are there within a round; releases are counted from the first."""

MATRIX = "correlation"
"""The name of a client's matrix in its reply."""


def projector(features: int, settings: FeatureSettings) -> nn.Sequential:
    """Return a new projector: features to ``projector_hidden`` values, to ``projector_out``."""
    spectral = settings.spectral
    return nn.Sequential(
        nn.Linear(features, spectral.projector_hidden),
        nn.ReLU(),
        nn.Linear(spectral.projector_hidden, spectral.projector_out),
    )


class SpectralClient:
    """A client of FedSC, and of FedAvg of local spectral contrast; it needs no labels.

    SGD with weight decay, momentum begun anew each round, the gradient clipped, the rate falling along a
    cosine over the rounds.

    The noise is drawn from a stream of ``noise_seed``. Who knows that seed can subtract the noise; so where
    the server is not to, each client has a secret one of its own.

    Args:
        network: images to projections; the workspace, which clients of one process share.
        images_TCHW: float32 in [0, 1], this client's images.
        settings: of the stage.
        clients: how many there are in all, J.
        seed: the run's seed.
        client: this client's number.
        noise_seed: of the noise for privacy; default the run's.

    Raises:
        InvalidInputError: fewer than two images.
    """

    def __init__(
        self,
        network: Network,
        images_TCHW: Tensor,
        settings: FeatureSettings,
        clients: int,
        seed: int,
        client: int,
        noise_seed: int | None = None,
    ) -> None:
        refuse_too_few(client, len(images_TCHW))
        self._network, self._images, self._settings = network, images_TCHW, settings
        self._clients, self._seed, self._client = clients, seed, client
        self._noise_seed = seed if noise_seed is None else noise_seed

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Take the step of an exchange, one of `EXCHANGES`."""
        if exchange == "correlate":
            return self.correlate(state, message)
        return self.train(state, message)

    def correlate(self, state: State, message: Message) -> tuple[State, Message]:
        """Reply with the correlation matrix of all images under the weights that the server sent."""
        round_ = int(message.numbers["round"])
        _refuse_not_finite(message.tensors)
        self._network.load_state_dict(message.tensors)
        bare_PP = self._correlation(round_)
        own_PP = bare_PP + self._noise(round_, bare_PP)
        releases = state.get(_RELEASES, torch.zeros((), dtype=torch.int64)) + 1
        begun = {_WEIGHTS + name: tensor for name, tensor in message.tensors.items()}
        numbers = {"samples": 1.0, "epsilon": self._epsilon(int(releases))}
        return {**begun, _OWN: own_PP, _RELEASES: releases}, Message({MATRIX: own_PP}, numbers)

    def train(self, state: State, message: Message) -> tuple[State, Message]:
        """Train ``local_epochs`` epochs; reply with the weights.

        Raises:
            InvalidInputError: what the server sent is not finite, or "correlate" did not come before.
        """
        round_, settings = int(message.numbers["round"]), self._settings
        alpha, others_PP = 1.0, None
        if settings.method == "local-spectral":
            begun = dict(message.tensors)
            _refuse_not_finite(begun)
        elif _OWN not in state:
            expected = "what exchange correlate left there: this client was started anew since"
            raise InvalidInputError(f"state of client {self._client}", sorted(state), expected)
        else:
            begun = {name.removeprefix(_WEIGHTS): state[name] for name in state if name.startswith(_WEIGHTS)}
            others = int(message.numbers["clients"]) - 1
            if others:
                _refuse_not_finite(message.tensors)
                alpha = own_weight(round_, settings.rounds, self._clients)
                others_PP = (message.tensors["sum"] - state[_OWN]) / others
        self._network.load_state_dict(begun)
        loss = self._train_epochs(round_, alpha, others_PP)
        kept = {_RELEASES: state[_RELEASES]} if _RELEASES in state else {}
        return kept, Message(self._network.state_dict(), {"samples": 1.0, "loss": loss})

    def _train_epochs(self, round_: int, alpha: float, others_PP: Tensor | None) -> float:
        """Train the workspace; return the mean loss of an image."""
        settings, spectral, items = self._settings, self._settings.spectral, len(self._images)
        optimiser = torch.optim.SGD(
            self._network.parameters(),
            lr=cosine_rate(spectral.learning_rate, round_, settings.rounds),
            momentum=settings.momentum,
            weight_decay=spectral.weight_decay,
            foreach=True,
        )
        random = stream(self._seed, "spectral batches", round_, self._client)
        steps = math.ceil(items / settings.batch_size)
        self._network.train()
        told = torch.zeros(())
        for _ in range(settings.local_epochs):
            # Batches of equal size: an image that is left over has nothing to be told from.
            for batch in torch.from_numpy(random.permutation(items)).tensor_split(steps):
                images_BCHW = self._images[batch]
                views_BCHW = torch.cat([self._view(images_BCHW, random) for _ in range(2)])
                first_BP, second_BP = self._project(views_BCHW).chunk(2)
                loss = spectral_loss(first_BP, second_BP, alpha, others_PP)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._network.parameters(), spectral.gradient_clip)
                optimiser.step()
                told += loss.detach() * len(batch)
        return float(told) / (items * settings.local_epochs)

    def _correlation(self, round_: int) -> Tensor:
        """Return the correlation matrix (P, P) of all images, each in a few views."""
        random = stream(self._seed, "correlation views", round_, self._client)
        passes, sums = self._settings.spectral.augmentation_passes, list[Tensor]()
        self._network.eval()
        with torch.no_grad():
            for _ in range(passes):
                for images_BCHW in self._images.split(self._network.extractor.images_at_once):
                    projections_BP = self._project(self._view(images_BCHW, random)).double()
                    sums.append(projections_BP.T @ projections_BP)
        return (torch.stack(sums).sum(dim=0) / (passes * len(self._images))).float()

    def _noise(self, round_: int, bare_PP: Tensor) -> Tensor:
        """Return the noise (P, P): a draw for each value on and above the diagonal, mirrored below.

        The matrix is symmetric, so noise that is not could be halved by whoever gets it. The draw belongs to
        this very matrix: a release that is repeated is the same, and another matrix, as after other weights
        or with another image, never gets the same noise, which the difference of the two would be free of.
        """
        spectral = self._settings.spectral
        matrix = int.from_bytes(hashlib.sha256(bare_PP.numpy().tobytes()).digest())
        random = stream(self._noise_seed, "correlation noise", round_, self._client, matrix)
        drawn_PP = random.normal(0, spectral.noise_std, (spectral.projector_out,) * 2)
        upper_PP = torch.from_numpy(drawn_PP).float().triu()
        return upper_PP + upper_PP.triu(1).T

    def _project(self, images_BCHW: Tensor) -> Tensor:
        return clipped(self._network(images_BCHW), self._settings.spectral.mu)

    def _view(self, images_BCHW: Tensor, random: np.random.Generator) -> Tensor:
        spectral = self._settings.spectral
        return view(images_BCHW, spectral.smallest_part, spectral.flip, random)

    def _epsilon(self, releases: int) -> float:
        """Return the privacy spent, where the number of images is taken as known.

        An image that is left out, the number kept, moves the matrix by at most mu / images in Frobenius norm.
        """
        spectral = self._settings.spectral
        sensitivity = spectral.mu / len(self._images)
        return composed_epsilon(sensitivity, spectral.noise_std, releases, spectral.delta)


def refuse_too_few(client: int, images: int) -> None:
    """Refuse a client that has too few images for spectral contrast.

    Raises:
        InvalidInputError: there are fewer than two.
    """
    if images < 2:
        expected = "at least 2: spectral contrast tells one image from another"
        raise InvalidInputError(f"images of client {client}", images, expected)


def _refuse_not_finite(sent: State) -> None:
    if name := not_finite(sent):
        raise InvalidInputError(f"{name} from the server", "not finite", "finite numbers")
