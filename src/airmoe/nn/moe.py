"""A classifier that is one MoE layer behind a feature extractor.

Shape suffixes: T items.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.dispatch import Carrier
from airmoe.errors import InvalidInputError
from airmoe.links import LinkSnr
from airmoe.nn.moe_layer import MoeLayer, MoeOutput
from airmoe.scheduling import Policy


class MixtureOfExperts(nn.Module):
    """A feature extractor and a MoE layer.

    Args:
        extractor: inputs to payload, first axis T.
        layer: gate and experts.
    """

    def __init__(self, extractor: nn.Module, layer: MoeLayer) -> None:
        super().__init__()
        self.extractor, self.layer = extractor, layer

    def __repr__(self) -> str:
        weights = sum(weight.numel() for weight in self.parameters())
        return f"MixtureOfExperts({type(self.extractor).__name__}, {self.layer!r}, {weights:,} weights)"

    def forward(
        self,
        inputs_T: Tensor,
        source_T: NDArray[np.int64] | None = None,
        *,
        snr: LinkSnr | None = None,
        policy: Policy | None = None,
        carrier: Carrier[Tensor, Tensor] | None = None,
    ) -> MoeOutput:
        """Return the mixture's answers to what the extractor takes, first axis T; see `MoeLayer`.

        Raises:
            InvalidInputError: no items, or as `MoeLayer`.
            NoExpertReachedError: in evaluation, an item got no answer.
        """
        if not len(inputs_T):
            raise InvalidInputError("inputs_T", tuple(inputs_T.shape), "at least one item")
        return self.layer(  # type: ignore[no-any-return]
            self.extractor(inputs_T), source_T, snr=snr, policy=policy, carrier=carrier
        )
