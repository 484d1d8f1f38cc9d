"""Stage 1 without gradients: filters of patches from sums over clients.

1. Clients add up moments of their normalised patches; the server has mean and whitening of all.
2. Rounds of spherical k-means (Coates and Ng, 2012): the server tells a dictionary, each client projects its
   whitened patches onto the atoms that fit them best and adds them up by atom, and the server brings the sums
   to length 1.

Each step is a sum, so the filters are the same however images fall on clients, but for which patches are
drawn. No patch leaves its client.

Shape suffixes: T images or patches, C channels, H height, W width, S pixels of a patch, K filters.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from airmoe.federated import Message, State
from airmoe.nn.backbones.patches import PatchExtractor, normalised
from airmoe.randomness import stream

WHITENING = 0.01
"""Added to the eigenvalues of the patches' covariance, so that whitening does not blow up noise."""

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
        """Send the moments in the first round, later the sums by atom."""
        normal_TS = self._normalised().double()
        numbers = {"samples": len(normal_TS)}
        if "dictionary" not in message.tensors:
            return state, Message({"sum": normal_TS.sum(dim=0), "gram": normal_TS.T @ normal_TS}, numbers)
        told = message.tensors
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


class PatchSums:
    """The server's side: its state becomes ``mean``, ``whitening`` and ``dictionary``, float64.

    Args:
        name: of the stage.
        clients: how many.
        filters: K.
        seed: the run's seed; it draws the first dictionary.
    """

    exchanges, sums, by_samples = ("sum",), ("sum",), False

    def __init__(self, name: str, clients: int, filters: int, seed: int) -> None:
        self.name, self._clients, self._filters, self._seed = name, clients, filters, seed

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Tell all clients what is known so far."""
        return dict.fromkeys(range(self._clients), Message(state))

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Do nothing: every exchange is a sum."""
        return state, {}

    def sum_step(
        self, exchange: str, state: State, total: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Whiten in the first round, and move the atoms in later ones."""
        if not replies:
            return state, {}
        if not state:
            patches = sum(reply.numbers["samples"] for reply in replies.values())
            return self._whitened(total["sum"] / patches, total["gram"] / patches), {}
        moved_KS = functional.normalize(total["atoms"] + KEPT_DIRECTION * state["dictionary"])
        return {**state, "dictionary": moved_KS}, {}

    def _whitened(self, mean_S: Tensor, square_SS: Tensor) -> State:
        values_S, vectors_SS = torch.linalg.eigh(square_SS - torch.outer(mean_S, mean_S))
        whitening_SS = (vectors_SS * (values_S.clamp_min(0) + WHITENING).rsqrt()) @ vectors_SS.T
        drawn_KS = stream(self._seed, "first dictionary").normal(size=(self._filters, len(mean_S)))
        dictionary_KS = functional.normalize(torch.from_numpy(drawn_KS))
        return {"mean": mean_S, "whitening": whitening_SS, "dictionary": dictionary_KS}


def fit_patches(extractor: PatchExtractor, state: State) -> None:
    """Give an extractor the filters of a server's state."""
    extractor.fit(state["mean"], state["whitening"], state["dictionary"])
