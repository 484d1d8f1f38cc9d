"""Features of whitened patches: one wide layer that is fitted to sums, without gradients.

After A. Coates and A. Y. Ng, "Selecting receptive fields in deep networks", NIPS 2011, and L. Thiry et al.,
"The unreasonable effectiveness of patches in deep convolutional kernels methods", ICLR 2021. Products of
responses are after T.-Y. Lin et al., "Bilinear CNN models for fine-grained visual recognition", ICCV 2015.

Shape suffixes: T items, C channels, H height, W width, R rows and L columns of patches, P patches, S pixels
of a patch (C p p), K filters, J responses above and below zero (2 K), D directions, F features.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError
from airmoe.nn.backbones.extractor import USUAL_SIZE, Extractor, ImageSize, checked_size
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling

CONTRAST = 0.004
"""Added to the variance of a patch before it is divided by its standard deviation, so that noise in flat
patches stays small. Pixels are in [0, 1]."""

PATCH_RESPONSES_AT_ONCE = 1 << 21
"""So many responses of filters at patches are computed together; more would not fit a cache."""

ROOT_FROM = 1e-2
"""Products far above it, or below its negative, have their root taken."""

MOST_DIRECTIONS = 64
"""Of the products, by default."""


class PatchExtractor(Extractor):
    """Images (T, C, H, W) to (T, F): how strongly each filter answers where, and which answer together.

    Every patch of ``side`` x ``side`` pixels is brought to mean 0 and variance 1, and compared with K
    filters. What exceeds ``threshold`` is averaged over each cell of a ``grid`` x ``grid``, above and below
    zero apart. Along D principal directions of these 2 K responses, the products of every two are averaged
    over the image. Of all the root is taken (`signed_root`): F = 2 K grid^2 + D (D + 1) / 2. Filters
    and directions are drawn at random until they are fitted to sums over clients
    (`airmoe.networked.patch_sums`).

    Args:
        channels: 1 for grey images, 3 for colour.
        width: K.
        size: height and width of the images.
        side: of a patch, pixels.
        grid: cells along each axis.
        threshold: of a filter's response; the response to a whitened patch has variance 1.
        directions: D, 0 for no products; None is width / 4, at most `MOST_DIRECTIONS`.

    Raises:
        InvalidInputError: a number is out of range, or the images hold fewer patches than cells.
    """

    pooling: Pooling = "vector"
    filters_KS: Tensor
    offset_K: Tensor
    basis_DJ: Tensor
    centre_D: Tensor

    def __init__(
        self,
        channels: int,
        width: int = 400,
        size: ImageSize = USUAL_SIZE,
        side: int = 6,
        grid: int = 3,
        threshold: float = 0.5,
        directions: int | None = None,
    ) -> None:
        super().__init__()
        for name, number in (("width", width), ("side", side), ("grid", grid)):
            integer_at_least(name, number, 1)
        if not 0 <= threshold < math.inf:
            raise InvalidInputError("threshold", threshold, "a number of at least 0")
        self.directions = min(width // 4, MOST_DIRECTIONS) if directions is None else directions
        if not 0 <= self.directions <= 2 * width:
            raise InvalidInputError("directions", directions, f"0 to {2 * width}, twice the width")
        self.size = checked_size(size, side + grid - 1, "patches")
        self.channels, self.side, self.grid, self.threshold = channels, side, grid, threshold
        self.features = 2 * width * grid * grid + self.directions * (self.directions + 1) // 2
        self.payload_shape = (self.features,)
        self.register_buffer("filters_KS", functional.normalize(torch.randn(width, channels * side**2)))
        self.register_buffer("offset_K", torch.zeros(width))
        self.register_buffer("basis_DJ", functional.normalize(torch.randn(self.directions, 2 * width)))
        self.register_buffer("centre_D", torch.zeros(self.directions))

    @property
    def images_at_once(self) -> int:
        """As many images as keep the responses of all filters in a cache."""
        rows, columns = (each - self.side + 1 for each in self.size)
        return max(1, PATCH_RESPONSES_AT_ONCE // (rows * columns * len(self.filters_KS)))

    def fit(self, mean_S: Tensor, whitening_SS: Tensor, dictionary_KS: Tensor) -> None:
        """Take filters that compare whitened patches with a dictionary.

        Args:
            mean_S: of normalised patches.
            whitening_SS: symmetric, brings normalised patches to covariance 1.
            dictionary_KS: rows of length 1.
        """
        filters_KS = dictionary_KS.double() @ whitening_SS.double()
        self.offset_K.copy_(filters_KS @ mean_S.double())
        # Without its mean a filter sees no brightness, so patches need no mean taken off.
        self.filters_KS.copy_(filters_KS - filters_KS.mean(dim=1, keepdim=True))

    def fit_directions(self, mean_J: Tensor, basis_DJ: Tensor) -> None:
        """Take the directions of products.

        Args:
            mean_J: of the responses that exceed the threshold, above and below.
            basis_DJ: rows of length 1.
        """
        self.basis_DJ.copy_(basis_DJ)
        self.centre_D.copy_(basis_DJ.double() @ mean_J.double())

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return features (T, F) of images with pixels in [0, 1]."""
        filters_KCpp = self.filters_KS.reshape(-1, self.channels, self.side, self.side)
        response_TKRL = functional.conv2d(images_TCHW, filters_KCpp)
        # In place: new memory for every step would take longer than the steps.
        response_TKRL.div_(self._contrast(images_TCHW)).sub_(self.offset_K[:, None, None])
        above_TKRL = (response_TKRL - self.threshold).clamp_min_(0)
        below_TKRL = response_TKRL.neg_().sub_(self.threshold).clamp_min_(0)
        cells = [functional.adaptive_avg_pool2d(each, self.grid) for each in (above_TKRL, below_TKRL)]
        cells_TF = torch.cat(cells, dim=1).flatten(1).sqrt()
        if not self.directions:
            return cells_TF
        return torch.cat([cells_TF, self._products(above_TKRL, below_TKRL)], dim=1)

    def _products(self, above_TKRL: Tensor, below_TKRL: Tensor) -> Tensor:
        """Return the root of the mean product of every two directions (T, D (D + 1) / 2), with its sign."""
        along_DK11 = [half[:, :, None, None] for half in self.basis_DJ.chunk(2, dim=1)]
        above_TDRL, below_TDRL = map(functional.conv2d, (above_TKRL, below_TKRL), along_DK11)
        along_TDP = above_TDRL.add_(below_TDRL).sub_(self.centre_D[:, None, None]).flatten(2)
        product_TDD = along_TDP @ along_TDP.transpose(1, 2) / along_TDP.shape[2]
        first, second = torch.triu_indices(self.directions, self.directions)
        return signed_root(product_TDD[:, first, second])

    def _contrast(self, images_TCHW: Tensor) -> Tensor:
        """Return the standard deviation (T, 1, R, L) of every patch."""
        of_pixel_T1HW = images_TCHW.mean(dim=1, keepdim=True), images_TCHW.square().mean(dim=1, keepdim=True)
        mean_T1RL, square_T1RL = (functional.avg_pool2d(each, self.side, 1) for each in of_pixel_T1HW)
        return ((square_T1RL - mean_T1RL.square()).clamp_min(0) + CONTRAST).sqrt()

    def tail(self, classes: int) -> ClassifierExpert:
        """Refuse: there is no rest of such a network.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("expert_hidden", None, "a width: patches have no rest of a network")


def signed_root(values: Tensor) -> Tensor:
    """Return the square roots of values, with their signs; near zero in proportion to the values.

    There a plain root would make much of rounding.
    """
    return values * (values.abs() + ROOT_FROM).rsqrt()


def beyond(response_PK: Tensor, threshold: float) -> Tensor:
    """Return what of the responses to patches exceeds a threshold, above and below zero apart (P, J)."""
    return torch.cat([response_PK - threshold, -response_PK - threshold], dim=1).clamp_min_(0)


def normalised(patches_TS: Tensor) -> Tensor:
    """Return patches with mean 0 and, but for `CONTRAST`, variance 1."""
    centred_TS = patches_TS - patches_TS.mean(dim=1, keepdim=True)
    variance_T1 = centred_TS.square().mean(dim=1, keepdim=True)
    return centred_TS / (variance_T1 + CONTRAST).sqrt()
