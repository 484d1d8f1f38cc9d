"""The three federated stages, one after another, from images to a run folder.

1 FedCE: the shared feature extractor. 2 Each client's expert on its own data. 3 FedGate: the shared gate.

Shape suffixes: T items, C channels or classes, H height, W width, F features, E experts.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.data import ImageSet, partition
from airmoe.errors import InvalidInputError
from airmoe.federated.loop import State, federate
from airmoe.manifest import RadioSpec
from airmoe.networked.answers import answers_over_links
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.experts import train_expert
from airmoe.networked.fedce import FedCeClient, Network
from airmoe.networked.fedgate import FedGateClient, content_of, federated_moments, trained_part
from airmoe.nn import BiasGate, LinearGate, MixtureOfExperts, MlpExpert, MoeLayer, build_extractor
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import macro_f1, outputs_in_batches, routed_answers
from airmoe.runs.export import export_run
from airmoe.runs.run_writing import CHECKPOINTS, begun_run, fingerprint, finish_run
from airmoe.seeding import torch_seeded

Report = Callable[[MetricsRow], None]


@dataclass(frozen=True)
class ClientData:
    """The training images of every client, and the held-out images that nobody trains on.

    ``images_TCHW`` float32 in [0, 1] and ``labels_T`` int64 are lists over clients.
    """

    images_TCHW: list[Tensor]
    labels_T: list[Tensor]
    test_images_TCHW: Tensor
    test_labels_T: NDArray[np.int64]
    class_names: tuple[str, ...]

    @property
    def holds(self) -> list[list[int]]:
        """The classes in each client's data, ascending."""
        return [labels.unique().tolist() for labels in self.labels_T]


@dataclass(frozen=True)
class NetworkedMoe:
    """What the three stages make: the mixture (expert e of client e) and a metrics row per round."""

    model: MixtureOfExperts
    rows: list[MetricsRow]


def split_among_clients(config: NetworkedConfig, images: ImageSet) -> ClientData:
    """Let the training images fall on the clients as the configuration says.

    Raises:
        InvalidInputError: the split cannot serve that many clients.
    """
    parts = partition(images.train_labels, config.data.clients, config.data.partition, seed=config.seed)
    return ClientData(
        [as_pixels(images.train_images[part]) for part in parts],
        [torch.from_numpy(images.train_labels[part]) for part in parts],
        as_pixels(images.test_images),
        images.test_labels,
        images.class_names,
    )


def as_pixels(images_TCHW: NDArray[np.uint8]) -> Tensor:
    """Return float32 pixels in [0, 1] of bytes."""
    return torch.from_numpy(images_TCHW).float() / 255


def initial_network(config: NetworkedConfig, channels: int, head: Callable[[int], nn.Module]) -> Network:
    """Return a feature extractor under ``head(features)`` with the run's initial weights.

    Raises:
        InvalidInputError: a backbone whose payload is no vector.
    """
    with torch_seeded(config.seed, "initial weights"):
        extractor = build_extractor(config.model.backbone, channels, config.model.norm)
        if len(extractor.payload_shape) > 1:
            expected = "lenet5: experts of clients see a vector of features"
            raise InvalidInputError("model.backbone", config.model.backbone, expected)
        return Network(extractor, head(extractor.features))


def train_stages(
    config: NetworkedConfig, data: ClientData, checkpoint: Checkpoint | None, report: Report
) -> NetworkedMoe:
    """Run the three stages.

    Args:
        config: the run.
        data: of all clients.
        checkpoint: saved after every round and taken up where it stands; None for none.
        report: called with each metrics row.
    """
    classes = len(data.class_names)
    network = initial_network(
        config, data.test_images_TCHW.shape[1], lambda features: nn.Linear(features, classes)
    )
    feature_rows = train_features("features", config, network, data, checkpoint, report)

    features_TF = [outputs_in_batches(network.extractor, images) for images in data.images_TCHW]
    experts = _train_experts(config, features_TF, data, checkpoint, report)

    gate, gate_rows = train_gate(
        "gate", config, network.extractor, experts, features_TF, data, checkpoint, report
    )
    return NetworkedMoe(
        MixtureOfExperts(network.extractor, MoeLayer(gate, experts)).eval(), feature_rows + gate_rows
    )


def train_features(
    stage: str,
    config: NetworkedConfig,
    network: Network,
    data: ClientData,
    checkpoint: Checkpoint | None,
    report: Report,
) -> list[MetricsRow]:
    """Stage 1: train ``network`` in place by FedCE over all clients; return the metrics rows."""
    clients = [
        FedCeClient(network, images, labels, config.features, config.seed, client)
        for client, (images, labels) in enumerate(zip(data.images_TCHW, data.labels_T, strict=True))
    ]

    def evaluate(state: State) -> dict[str, float]:
        network.load_state_dict(state)
        answers_T = outputs_in_batches(network, data.test_images_TCHW).argmax(dim=1).numpy()
        return {"macro_f1": macro_f1(data.test_labels_T, answers_T, len(data.class_names))}

    state, rows = federate(
        stage,
        network.state_dict(),
        clients,
        config.features.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        report=report,
    )
    network.load_state_dict(state)
    return rows


