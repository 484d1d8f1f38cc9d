"""A module of one's own as a feature extractor.

Shape suffixes: T items, C channels, H height, W width.
"""

import torch
from torch import Tensor, nn

from airmoe.errors import InvalidInputError
from airmoe.nn.backbones.extractor import Extractor, ImageSize
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling, checked_pooling, pool


class OwnExtractor(Extractor):
    """Any module from images to payloads; a try on two black images tells the shapes.

    Args:
        name: of the backbone, for errors.
        network: images (T, C, H, W) to vectors (T, F), or to what its attribute ``pooling`` says.
        channels: C.
        size: height and width of the images, pixels.

    Raises:
        InvalidInputError: it does not map images to such payloads.
    """

    def __init__(self, name: str, network: nn.Module, channels: int, size: ImageSize) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise InvalidInputError(f"backbone {name}", type(network).__name__, "a torch.nn.Module")
        self._name, self.network, self.size = name, network, size
        self.pooling: Pooling = checked_pooling(getattr(network, "pooling", "vector"))
        was_training = network.training
        network.eval()
        with torch.no_grad():
            payload_T = network(torch.zeros(2, channels, *size))
            if not isinstance(payload_T, Tensor) or payload_T.shape[:1] != (2,):
                given = tuple(payload_T.shape) if isinstance(payload_T, Tensor) else type(payload_T).__name__
                raise InvalidInputError(f"payload of backbone {name}", given, "a tensor with T items first")
            self.features = pool(payload_T, self.pooling).shape[1]
        network.train(was_training)
        self.payload_shape = tuple(payload_T.shape[1:])

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return the payloads (T, ...) of images in [0, 1]."""
        return self.network(images_TCHW)  # type: ignore[no-any-return]

    def tail(self, classes: int) -> ClassifierExpert:
        """Refuse: such a module has no rest.

        Raises:
            InvalidInputError: always.
        """
        expected = (
            f"a number, model.expert_hidden in a file for --config: {self._name} is no Extractor with a tail "
            "that experts could be"
        )
        raise InvalidInputError("expert_hidden", None, expected)
