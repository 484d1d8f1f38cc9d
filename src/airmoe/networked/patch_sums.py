"""Stage 1 without gradients: filters of patches from sums over clients.

1. Clients add up moments of their normalised patches; the server has mean and whitening of all.
2. Rounds of spherical k-means (Coates and Ng, 2012): the server tells a dictionary, each client projects its
   whitened patches onto the atoms that fit them best and adds them up by atom, and the server brings the sums
   to length 1.
3. Clients add up moments of the filters' responses to their patches; the server has the principal directions
   whose products become features.

Each step is a sum, so the filters are the same however images fall on clients, but for which patches are
drawn. An atom that a single patch fits best is told by its sum as this patch, but for its brightness and
contrast; with secure sums the server sees sums over all clients alone.

Shape suffixes: T images or patches, C channels, H height, W width, S pixels of a patch, K filters,
J responses above and below zero, D directions, V values of a packed matrix (see `class_sums`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from airmoe.errors import TrainingDivergedError
from airmoe.federated import Message, State
from airmoe.networked.class_sums import packed_gram, unpacked
from airmoe.nn.backbones.patches import PatchExtractor, beyond, normalised
from airmoe.randomness import stream

WHITENING = 0.01
"""Added to the eigenvalues of the patches' covariance, so that whitening does not blow up noise."""

PATCHES_AT_ONCE = 4096
"""So many patches have their responses computed together."""

THRESHOLD = "threshold"
"""Of responses: a number in what the server tells in the last round."""

KEPT_DIRECTION = 1e-3
"""The weight of an atom's old direction in the new one: an atom that fits no patch stays."""


class PatchSumsClient:
    """A client that adds up what filters are fitted to, over patches drawn from its images.

    Args:
        images_TCHW: float32 in [0, 1].
        side: of a patch, pixels.
        patches: drawn from each image.
        seed: the run's seed.
        client: its number.
    """

    def __init__(self, images_TCHW: Tensor, side: int, patches: int, seed: int, client: int) -> None:
        self._images, self._side, self._patches = images_TCHW, side, patches
        self._seed, self._client = seed, client
        self._normal_TS: Tensor | None = None

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """Send moments of the patches in the first round, then sums by atom, last moments of responses."""
        normal_TS = self._normalised().double()
        numbers = {"samples": len(normal_TS)}
        if "dictionary" not in message.tensors:
            return state, Message({"sum": normal_TS.sum(dim=0), "gram": normal_TS.T @ normal_TS}, numbers)
        told = message.tensors
        if THRESHOLD in message.numbers:
            return state, Message(_moments(normal_TS, told, message.numbers[THRESHOLD]), numbers)
        white_TS = functional.normalize((normal_TS - told["mean"]) @ told["whitening"])
        fit_TK = white_TS @ told["dictionary"].T
        best_T = fit_TK.abs().argmax(dim=1)
        best_fit_T1 = fit_TK.gather(1, best_T[:, None])
        sums_KS = torch.zeros_like(told["dictionary"]).index_add_(0, best_T, best_fit_T1 * white_TS)
        return state, Message({"atoms": sums_KS}, {**numbers, "loss": float(1 - best_fit_T1.abs().mean())})

    def _normalised(self) -> Tensor:
        """Return its patches, drawn once."""
        if self._normal_TS is None:
            random = stream(self._seed, "patches", self._client)
            items, _, height, width = self._images.shape
            count, side = items * self._patches, self._side
            row_T, column_T = (random.integers(each - side + 1, size=count) for each in (height, width))
            pixels = self._images.numpy()
            windows = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(2, 3))
            image_T = np.repeat(np.arange(items), self._patches)
            drawn_TS = windows[image_T, :, row_T, column_T].reshape(count, -1)
            self._normal_TS = normalised(torch.from_numpy(drawn_TS))
        return self._normal_TS


