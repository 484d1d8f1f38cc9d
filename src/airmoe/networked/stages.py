"""The three stages, one after another: a mixture of experts from the images of clients.

1 FedCE: the shared feature extractor. 2 Each client's expert on its own data. 3 FedGate, or the closed form:
the shared gate.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from airmoe.checks import refuse_type
from airmoe.federated import Averaging, Loop, State, federate, make_aggregation
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.experts import train_expert
from airmoe.networked.features import features_of, initial_network
from airmoe.networked.fedce import FedCeClient, Network
from airmoe.networked.gate_training import train_gate
from airmoe.nn import MixtureOfExperts, MlpExpert, MoeLayer
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import macro_f1, outputs_in_batches
from airmoe.runs.weights import load_weights


@dataclass(frozen=True)
class NetworkedMoe:
    """What the three stages make: the mixture (expert e of client e) and a metrics row per round."""

    model: MixtureOfExperts
    rows: list[MetricsRow]


def train_stages(
    config: NetworkedConfig,
    data: ClientData,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> NetworkedMoe:
    """Run the three stages.

    Stage 1 is left out where the backbone is frozen: it would train a head that nobody keeps.

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
    classes = len(data.class_names)
    network = initial_network(
        config, data.test_images_TCHW.shape[1:], lambda features: nn.Linear(features, classes)
    )
    feature_rows = list[MetricsRow]()
    if not network.extractor.frozen:
        feature_rows = train_features(
            "features", config, network, data, checkpoint=checkpoint, progress=progress
        )

    features_TF = features_of(network.extractor, data.images_TCHW, progress)
    experts = _train_experts(config, features_TF, data, checkpoint, progress)

    gate, gate_rows = train_gate(
        "gate",
        config,
        network.extractor,
        experts,
        features_TF,
        data,
        checkpoint=checkpoint,
        progress=progress,
    )
    return NetworkedMoe(
        MixtureOfExperts(network.extractor, MoeLayer(gate, experts)).eval(), feature_rows + gate_rows
    )


def train_features(
    stage: str,
    config: NetworkedConfig,
    network: Network,
    data: ClientData,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> list[MetricsRow]:
    """Stage 1: train ``network`` in place by FedCE over all clients; return the metrics rows.

    Of a network whose extractor is frozen the head alone is trained and exchanged, on features.
    """
    extractor, test_inputs_T = network.extractor, data.test_images_TCHW
    trained: nn.Module = network
    inputs_T, at_once = data.images_TCHW, extractor.images_at_once
    if extractor.frozen:
        trained, inputs_T = network.head, features_of(extractor, data.images_TCHW, progress)
        test_inputs_T = outputs_in_batches(extractor, test_inputs_T, at_once)
    clients = [
        FedCeClient(trained, inputs, labels, config.features, config.seed, client)
        for client, (inputs, labels) in enumerate(zip(inputs_T, data.labels_T, strict=True))
    ]

    def evaluate(state: State) -> dict[str, float]:
        trained.load_state_dict(state)
        answers_T = outputs_in_batches(trained, test_inputs_T, at_once).argmax(dim=1).numpy()
        return {"macro_f1": macro_f1(data.test_labels_T, answers_T, len(data.class_names))}

    state, rows = federate(
        Averaging(stage, len(clients), aggregation=make_aggregation(config.features.aggregation)),
        trained.state_dict(),
        Loop(clients),
        config.features.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        progress=progress,
    )
    trained.load_state_dict(state)
    return rows


def _train_experts(
    config: NetworkedConfig,
    features_TF: Sequence[Tensor],
    data: ClientData,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> list[MlpExpert]:
    classes, hidden = len(data.class_names), config.model.expert_hidden
    saved = checkpoint.load("experts") if checkpoint else None
    if saved is not None:
        experts = [MlpExpert(features_TF[0].shape[1], classes, hidden).eval() for _ in features_TF]
        for client, expert in enumerate(experts):
            load_weights(expert, saved.groups.get(_expert(client), {}), f"checkpoint of expert {client}")
        return experts
    experts = []
    for client, (features, labels) in enumerate(zip(features_TF, data.labels_T, strict=True)):
        experts.append(train_expert(features, labels, classes, hidden, config.experts, config.seed, client))
        progress("experts", client + 1, len(features_TF))
    if checkpoint is not None:
        checkpoint.save("experts", {_expert(i): expert.state_dict() for i, expert in enumerate(experts)}, [])
    return experts


def _expert(client: int) -> str:
    """Return the name of an expert's weights in a checkpoint."""
    return f"expert {client}"
