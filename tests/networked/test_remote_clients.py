"""Steps know no engine: they end alike where nothing but bytes gets from step to step.

This engine rebuilds a client for every single step, with networks of its own, as a remote process would that
is started for each message. Messages and states cross as safetensors.
"""

import json
from collections.abc import Callable, Iterator, Mapping

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from airmoe.federated import Averaging, Client, Exchange, Loop, Message, State, federate
from airmoe.networked.config import FeatureSettings, GateSettings
from airmoe.networked.fedce import FedCeClient, Network
from airmoe.networked.fedgate import EXCHANGES, FedGateClient, exchanges_of
from airmoe.networked.gates import trained_part
from airmoe.networked.moments import Moments, MomentsClient
from airmoe.networked.syncs import make_sync
from airmoe.nn import BiasGate, LinearGate

CLIENTS = EXPERTS = 3
ITEMS, FEATURES, CLASSES = 20, 6, 4


def in_bytes(state: State) -> bytes:
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})


def crossed(message: Message) -> Message:
    """The message as another process gets it."""
    tensors = in_bytes(message.tensors)
    letters = {peer: in_bytes(letter) for peer, letter in message.letters.items()}
    return Message(
        safetensors.torch.load(tensors),
        json.loads(json.dumps(message.numbers)),
        {peer: safetensors.torch.load(letter) for peer, letter in letters.items()},
    )


class Remote:
    """Clients of whom nothing but the bytes of their states is left between two steps."""

    def __init__(self, make: Callable[[int], Client]) -> None:
        self.make, self.kept = make, {client: in_bytes({}) for client in range(CLIENTS)}

    @property
    def states(self) -> Mapping[int, State]:
        return {client: safetensors.torch.load(kept) for client, kept in self.kept.items()}

    def restore(self, states: Mapping[int, State]) -> None:
        self.kept = {client: in_bytes(states.get(client, {})) for client in self.kept}

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        replies = {}
        for client, message in reversed(messages.items()):  # in whatever order they come up
            state = safetensors.torch.load(self.kept[client])
            new, reply = self.make(client).client_step(exchange.name, state, crossed(message))
            self.kept[client], replies[client] = in_bytes(new), crossed(reply)
        return iter(sorted(replies.items()))


def data_of(client: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(client)
    features_TF = torch.randn(ITEMS + client, FEATURES, generator=generator)
    return features_TF, torch.randint(CLASSES, (ITEMS + client,), generator=generator)


def weights_of(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fedce_network() -> Network:
    network = Network(nn.Identity(), nn.Linear(FEATURES, CLASSES))
    network.head.load_state_dict({"weight": weights_of(1, CLASSES, FEATURES), "bias": weights_of(2, CLASSES)})
    return network


def fedce(client: int) -> Client:
    settings = FeatureSettings(rounds=3, local_epochs=2, batch_size=8)
    return FedCeClient(fedce_network(), *data_of(client), settings, 0, client)


def gate_of(channel_aware: bool) -> LinearGate | BiasGate:
    torch.manual_seed(0)
    content = LinearGate(FEATURES, EXPERTS)
    return BiasGate(content) if channel_aware else content


def fedgate(client: int, channel_aware: bool, sync: str = "fedavg") -> Client:
    expert = weights_of(10 + client, FEATURES, CLASSES)
    settings = GateSettings(channel_aware=channel_aware, batch_size=8, local_epochs=2, sync=sync)
    features_TF, labels_T = data_of(client)

    def answer(received_PF: Tensor) -> Tensor:
        return torch.softmax(received_PF @ expert, dim=-1)

    return FedGateClient(gate_of(channel_aware), answer, features_TF, labels_T, settings, 0, client)


CASES = {
    "FedCE": (Averaging("features", CLIENTS), fedce_network().state_dict(), fedce),
    "moments": (Moments("statistics", CLIENTS), {}, lambda client: MomentsClient(data_of(client)[0])),
    "FedGate": (
        Averaging("gate", CLIENTS, EXCHANGES),
        trained_part(gate_of(False)).state_dict(),
        lambda client: fedgate(client, False),
    ),
    "FedGate that sees links": (
        Averaging("gate", CLIENTS, EXCHANGES),
        trained_part(gate_of(True)).state_dict(),
        lambda client: fedgate(client, True),
    ),
    "gates of one's own": (
        Averaging("gate", CLIENTS, EXCHANGES),
        {},
        lambda client: fedgate(client, False, "none"),
    ),
    "gates averaged in a ring": (
        Averaging("gate", CLIENTS, exchanges_of(make_sync("ring"))),
        {},
        lambda client: fedgate(client, False, "ring"),
    ),
    "gates with a bias of one's own": (
        Averaging("gate", CLIENTS, EXCHANGES),
        trained_part(gate_of(True)).state_dict(),
        lambda client: fedgate(client, True, "partial:2"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_remote_clients_end_at_the_same_bits_bytes_and_states_as_a_loop(case: str) -> None:
    stage, start, make = CASES[case]
    loop, remote = Loop([make(client) for client in range(CLIENTS)]), Remote(make)
    state, rows = federate(stage, start, loop, 3)
    remote_state, remote_rows = federate(stage, start, remote, 3)
    assert remote_rows == rows
    assert remote_state.keys() == state.keys()
    assert all(torch.equal(remote_state[name], state[name]) for name in state)
    for client, expected in loop.states.items():
        kept = remote.states[client]
        assert kept.keys() == expected.keys()
        assert all(torch.equal(kept[name], expected[name]) for name in expected)
