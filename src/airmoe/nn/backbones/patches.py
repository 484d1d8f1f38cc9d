"""Features of whitened patches: one wide layer that is fitted to sums, without gradients.

After A. Coates and A. Y. Ng, "Selecting receptive fields in deep networks", NIPS 2011, and L. Thiry et al.,
"The unreasonable effectiveness of patches in deep convolutional kernels methods", ICLR 2021.

Shape suffixes: T items, C channels, H height, W width, R rows and L columns of patches, S pixels of a patch
(C p p), K filters, F features.
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


class PatchExtractor(Extractor):
    """Images (T, C, H, W) to (T, F): how strongly each filter answers in each cell of a grid.

    Every patch of ``side`` x ``side`` pixels is brought to mean 0 and variance 1, and compared with K
    filters. What exceeds ``threshold`` is averaged over each cell of a ``grid`` x ``grid``, above and below
    zero apart, and the square root is taken: F = 2 K grid^2. Filters are drawn at random until they are
    fitted to sums over clients (`airmoe.networked.patch_sums`).

    Args:
        channels: 1 for grey images, 3 for colour.
        width: K.
        size: height and width of the images.
        side: of a patch, pixels.
        grid: cells along each axis.
        threshold: of a filter's response; the response to a whitened patch has variance 1.

    Raises:
        InvalidInputError: a number is out of range, or the images hold fewer patches than cells.
    """

    pooling: Pooling = "vector"
    filters_KS: Tensor
    offset_K: Tensor

    def __init__(
        self,
        channels: int,
        width: int = 400,
        size: ImageSize = USUAL_SIZE,
        side: int = 6,
        grid: int = 3,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        for name, number in (("width", width), ("side", side), ("grid", grid)):
            integer_at_least(name, number, 1)
        if not 0 <= threshold < math.inf:
            raise InvalidInputError("threshold", threshold, "a number of at least 0")
        self.size = checked_size(size, side + grid - 1, "patches")
        self.channels, self.side, self.grid, self.threshold = channels, side, grid, threshold
        self.features = 2 * width * grid * grid
        self.payload_shape = (self.features,)
        self.register_buffer("filters_KS", functional.normalize(torch.randn(width, channels * side**2)))
        self.register_buffer("offset_K", torch.zeros(width))

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

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return features (T, F) of images with pixels in [0, 1]."""
        filters_KCpp = self.filters_KS.reshape(-1, self.channels, self.side, self.side)
        response_TKRL = functional.conv2d(images_TCHW, filters_KCpp)
        # In place: new memory for every step would take longer than the steps.
        response_TKRL.div_(self._contrast(images_TCHW)).sub_(self.offset_K[:, None, None])
        above = functional.adaptive_avg_pool2d((response_TKRL - self.threshold).clamp_min_(0), self.grid)
        response_TKRL.neg_().sub_(self.threshold).clamp_min_(0)
        below = functional.adaptive_avg_pool2d(response_TKRL, self.grid)
        return torch.cat([above, below], dim=1).flatten(1).sqrt()

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


def normalised(patches_TS: Tensor) -> Tensor:
    """Return patches with mean 0 and, but for `CONTRAST`, variance 1."""
    centred_TS = patches_TS - patches_TS.mean(dim=1, keepdim=True)
    variance_T1 = centred_TS.square().mean(dim=1, keepdim=True)
    return centred_TS / (variance_T1 + CONTRAST).sqrt()
