"""A language model over bytes whose feed-forward parts are MoE layers: attention here, experts anywhere.

Attention, norms and routers stay at the node where a sequence rests, its source. What travels is the hidden
state of a token, after the norm, to the experts that a policy chose. RMSNorm, rotary positions and SwiGLU
experts (Shazeer, 2020), as in Llama and Mixtral.

Shape suffixes: B sequences, S positions, W width, V bytes, T tokens, E experts, P (token, expert) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from airmoe.checks import indices, integer_at_least
from airmoe.dispatch import Carrier
from airmoe.errors import InvalidInputError
from airmoe.language.attention import Attention, Cache
from airmoe.language.calls import Calls, LayerCall
from airmoe.language.form import TransformerSettings
from airmoe.nn import GateOutput, MoeLayer, MoeOutput
from airmoe.scheduling import Placement, Policy
from airmoe.scheduling.parsing import as_policy

EXPERT, ROUTER = ".moe.experts.", ".moe.gate."
"""What the names of experts' and routers' weights contain."""

BYTES = 256
"""V: every value of a byte is a token, so any text can be read and nothing is unknown."""


class SwiGlu(nn.Module):
    """An expert: hidden states (P, W) to (P, W), W_down (silu(W_gate h) * W_up h)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, hidden_PW: Tensor) -> Tensor:
        """Return what is added to the hidden states."""
        return self.down(functional.silu(self.gate(hidden_PW)) * self.up(hidden_PW))  # type: ignore[no-any-return]


