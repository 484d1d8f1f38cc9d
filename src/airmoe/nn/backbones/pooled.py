"""A feature extractor whose payload is its pooled features.

Shape suffixes: T items, C channels, H height, W width, F features.
"""

from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.nn.backbones.extractor import Extractor
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling, pool


class PooledExtractor(Extractor):
    """An extractor for experts that see pooled features alone: no more than these has to travel.

    Args:
        extractor: its payload is a map or tokens.
    """

    pooling: Pooling = "vector"

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.size, self.frozen = extractor.size, extractor.frozen
        self.features, self.payload_shape = extractor.features, (extractor.features,)

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return pooled features (T, F) of images (T, C, H, W) with pixels in [0, 1]."""
        return pool(self.extractor(images_TCHW), self.extractor.pooling)

    def tail(self, classes: int) -> ClassifierExpert:
        """Refuse: the rest of the network needs the payload as it was before.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("expert_hidden", None, "a width: experts see pooled features alone")
