"""Causal attention with rotary positions (Su et al., 2021), and the cache of what came before.

Shape suffixes: B sequences, S positions, H heads, D values of a head, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from airmoe.checks import integer_at_least
from airmoe.language.form import TransformerSettings


class Cache:
    """Keys and values of what each sequence holds so far, so that a further byte costs one position.

    Sequences may differ in length.

    Args:
        settings: of the model.
        sequences: B.
        dtype: of keys and values.
    """

    def __init__(
        self, settings: TransformerSettings, sequences: int, dtype: torch.dtype = torch.float32
    ) -> None:
        integer_at_least("sequences", sequences, 1)
        shape = (sequences, settings.heads, settings.context, settings.width // settings.heads)
        self.keys = [torch.zeros(shape, dtype=dtype) for _ in range(settings.layers)]
        self.values = [torch.zeros(shape, dtype=dtype) for _ in range(settings.layers)]
        self.length_B = torch.zeros(sequences, dtype=torch.int64)

    def keep(self, layer: int, keys_BHSD: Tensor, values_BHSD: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values behind those that are there; return all, as far as any sequence goes."""
        positions_BS = self.length_B[:, None] + torch.arange(keys_BHSD.shape[2])
        sequence_B1 = torch.arange(len(self.length_B))[:, None]
        end = int(positions_BS.max()) + 1
        for kept, new in ((self.keys[layer], keys_BHSD), (self.values[layer], values_BHSD)):
            kept[sequence_B1, :, positions_BS] = new.transpose(1, 2)
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]


def rotated(values_BHSD: Tensor, positions_BS: Tensor) -> Tensor:
    """Return queries or keys turned by their positions: pair i by position * 10000^(-2i/D)."""
    half = values_BHSD.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float32) / half)
    angles_B1Sh = positions_BS[:, None, :, None] * rates
    cos, sin = angles_B1Sh.cos(), angles_B1Sh.sin()
    first, second = values_BHSD[..., :half], values_BHSD[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(values_BHSD.dtype)


class Attention(nn.Module):
    """Causal attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(
        self, hidden_BSW: Tensor, positions_BS: Tensor, cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        """Return what is added to the hidden states (B, S, W).

        Args:
            hidden_BSW: after the norm.
            positions_BS: int64, the place of each in its sequence.
            cache: what came before; left out, nothing did, and positions begin at 0.
            layer: which keys and values of the cache, from 0.
        """
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.into(hidden_BSW).chunk(3, dim=-1)
        )
        queries, keys = rotated(queries, positions_BS), rotated(keys, positions_BS)
        if cache is None:
            mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        else:
            keys, values = cache.keep(layer, keys, values)
            seen_BSS = torch.arange(keys.shape[2]) <= positions_BS[..., None]
            mixed = functional.scaled_dot_product_attention(queries, keys, values, seen_BSS[:, None])
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