def _train_experts(
    config: NetworkedConfig,
    features_TF: Sequence[Tensor],
    data: ClientData,
    checkpoint: Checkpoint | None,
    report: Report,
) -> list[MlpExpert]:
    classes, hidden = len(data.class_names), config.model.expert_hidden
    saved = checkpoint.load("experts") if checkpoint else None
    if saved is not None:
        experts = [MlpExpert(features_TF[0].shape[1], classes, hidden).eval() for _ in features_TF]
        for client, expert in enumerate(experts):
            expert.load_state_dict(saved[1][client])
        return experts
    experts = []
    for client, (features, labels) in enumerate(zip(features_TF, data.labels_T, strict=True)):
        experts.append(train_expert(features, labels, classes, hidden, config.experts, config.seed, client))
        report({"stage": "experts", "round": client + 1})
    if checkpoint is not None:
        checkpoint.save("experts", {}, {i: e.state_dict() for i, e in enumerate(experts)}, [])
    return experts


def train_gate(
    stage: str,
    config: NetworkedConfig,
    extractor: nn.Module,
    experts: Sequence[nn.Module],
    features_TF: Sequence[Tensor],
    data: ClientData,
    checkpoint: Checkpoint | None,
    report: Report,
) -> tuple[LinearGate | BiasGate, list[MetricsRow]]:
    """Stage 3: return a gate trained by FedGate, and the metrics rows.

    Macro-F1 in the rows is that of top-1 routing of the held-out images: over ideal links, or of a
    channel-aware gate over analog Rayleigh links with the mean SNR of the run.

    Args:
        stage: a name, for reports and checkpoints.
        config: the run; ``config.gate.channel_aware`` says which gate it is.
        extractor: trained in stage 1.
        experts: trained in stage 2.
        features_TF: of every client's images.
        data: of all clients.
        checkpoint: as `train_stages`.
        report: called with each metrics row.
    """
    gate = _initial_gate(config, features_TF[0].shape[1], len(experts))
    mean_F, std_F, statistics_bytes = federated_moments(features_TF)
    content_of(gate).standardise(mean_F, std_F)
    clients = [
        FedGateClient(
            gate,
            features,
            labels,
            lambda expert, queried: outputs_in_batches(experts[expert], queried),
            config.gate,
            config.seed,
            client,
        )
        for client, (features, labels) in enumerate(zip(features_TF, data.labels_T, strict=True))
    ]
    part = trained_part(gate)
    test_features_TF, test_snr_db_TE = outputs_in_batches(extractor, data.test_images_TCHW), None
    if config.gate.channel_aware:
        random = stream(config.seed, "held-out links")
        test_snr_db_TE, test_probability_TEC = answers_over_links(
            test_features_TF, experts, config.links.mean_snr_db, random
        )
    else:
        test_probability_TEC = torch.stack([outputs_in_batches(e, test_features_TF) for e in experts], dim=1)

    def evaluate(state: State) -> dict[str, float]:
        part.load_state_dict(state)
        with torch.no_grad():
            scores_TE = gate(test_features_TF, test_snr_db_TE).scores_TE
        answers_T = routed_answers(scores_TE, test_probability_TEC)
        return {"macro_f1": macro_f1(data.test_labels_T, answers_T, len(data.class_names))}

    state, rows = federate(
        stage,
        part.state_dict(),
        clients,
        config.gate.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        report=report,
    )
    part.load_state_dict(state)
    statistics: MetricsRow = {"stage": f"{stage} statistics", "round": 1, "bytes": statistics_bytes}
    return gate.eval(), [statistics, *rows]


def _initial_gate(config: NetworkedConfig, features: int, experts: int) -> LinearGate | BiasGate:
    content = LinearGate(features, experts)
    if not config.gate.channel_aware:
        return content
    with torch_seeded(config.seed, "worth of a link"):
        return BiasGate(content)


def radio_of(config: NetworkedConfig) -> RadioSpec:
    """Return the radio of a run as its manifests name it."""
    return RadioSpec(**config.links.model_dump(), seed=config.seed)


def train_run(
    config: NetworkedConfig,
    images: ImageSet,
    out: Path,
    *,
    resume: bool = False,
    report: Report = lambda row: None,
) -> NetworkedMoe:
    """Train a networked MoE and write its run folder.

    While it trains, everything lies in ``out`` + ".partial"; at the end that folder is renamed to ``out``.

    Args:
        config: the run.
        images: the data.
        out: the run folder to make; must not exist.
        resume: take up ``out``.partial where an interrupted run left it; it ends at the same weights.
        report: called with each metrics row.

    Raises:
        InvalidInputError: ``out`` exists, or the images cannot be split among that many clients.
        RunFolderError: something to resume is missing, damaged, or of another configuration or data set.
        TrainingDivergedError: a loss or weight is not finite; the last good checkpoint stays behind.
    """
    partial = begun_run(out, resume)
    data = split_among_clients(config, images)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: more threads cost more than they bring
    try:
        trained = train_stages(
            config, data, Checkpoint(partial / CHECKPOINTS, fingerprint(config, images)), report
        )
        for leftover in ("shared", "clients"):
            shutil.rmtree(partial / leftover, ignore_errors=True)
        export_run(
            partial,
            trained.model,
            data.test_images_TCHW[:32],
            mesh=config.mesh,
            class_names=data.class_names,
            holds=data.holds,
            radio=radio_of(config),
        )
    finally:
        torch.set_num_threads(threads)
    finish_run(partial, out, config, config.seed, trained.rows)
    return trained
