"""The gate of a run before it is trained, and the moments by which it standardises features."""

from torch import nn

from airmoe.federated import State
from airmoe.networked.config import NetworkedConfig
from airmoe.nn import BiasGate, LinearGate
from airmoe.nn.build import build_gate
from airmoe.seeding import torch_seeded


def initial_gate(config: NetworkedConfig, features: int, experts: int) -> nn.Module:
    """Return the gate of a run with its initial weights, with a worth of links where it is to see them."""
    with torch_seeded(config.seed, "gate weights"):
        content = build_gate(config.model.gate, features, experts)
    if not config.gate.channel_aware or content.sees_snr:
        return content
    with torch_seeded(config.seed, "worth of a link"):
        return BiasGate(content)


def content_of(gate: nn.Module) -> nn.Module:
    """Return the part of a gate that looks at features: what a worth of links is added to, or all of it."""
    return gate.content if isinstance(gate, BiasGate) else gate


def standardise(gate: nn.Module, moments: State) -> None:
    """Set ``mean`` and ``std`` of a linear gate's features; other gates see to their features themselves."""
    if isinstance(content := content_of(gate), LinearGate):
        content.standardise(moments["mean"], moments["std"])


def trained_part(gate: nn.Module) -> nn.Module:
    """Return the part of a gate that is trained and averaged: all but a linear gate's standardisation."""
    content = content_of(gate)
    if not isinstance(content, LinearGate):
        return gate
    if not isinstance(gate, BiasGate):
        return content.linear
    return nn.ModuleDict({"linear": content.linear, "link_worth": gate.link_worth})
