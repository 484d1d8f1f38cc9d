"""Mixtures of Hugging Face over nodes: a policy picks experts, a carrier brings tokens to them.

The model stays as it is loaded. Within a `NodesOfModel` its routers are asked for the scores of all experts,
and its experts run where the placement says, by transformers' own interface for experts functions. With the
model's own top-k, experts in this process and the family's own weights, outputs are those of the untouched
model (``experts_implementation="eager"``) to the last bit.

`airmoe.language.families` knows how the routers of each family are read. A shared expert stays at the source.

Shape suffixes: B sequences, S positions, T tokens, E experts, H values of a hidden state, K experts of a
token, P (token, expert) pairs.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from airmoe.checks import indices
from airmoe.dispatch import Carrier, Dispatched, dispatch
from airmoe.errors import InvalidInputError, require
from airmoe.language.calls import Calls, LayerCall
from airmoe.language.families import Routed, route_of
from airmoe.nn import LocalCarrier
from airmoe.scheduling import Cost, Placement, Policy, Routing, Slot, TopK, routing_of
from airmoe.scheduling.parsing import as_policy
from airmoe.scheduling.policy import check_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMPLEMENTATION = "airmoe"
"""The name of our experts function among those of transformers."""


@dataclass
class LayerOnNodes:
    """One MoE layer of the model.

    Attributes:
        name: of its experts module in the model.
        number: from 1.
        placement: the node, or nodes, of each of its experts.
        done: what became of each batch, newest last, but for the outputs.
    """

    name: str
    number: int
    placement: Placement
    done: list[Dispatched[Tensor]] = field(default_factory=list)


class NodesOfModel:
    """A context in which a model's experts live on nodes; on leaving it, the model is as it was.

    Tokens of one batch are scheduled together. What fills a batch up is routed, too, as transformers does.
    For inference only: gradients are refused.

    Args:
        model: of a family of `airmoe.language.families.FAMILIES`.
        placement: the node, or nodes, of each expert, in every layer alike.
        policy: who chooses experts, or its text; default the model itself. "topk:2" chooses as it does, but
            for scores that tie, which are no rarity in bfloat16.
        carrier: who brings hidden states to experts; default all in this process.
        calls: says both instead, such as those of `airmoe.language.MeshSource`.
        source: the node where each sequence of a batch rests, one number or (B,).

    Raises:
        InvalidInputError: another family, a model without MoE layers or in another such context, a placement
            for another number of experts, a batch of another number of sequences than ``source``, or
            gradients.
        MissingExtraError: transformers is not installed.

    Examples:
        >>> import torch
        >>> from transformers import AutoModelForCausalLM, MixtralConfig
        >>> from airmoe.language import NodesOfModel
        >>> config = MixtralConfig(
        ...     vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        ...     num_attention_heads=2, num_key_value_heads=2, num_local_experts=4,
        ... )
        >>> model = AutoModelForCausalLM.from_config(config).eval()
        >>> with NodesOfModel(model, placement=[0, 0, 1, 1]) as nodes:
        ...     text = model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=2, pad_token_id=0)
        >>> [len(layer.done) for layer in nodes.layers]
        [2, 2]
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        placement: Placement | ArrayLike,
        policy: Policy | str | None = None,
        carrier: Carrier[Tensor, Tensor] | None = None,
        calls: Calls | None = None,
        source: ArrayLike = 0,
    ) -> None:
        require("llm", "transformers")
        self._route = route_of(model)
        placed = placement if isinstance(placement, Placement) else Placement(placement)
        self._model = model
        self._source_B = np.atleast_1d(indices("source", source, 0, np.iinfo(np.int64).max))
        if self._source_B.ndim != 1 or not len(self._source_B):
            raise InvalidInputError("shape of source", self._source_B.shape, "() or (B,), B at least 1")
        self._blocks = moe_blocks(model)
        self.layers = [
            LayerOnNodes(f"{name}.experts", number, placed)
            for number, (name, _) in enumerate(self._blocks, start=1)
        ]
        for layer, (_, block) in zip(self.layers, self._blocks, strict=True):
            if placed.experts != block.experts.num_experts:
                expected = f"{block.experts.num_experts}, as {layer.name} has"
                raise InvalidInputError("experts of placement", placed.experts, expected)
        told = LayerCall(None if policy is None else as_policy(policy), carrier)
        self._calls = calls or (lambda number: nullcontext(told))
        self._before: dict[str, str | None] = {}
        self._hooks = list[Any]()
        self._sequences = 1

    def __enter__(self) -> Self:
        """Take the routers' word and the experts' work over."""
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

        for layer, (_, block) in zip(self.layers, self._blocks, strict=True):
            if hasattr(block.experts, "_airmoe"):
                raise InvalidInputError(layer.name, "on nodes already", "a model that is in no other context")
        ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _experts_forward)
        self._hooks.append(self._model.register_forward_pre_hook(self._hear, with_kwargs=True))
        self._before = self._model.get_experts_implementation()
        for layer, (_, block) in zip(self.layers, self._blocks, strict=True):
            call = _Layer(self, layer, block.experts)
            self._hooks.append(_router_of(block).register_forward_hook(call.hear))
            block.experts._airmoe = call
        self._model.set_experts_implementation(IMPLEMENTATION)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give both back."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for _, block in self._blocks:
            del block.experts._airmoe
        self._model.set_experts_implementation(self._before)

    def _hear(self, model: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Learn how many sequences a batch has."""
        inputs = given[0] if given else named.get("input_ids")
        self._sequences = len(named["inputs_embeds"] if inputs is None else inputs)
        if len(self._source_B) not in (1, self._sequences):
            told = f"1 or {self._sequences}, a node for each sequence of the batch"
            raise InvalidInputError("number of sources", len(self._source_B), told)

    @property
    def energy_j(self) -> float:
        """J of all batches so far, in all layers."""
        return sum(float(done.energy_j_T.sum()) for layer in self.layers for done in layer.done)


class _Layer:
    """What a layer's router said last, and how its experts are run."""

    def __init__(self, nodes: NodesOfModel, layer: LayerOnNodes, experts: nn.Module) -> None:
        self._nodes, self._layer = nodes, layer
        self._experts = [_Expert(experts, number) for number in range(layer.placement.experts)]
        self._logits_TE = torch.empty(0)

    def hear(self, router: nn.Module, inputs: tuple[Tensor, ...], said: tuple[Tensor, ...]) -> None:
        """Keep a router's logits; what it chose itself comes with the call of the experts."""
        self._router, self._logits_TE = router, said[0]

    def run(self, hidden_TH: Tensor, own_TK: Tensor, own_weights_TK: Tensor) -> Tensor:
        """Return what the experts add to the hidden states (T, H).

        Args:
            hidden_TH: the tokens.
            own_TK: int64, the experts that the model would choose.
            own_weights_TK: and their weights.
        """
        nodes = self._nodes
        if hidden_TH.requires_grad:
            raise InvalidInputError("gradients", "asked for", "torch.no_grad(): inference only")
        routed = nodes._route(self._router, self._logits_TE)
        source_B = np.broadcast_to(nodes._source_B, nodes._sequences)
        source_T = np.repeat(source_B, len(hidden_TH) // nodes._sequences)
        scores_TE = routed.scores_TE.detach().double().cpu().numpy()
        with nodes._calls(self._layer.number) as call:
            carrier = call.carrier or LocalCarrier()
            links = None if carrier.links is None else carrier.links.observed
            slot = Slot(source_T, self._layer.placement, links, self._layer.number)
            policy = call.policy or _OwnChoice(_listed(own_TK, scores_TE.shape[1]).cpu().numpy())
            done = dispatch(
                hidden_TH, scores_TE, policy, carrier, slot, self._experts, deadline_s=call.deadline_s
            )
        self._layer.done.append(replace(done, deliveries=[]))  # outputs would fill the memory
        arrived_TE = torch.from_numpy(done.arrived_TE).to(hidden_TH.device)
        weights_TE = _weights(routed, arrived_TE, own_TK, own_weights_TK).to(own_weights_TK.dtype)
        return _added(hidden_TH, weights_TE, done)


class _Expert:
    """One of the experts whose weights a module holds stacked."""

    def __init__(self, experts: Any, number: int) -> None:
        self._experts, self._number = experts, number

    def __call__(self, hidden_PH: Tensor) -> Tensor:
        experts, number = self._experts, self._number
        return run_expert(experts, experts.gate_up_proj[number], experts.down_proj[number], hidden_PH)


def run_expert(experts: Any, gate_up: Tensor, down: Tensor, hidden_PH: Tensor) -> Tensor:
    """Return what an expert with these weights, of these stacked ones, adds to hidden states (P, H)."""
    inside_PI = experts._apply_gate(functional.linear(hidden_PH, gate_up))
    return functional.linear(inside_PI, down)


def _experts_forward(experts: Any, hidden_TH: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    layer: _Layer | None = getattr(experts, "_airmoe", None)
    if layer is None:  # of another model with the same configuration
        own_TH: Tensor = type(experts).forward.__wrapped__(experts, hidden_TH, top_k_index, top_k_weights)
        return own_TH
    return layer.run(hidden_TH, top_k_index, top_k_weights)


@dataclass(frozen=True)
class _OwnChoice:
    """The policy that is the model's own choice, given as a mask.

    Items of which an expert cannot be reached, or was lost on the way, get the top-k of as many others.
    """

    mask_TE: NDArray[np.bool_]
    name: str = "the model's own"
    joint: bool = False

    def route(self, scores_TE: ArrayLike, cost: Cost, slot: Slot) -> Routing:
        """Choose what the model chose."""
        again = len(check_inputs(scores_TE, cost, slot)) != len(self.mask_TE)
        if not again and cost.reachable_TE[self.mask_TE].all():
            return routing_of(self.mask_TE, cost)
        others = TopK(int(self.mask_TE.sum(axis=1).max())).route(scores_TE, cost, slot)
        if again:
            return others
        whole_T1 = (self.mask_TE <= cost.reachable_TE).all(axis=1, keepdims=True)
        return routing_of(np.where(whole_T1, self.mask_TE, others.mask_TE), cost)


def _listed(own_TK: Tensor, experts: int) -> Tensor:
    """Return bool (T, E), True for the experts of each token."""
    none_TE = torch.zeros((len(own_TK), experts), dtype=torch.bool, device=own_TK.device)
    return none_TE.scatter_(1, own_TK, True)


def _weights(routed: Routed, arrived_TE: Tensor, own_TK: Tensor, own_weights_TK: Tensor) -> Tensor:
    """Return the weights of what arrived: the model's own where that is what it chose itself.

    So its own top-k gives its own bits, whatever the order in which it adds up.
    """
    own_TE = _listed(own_TK, arrived_TE.shape[1])
    own_weights_TE = own_weights_TK.new_zeros(arrived_TE.shape).scatter_(1, own_TK, own_weights_TK)
    same_T1 = (own_TE == arrived_TE).all(dim=1, keepdim=True)
    if bool(same_T1.all()):
        return own_weights_TE
    return torch.where(same_T1, own_weights_TE, routed.weigh(arrived_TE).to(own_weights_TK.dtype))


def _added(hidden_TH: Tensor, weights_TE: Tensor, done: Dispatched[Tensor]) -> Tensor:
    """Return (T, H): outputs times weights, added up expert by expert, as the models' own loop does."""
    added_TH = torch.zeros_like(hidden_TH)
    for expert in range(weights_TE.shape[1]):
        for delivery in done.deliveries:
            of_expert_P = torch.from_numpy(delivery.expert_P == expert).to(added_TH.device)
            if not bool(of_expert_P.any()):
                continue
            token_P = torch.from_numpy(delivery.item_P).to(added_TH.device)[of_expert_P]
            weighted_PH = delivery.output_P[of_expert_P] * weights_TE[token_P, expert, None]
            added_TH.index_add_(0, token_P, weighted_PH.to(added_TH.dtype))
    return added_TH


def moe_blocks(model: nn.Module) -> list[tuple[str, Any]]:
    """Return name and module of every MoE block of a model.

    Raises:
        InvalidInputError: it has none.
    """
    blocks = [
        (name, module)
        for name, module in model.named_modules()
        if hasattr(module, "experts") and _router_of(module) is not None
    ]
    if not blocks:
        raise InvalidInputError("MoE layers of the model", 0, "at least one")
    return blocks


def _router_of(block: nn.Module) -> Any:
    """Return the router of a MoE block, None if it is none."""
    for name in ("gate", "router"):
        router = getattr(block, name, None)
        if router is not None and hasattr(router, "top_k"):
            return router
    return None