class Router(nn.Module):
    """softmax(h W + b): the scores of all experts, blind to the links."""

    sees_snr = False

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, experts)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_TW: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E); the SNR is not used."""
        logits_TE = self.linear(hidden_TW)
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


class Places(NamedTuple):
    """Where the values of a batch belong.

    Attributes:
        positions_BS: int64, the place of each in its sequence.
        taken_BS: bool, False where it only fills the batch up.
        source_T: int64, the node where each token rests.
    """

    positions_BS: Tensor
    taken_BS: Tensor
    source_T: NDArray[np.int64]


class Block(nn.Module):
    """Attention, then a MoE layer; each adds to the hidden state what it makes of its norm."""

    def __init__(self, settings: TransformerSettings, layer: int, placement: Placement | None) -> None:
        super().__init__()
        width, hidden = settings.width, settings.expert_hidden
        self.attention_norm, self.moe_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, settings.heads)
        self.moe = MoeLayer(
            Router(width, settings.experts),
            [SwiGlu(width, hidden) for _ in range(settings.experts)],
            placement=placement,
            policy=f"topk:{settings.k}",
            layer=layer + 1,
            training_k=settings.k,
        )

    def forward(
        self,
        hidden_BSW: Tensor,
        places: Places,
        cache: Cache | None,
        call: LayerCall,
    ) -> tuple[Tensor, MoeOutput]:
        """Return the hidden states (B, S, W) after this block, and what its MoE layer did."""
        normed_BSW = self.attention_norm(hidden_BSW)
        hidden_BSW = hidden_BSW + self.attention(normed_BSW, places.positions_BS, cache, self.moe.number - 1)
        tokens_TW = self.moe_norm(hidden_BSW)[places.taken_BS]
        done: MoeOutput = self.moe(
            tokens_TW, places.source_T, policy=call.policy, carrier=call.carrier, deadline_s=call.deadline_s
        )
        added_BSW = torch.zeros_like(hidden_BSW).masked_scatter(
            places.taken_BS[..., None], done.y_TC.to(hidden_BSW.dtype)
        )
        return hidden_BSW + added_BSW, done


@dataclass(frozen=True)
class LanguageOutput:
    """What a language model returns.

    Attributes:
        logits_BSV: of the byte that follows each position.
        layers: what became of the tokens in each MoE layer. They are T = the sequences' tokens, one sequence
            after another, without what fills a batch up.
    """

    logits_BSV: Tensor
    layers: tuple[MoeOutput, ...]


class MoeTransformer(nn.Module):
    """Bytes to logits of the next byte.

    Args:
        settings: its form.
        placement: the node, or nodes, of every layer's experts; default expert e on node e.

    Examples:
        >>> import torch
        >>> from airmoe.language import MoeTransformer, TransformerSettings
        >>> model = MoeTransformer(TransformerSettings(width=16, layers=2, heads=2, expert_hidden=32))
        >>> output = model.eval()(torch.tensor([list(b"wireless")]))
        >>> tuple(output.logits_BSV.shape), len(output.layers)
        ((1, 8, 256), 2)
    """

    def __init__(self, settings: TransformerSettings, placement: Placement | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(BYTES, settings.width)
        self.blocks = nn.ModuleList(Block(settings, layer, placement) for layer in range(settings.layers))
        self.norm = nn.RMSNorm(settings.width)
        self.head = nn.Linear(settings.width, BYTES, bias=False)
        self.apply(_begin_small)

    def new_cache(self, sequences: int) -> Cache:
        """Return an empty cache for so many sequences."""
        return Cache(self.settings, sequences, self.embedding.weight.dtype)

    def forward(
        self,
        tokens_BS: Tensor,
        count_B: Tensor | None = None,
        *,
        cache: Cache | None = None,
        source_B: ArrayLike | None = None,
        policy: Policy | str | Sequence[Policy | str] | None = None,
        carrier: Carrier[Tensor, Tensor] | Sequence[Carrier[Tensor, Tensor]] | None = None,
        calls: Calls | None = None,
    ) -> LanguageOutput:
        """Return logits, and what each MoE layer did.

        Args:
            tokens_BS: int64, 0 to 255.
            count_B: int64, how many of each row are tokens, at least 1; the rest fills the batch up, and goes
                to no expert. Default all.
            cache: what came before, which is extended.
            source_B: the node where each sequence rests, one number or (B,); default 0.
            policy: who chooses experts in evaluation; default top-k with the k of training. A list has one
                for each layer. A text is read anew at every call: one that draws, such as "random:1", draws
                the same again, so give a policy for a long text.
            carrier: who brings tokens to experts; default all in this process. A list has one for each layer.
            calls: says both instead, and how long it may take, when a layer's turn comes.

        Raises:
            InvalidInputError: no tokens, more than the context holds, no bytes, or arrays or lists of another
                form.
            NoExpertReachedError: a token got no answer from any expert.
        """
        begun_B, count_B, source_B = _checked(tokens_BS, count_B, cache, source_B)
        sequences, steps = tokens_BS.shape
        longest = int(begun_B.max()) + steps if sequences and steps else 0
        if not 1 <= longest <= self.settings.context:
            raise InvalidInputError("positions", longest, f"1 to {self.settings.context}, the context")
        places = Places(
            begun_B[:, None] + torch.arange(steps),
            torch.arange(steps) < count_B[:, None],
            np.repeat(source_B, count_B.numpy()),
        )
        hidden_BSW, layers = self.embedding(tokens_BS), list[MoeOutput]()
        if isinstance(policy, str):
            policy = as_policy(policy)  # once, so that layers draw differently
        policies, carriers = self._of_layers("policy", policy), self._of_layers("carrier", carrier)
        for block, of_layer, carried_by in zip(self.blocks, policies, carriers, strict=True):
            told = None if of_layer is None else as_policy(of_layer)
            with calls(len(layers) + 1) if calls else nullcontext(LayerCall(told, carried_by)) as call:
                hidden_BSW, done = block(hidden_BSW, places, cache, call)
            layers.append(done)
        if cache is not None:
            cache.length_B = begun_B + count_B
        return LanguageOutput(self.head(self.norm(hidden_BSW)), tuple(layers))

    def place(self, placement: Placement | Sequence[Placement]) -> None:
        """Have the experts live on other nodes from now on.

        Args:
            placement: of every layer, or one for each.

        Raises:
            InvalidInputError: it is for another number of experts or layers.
        """
        placements = self._of_layers("placement", placement)
        for of_layer in placements:
            if of_layer.experts != self.settings.experts:
                expected = f"{self.settings.experts}, as each layer has"
                raise InvalidInputError("experts of placement", of_layer.experts, expected)
        for block, of_layer in zip(self.blocks, placements, strict=True):
            block.moe.placement = of_layer  # type: ignore[union-attr]

    def alone(self, expert: int) -> MoeTransformer:
        """Return a dense model that shares no memory with this one: in every layer this expert alone.

        Raises:
            InvalidInputError: there is no such expert.
        """
        if not 0 <= integer_at_least("expert", expert, 0) < self.settings.experts:
            raise InvalidInputError("expert", expert, f"0 to {self.settings.experts - 1}")
        dense = MoeTransformer(self.settings.dense)
        own = self.state_dict()
        weights = {}
        for name in dense.state_dict():
            if ROUTER in name:
                weights[name] = own[name][[expert]]
            else:
                weights[name] = own[name.replace(f"{EXPERT}0.", f"{EXPERT}{expert}.")]
        dense.load_state_dict(weights)
        return dense.train(self.training)

    def _of_layers(self, name: str, given: Any) -> Sequence[Any]:
        layers = self.settings.layers
        if not isinstance(given, Sequence) or isinstance(given, str):
            return [given] * layers
        if len(given) != layers:
            raise InvalidInputError(f"{name} of layers", len(given), f"one for each of {layers} layers")
        return given


def _checked(
    tokens_BS: Tensor, count_B: Tensor | None, cache: Cache | None, source_B: ArrayLike | None
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Return the positions that each sequence begins at, its tokens, and its node."""
    if tokens_BS.ndim != 2 or tokens_BS.dtype != torch.int64:
        told = f"{tuple(tokens_BS.shape)}, {tokens_BS.dtype}"
        raise InvalidInputError("form of tokens_BS", told, "(B, S), torch.int64")
    for token in tokens_BS[(tokens_BS < 0) | (tokens_BS >= BYTES)].tolist():
        raise InvalidInputError("a token", token, f"0 to {BYTES - 1}")
    sequences, steps = tokens_BS.shape
    begun_B = torch.zeros(sequences, dtype=torch.int64) if cache is None else cache.length_B
    if len(begun_B) != sequences:
        raise InvalidInputError("sequences of the cache", len(begun_B), f"{sequences}, as tokens_BS has")
    if count_B is None:
        count_B = torch.full((sequences,), steps)
    elif count_B.shape != (sequences,) or bool(((count_B < 1) | (count_B > steps)).any()):
        expected = f"(B,) = ({sequences},) numbers from 1 to {steps}"
        raise InvalidInputError("count_B", count_B.tolist(), expected)
    nodes_B = indices("source_B", 0 if source_B is None else source_B, 0, np.iinfo(np.int64).max)
    if nodes_B.shape not in ((), (sequences,)):
        raise InvalidInputError("shape of source_B", nodes_B.shape, f"() or (B,) = ({sequences},)")
    return begun_B, count_B, np.broadcast_to(nodes_B, sequences)


def _begin_small(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
