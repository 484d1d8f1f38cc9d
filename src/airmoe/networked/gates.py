"""The gate of a run: before it is trained, which part of it is, and what clients have in the end."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from airmoe.federated import State
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.syncs import Sync, gates_differ
from airmoe.nn import BiasGate, LinearGate, PersonalGates
from airmoe.nn.build import build_gate
from airmoe.seeding import torch_seeded

OF_GATE, OWN_BIAS = "gate/", "own_bias"
"""Names in a client's state: what those of its gate's weights begin with; its own bias."""


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


def take_weights(gate: nn.Module, common: State, client_state: State) -> None:
    """Give a gate the weights that it has at a client: the common ones, or the client's own.

    Args:
        gate: of the form that was trained; a linear one where clients have a bias of their own.
        common: what the server averaged; empty where it averages nothing.
        client_state: the client's between rounds; empty for a client that took part in none. Its gate stays
            as it began.
    """
    own = {
        name.removeprefix(OF_GATE): each for name, each in client_state.items() if name.startswith(OF_GATE)
    }
    if weights := {**common, **own}:
        trained_part(gate).load_state_dict(weights)
    if OWN_BIAS in client_state:
        linear = content_of(gate).linear
        assert isinstance(linear, nn.Linear)  # the settings say so
        with torch.no_grad():
            linear.bias.add_(client_state[OWN_BIAS])


def gates_at_clients(gate: nn.Module, sync: Sync, common: State, states: Mapping[int, State]) -> nn.Module:
    """Return the gate that all clients have, or `airmoe.nn.PersonalGates` where each has its own.

    Args:
        gate: as it was before training; changed in place where all have the same.
        sync: the rule by which it was trained.
        common: what the server averaged.
        states: every client's.
    """
    if not gates_differ(sync):
        take_weights(gate, common, {})
        return gate
    gates = [copy.deepcopy(gate) for _ in states]
    for client, each in enumerate(gates):
        take_weights(each, common, states[client])
    return PersonalGates(gates)
