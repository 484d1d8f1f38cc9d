"""The three stages, one after another: a mixture of experts from the images of clients.

1 FedCE or FedSC: the shared feature extractor. 2 Each client's expert on its own data. 3 FedGate, or the
closed form: the shared gate.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from airmoe.checks import refuse_type
from airmoe.federated import State, Summing, federate
from airmoe.networked.class_sums import ClassSums, Discriminant
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.feature_training import train_extractor
from airmoe.networked.features import feature_network, features_of
from airmoe.networked.gate_training import fit_posterior_gate, train_gate
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node import CLASS_SUMS, EXPERTS, FEATURES, Nodes, NodesHere
from airmoe.networked.secured import secured
from airmoe.networked.sum_experts import told_of
from airmoe.nn import Extractor, MixtureOfExperts, MoeLayer
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import macro_f1


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
    network = feature_network(config, held_out.images_TCHW.shape[1:], classes)
    rows = list[MetricsRow]()
    if not network.extractor.frozen:
        rows += train_extractor(
            FEATURES, config, network, nodes, held_out, checkpoint=checkpoint, progress=progress
        )
    extractor = network.extractor.eval()
    told = _trained(extractor)
    discriminant = None
    if config.sums_by_class:
        discriminant, sums_rows = _add_up_classes(
            config, extractor, nodes, held_out, told, checkpoint, progress
        )
        rows, told = [*rows, *sums_rows], {}
    if config.experts.method == "sums":
        assert discriminant is not None
        told = told_of(discriminant)
    rows += _train_experts(extractor, nodes, told, checkpoint, progress)
    gate: nn.Module
    if config.gate.method == "posterior":
        assert discriminant is not None
        gate, gate_rows = fit_posterior_gate("gate", config, extractor, nodes, held_out, discriminant)
    else:
        gate, gate_rows = train_gate(
            "gate", config, extractor, nodes, held_out, checkpoint=checkpoint, progress=progress
        )
    return SharedParts(extractor, gate, [*rows, *gate_rows])


def _add_up_classes(
    config: NetworkedConfig,
    extractor: Extractor,
    nodes: Nodes,
    held_out: HeldOut,
    told: State,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> tuple[Discriminant, list[MetricsRow]]:
    """Add up all clients' features by class; return the discriminant that they make.

    Macro-F1 in the row is that of the discriminant alone: one head for all clients, without a mixture.
    """
    classes, fitted = len(held_out.class_names), list[Discriminant]()

    def evaluate(state: State) -> dict[str, float]:
        fitted.append(Discriminant.fit(state, config.experts.shrinkage))
        weight_CF, bias_C = fitted[-1].of_raw_features()
        (features_TF,) = features_of(extractor, [held_out.images_TCHW])
        answers_T = (features_TF.double() @ weight_CF.T + bias_C).argmax(dim=1).numpy()
        return {"macro_f1": macro_f1(held_out.labels_T, answers_T, classes)}

    stage = ClassSums(CLASS_SUMS, nodes.clients, told=told, classes=classes)
    engine = secured(config, stage, nodes.engine(CLASS_SUMS))
    sums, rows = federate(stage, {}, engine, 1, checkpoint=checkpoint, evaluate=evaluate, progress=progress)
    nodes.settle(_trained(extractor), {})
    resumed = not fitted
    return Discriminant.fit(sums, config.experts.shrinkage) if resumed else fitted[-1], rows


def _train_experts(
    extractor: Extractor, nodes: Nodes, told: State, checkpoint: Checkpoint | None, progress: Progress
) -> list[MetricsRow]:
    """Stage 2: tell all clients what they lack for it; each makes its expert."""
    engine = nodes.engine(EXPERTS)
    stage = Summing(EXPERTS, nodes.clients, exchanges=("train",), told=told)
    _, rows = federate(stage, {}, engine, 1, checkpoint=checkpoint, progress=progress)
    nodes.settle(_trained(extractor), engine.states, told)
    return rows


def _trained(extractor: Extractor) -> State:
    """Return the weights that clients have to be told: none of an extractor that stays as it is."""
    return {} if extractor.frozen else extractor.state_dict()