def _moments(normal_TS: Tensor, told: State, threshold: float) -> dict[str, Tensor]:
    """Return the sum of the responses (J,) and of their products (V,)."""
    filters_SK = told["whitening"] @ told["dictionary"].T
    totals = list[Tensor]()
    for some_TS in normal_TS.split(PATCHES_AT_ONCE):
        response_TJ = beyond((some_TS - told["mean"]) @ filters_SK, threshold)
        new = [response_TJ.sum(dim=0), packed_gram(response_TJ)]
        totals = [total.add_(more) for total, more in zip(totals, new, strict=True)] if totals else new
    return {"sum": totals[0], "gram": totals[1]}


@dataclass(frozen=True)
class PatchSums:
    """The server's side: its state becomes ``mean``, ``whitening`` and ``dictionary``, float64.

    With directions it becomes ``response_mean`` and ``basis``, too.

    Args:
        name: of the stage.
        clients: how many.
        filters: K.
        seed: the run's seed; it draws the first dictionary.
        k_means_rounds: after the first round, which whitens.
        directions: D, 0 for none; they take the last round.
        threshold: of the responses that have these directions.
    """

    name: str
    clients: int
    filters: int
    seed: int
    k_means_rounds: int
    directions: int
    threshold: float

    exchanges, sums, by_samples = ("sum",), ("sum",), False

    @property
    def rounds(self) -> int:
        """How many there are in all."""
        return patch_rounds(self.k_means_rounds, self.directions)

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Tell all clients what is known so far."""
        last = round_ > self.k_means_rounds and "dictionary" in state
        return dict.fromkeys(range(self.clients), Message(state, {THRESHOLD: self.threshold} if last else {}))

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Do nothing: every exchange is a sum."""
        return state, {}

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Whiten in the first round, and move the atoms in later ones."""
        patches = sum(reply.numbers["samples"] for reply in replies.values())
        if not state:
            return self._whitened(total["sum"] / patches, total["gram"] / patches), {}
        if "atoms" not in total:
            return {**state, **self._directed(total["sum"] / patches, total["gram"] / patches)}, {}
        moved_KS = functional.normalize(total["atoms"] + KEPT_DIRECTION * state["dictionary"])
        return {**state, "dictionary": moved_KS}, {}

    def _whitened(self, mean_S: Tensor, square_SS: Tensor) -> State:
        values_S, vectors_SS = torch.linalg.eigh(square_SS - torch.outer(mean_S, mean_S))
        whitening_SS = (vectors_SS * (values_S.clamp_min(0) + WHITENING).rsqrt()) @ vectors_SS.T
        drawn_KS = stream(self.seed, "first dictionary").normal(size=(self.filters, len(mean_S)))
        dictionary_KS = functional.normalize(torch.from_numpy(drawn_KS))
        return {"mean": mean_S, "whitening": whitening_SS, "dictionary": dictionary_KS}

    def _directed(self, mean_J: Tensor, square_V: Tensor) -> State:
        covariance_JJ = unpacked(square_V, len(mean_J)) - torch.outer(mean_J, mean_J)
        _, vectors_JJ = torch.linalg.eigh(covariance_JJ)
        basis_DJ = vectors_JJ.T.flip(0)[: self.directions]
        largest_D1 = basis_DJ.gather(1, basis_DJ.abs().argmax(dim=1, keepdim=True))
        return {"response_mean": mean_J, "basis": basis_DJ * largest_D1.sign()}  # a vector's sign is free


def patch_rounds(k_means_rounds: int, directions: int) -> int:
    """Return how many rounds there are in all: one that whitens, k-means, one for directions."""
    return 1 + k_means_rounds + bool(directions)


def fit_patches(extractor: PatchExtractor, state: State) -> None:
    """Give an extractor the filters of a server's state, and its directions if it has any.

    Raises:
        TrainingDivergedError: nobody replied in the round that they are fitted in.
    """
    wanted = {"dictionary"} | ({"basis"} if extractor.directions else set())
    if missing := wanted - state.keys():
        raise TrainingDivergedError(f"nobody replied in the round that {', '.join(sorted(missing))} is from")
    extractor.fit(state["mean"], state["whitening"], state["dictionary"])
    if extractor.directions:
        extractor.fit_directions(state["response_mean"], state["basis"])
