"""The three stages, one after another: a mixture of experts from the images of clients.

1 FedCE: the shared feature extractor. 2 Each client's expert on its own data. 3 FedGate, or the closed form:
the shared gate.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from airmoe.checks import refuse_type
from airmoe.federated import Summing, federate
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.feature_training import train_extractor
from airmoe.networked.features import initial_network
from airmoe.networked.gate_training import train_gate
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node import EXPERTS, FEATURES, Nodes, NodesHere
from airmoe.nn import Extractor, MixtureOfExperts, MoeLayer
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import Checkpoint, MetricsRow


@dataclass(frozen=True)
class NetworkedMoe:
    """What the three stages make: the mixture (expert e of client e) and a metrics row per round."""

    model: MixtureOfExperts
    rows: list[MetricsRow]


class SharedParts(NamedTuple):
    """What the server has in the end: all but the experts, which stay at their clients."""

    extractor: Extractor
    gate: nn.Module
    rows: list[MetricsRow]


def train_stages(
    config: NetworkedConfig,
    data: ClientData,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> NetworkedMoe:
    """Run the three stages in this process.

    Args:
        config: the run.
        data: of all clients.
        checkpoint: saved after every round and after stage 2, and taken up where it stands; None for none.
        progress: told of every round of "features" and "gate", and of every client's expert, "experts".

    Raises:
        InvalidInputError: an argument is of another type.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("data", data, ClientData)
    nodes = NodesHere(config, data)
    shared = train_shared_parts(config, nodes, data.held_out, checkpoint=checkpoint, progress=progress)
    mixture = MixtureOfExperts(shared.extractor, MoeLayer(shared.gate, nodes.experts))
    return NetworkedMoe(mixture.eval(), shared.rows)


def train_shared_parts(
    config: NetworkedConfig,
    nodes: Nodes,
    held_out: HeldOut,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> SharedParts:
    """Run the three stages from the server's side, wherever the clients are.

    Stage 1 is left out where the backbone is frozen: it would train a head that nobody keeps.

    Args:
        config: the run.
        nodes: reach the clients.
        held_out: images that measure what was learnt.
        checkpoint: as `train_stages`.
        progress: as `train_stages`.
    """
    classes = len(held_out.class_names)
    network = initial_network(
        config, held_out.images_TCHW.shape[1:], lambda features: nn.Linear(features, classes)
    )
    rows = list[MetricsRow]()
    if not network.extractor.frozen:
        rows += train_extractor(
            FEATURES, config, network, nodes, held_out, checkpoint=checkpoint, progress=progress
        )
    extractor = network.extractor.eval()
    rows += _train_experts(extractor, nodes, checkpoint, progress)
    gate, gate_rows = train_gate(
        "gate", config, extractor, nodes, held_out, checkpoint=checkpoint, progress=progress
    )
    return SharedParts(extractor, gate, [*rows, *gate_rows])


def _train_experts(
    extractor: Extractor, nodes: Nodes, checkpoint: Checkpoint | None, progress: Progress
) -> list[MetricsRow]:
    """Stage 2: tell all clients the extractor; each trains its expert."""
    told = {} if extractor.frozen else extractor.state_dict()
    engine = nodes.engine(EXPERTS)
    stage = Summing(EXPERTS, nodes.clients, exchanges=("train",), told=told)
    _, rows = federate(stage, {}, engine, 1, checkpoint=checkpoint, progress=progress)
    nodes.settle(extractor.state_dict(), engine.states)
    return rows
