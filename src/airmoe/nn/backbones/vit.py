"""A vision transformer (Dosovitskiy et al. 2021): all but two blocks | two blocks, head.

Pre-norm blocks, learned positions, no dropout.

Shape suffixes: T items, P (item, expert) pairs, L tokens, D width, C channels or classes, H height, W width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError
from airmoe.nn.backbones.extractor import USUAL_SIZE, Extractor, ImageSize, centred, checked_size
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import pool

PATCHES = 8
"""Patches along the shorter side of an image."""

EXPERT_BLOCKS = 2
MLP_RATIO = 4
INITIAL_STD = 0.02


class VitExtractor(Extractor):
    """Patches and all blocks but the last two: (T, C, H, W) to tokens (T, L, D), the class token first.

    L is H W / patch^2 + 1.

    Args:
        channels: 1 for grey images, 3 for colour.
        patch: side of a patch in pixels; divides height and width. Default an eighth of the shorter one: 65
            tokens for a square image of any size.
        width: D, values of a token.
        depth: blocks of the whole network, those of the expert among them.
        heads: of attention; divides ``width``.
        size: height and width of the images.

    Raises:
        InvalidInputError: a number that is out of range, or does not divide.
    """

    def __init__(
        self,
        channels: int,
        patch: int | None = None,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        size: ImageSize = USUAL_SIZE,
    ) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.size = checked_size(size, PATCHES, "vit")
        patch = _checked_patch(patch, self.size)
        integer_at_least("depth", depth, EXPERT_BLOCKS + 1)
        tokens = (self.size[0] // patch) * (self.size[1] // patch) + 1
        self.heads = heads
        self.features, self.payload_shape = width, (tokens, width)
        self.pooling = "tokens"
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.class_token_11D = nn.Parameter(_truncated_normal(1, 1, width))
        self.position_1LD = nn.Parameter(_truncated_normal(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth - EXPERT_BLOCKS)))

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return tokens (T, L, D) of images (T, C, H, W) with pixels in [0, 1]."""
        patches_TLD = self.patches(centred(images_TCHW)).flatten(2).transpose(1, 2)
        # Not len(): the exported network would take batches of this one size.
        class_T1D = self.class_token_11D.expand(images_TCHW.shape[0], -1, -1)
        return self.blocks(torch.cat([class_T1D, patches_TLD], dim=1) + self.position_1LD)  # type: ignore[no-any-return]

    def tail(self, classes: int) -> "VitExpert":
        """Return a new expert that is the rest of the transformer, of the same width and heads."""
        return VitExpert(classes, self.features, self.heads)


class VitExpert(ClassifierExpert):
    """The last two blocks, normalisation and a linear classifier on the class token.

    Args:
        classes: C.
        width: of the extractor.
        heads: of the extractor.

    Raises:
        InvalidInputError: ``heads`` does not divide ``width``.
    """

    def __init__(self, classes: int, width: int = 192, heads: int = 3) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(EXPERT_BLOCKS)))
        self.norm = nn.LayerNorm(width)
        self.classifier = _linear(width, classes)

    def logits(self, payload_P: Tensor) -> Tensor:
        """Return unnormalised log-probabilities (P, C) of tokens (P, L, D)."""
        return self.classifier(self.norm(pool(self.blocks(payload_P), "tokens")))  # type: ignore[no-any-return]


class Block(nn.Module):
    """y + mlp(norm(y)) with y = x + attention(norm(x)).

    Args:
        width: D.
        heads: of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = _linear(width, 3 * width)
        self.projection = _linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            _linear(width, MLP_RATIO * width), nn.GELU(), _linear(MLP_RATIO * width, width)
        )

    def forward(self, tokens_TLD: Tensor) -> Tensor:
        """Return tokens (T, L, D)."""
        tokens_TLD = tokens_TLD + self.projection(self._attention(self.attention_norm(tokens_TLD)))
        return tokens_TLD + self.mlp(self.mlp_norm(tokens_TLD))  # type: ignore[no-any-return]

    def _attention(self, tokens_TLD: Tensor) -> Tensor:
        split = self.query_key_value(tokens_TLD).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each items, heads, tokens, values
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(2)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(linear.weight, std=INITIAL_STD)
    nn.init.zeros_(linear.bias)
    return linear


def _truncated_normal(*shape: int) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(shape), std=INITIAL_STD)


def _checked_patch(patch: int | None, size: ImageSize) -> int:
    if patch is None:
        if any(side % (min(size) // PATCHES) for side in size) or min(size) % PATCHES:
            raise InvalidInputError("size of images", size, f"multiples of {PATCHES} for vit")
        return min(size) // PATCHES
    if any(side % integer_at_least("patch", patch, 1) for side in size):
        raise InvalidInputError("patch", patch, f"a divisor of {' and '.join(map(str, sorted(set(size))))}")
    return patch


def _check_heads(width: int, heads: int) -> None:
    integer_at_least("width", width, 1)
    if width % integer_at_least("heads", heads, 1):
        raise InvalidInputError("heads", heads, f"a divisor of the width, {width}")
