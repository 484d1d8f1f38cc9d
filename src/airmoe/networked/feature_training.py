"""Stage 1: the shared feature extractor, by FedCE, by FedSC or its baseline, or fitted to sums.

Shape suffixes: T items.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.federated import (
    Averaging,
    Engine,
    Loop,
    Participation,
    Stage,
    State,
    federate,
    make_aggregation,
)
from airmoe.networked.client_data import ClientData
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.correlated_averaging import CorrelatedAveraging, weights_of
from airmoe.networked.features import features_of
from airmoe.networked.fedce import FedCeClient, Network
from airmoe.networked.fedsc import EXCHANGES, SPECTRAL
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node import FEATURES, Nodes
from airmoe.networked.patch_sums import PatchSums, fit_patches
from airmoe.networked.probe import probe_macro_f1
from airmoe.networked.secured import secured
from airmoe.nn import Extractor, PatchExtractor
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import macro_f1, outputs_in_batches


def train_extractor(
    stage: str,
    config: NetworkedConfig,
    network: Network,
    nodes: Nodes,
    held_out: HeldOut,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> list[MetricsRow]:
    """Train ``network``, whose head is temporary, in place over all clients; return the metrics rows.

    On the held-out images the rows hold ``macro_f1`` of the temporary head in FedCE, and ``probe_f1`` in
    FedSC and its baseline, see `airmoe.networked.probe.probe_macro_f1`.
    """
    if config.features.method == "patches":
        return _patches(stage, config, network.extractor, nodes, checkpoint, progress)
    images_TCHW, labels_T = held_out.images_TCHW, held_out.labels_T
    learning, at_once = _learning(stage, config, nodes.clients), network.extractor.images_at_once
    engine = secured(config, learning, nodes.engine(FEATURES))
    if config.features.method not in SPECTRAL:
        test = images_TCHW, labels_T, at_once
        return _fedce(learning, config, network, engine, test, checkpoint, progress)

    def evaluate(state: State) -> dict[str, float]:
        network.load_state_dict(weights_of(state))
        features_TF = outputs_in_batches(network.extractor, images_TCHW, at_once)
        return {"probe_f1": probe_macro_f1(features_TF, labels_T, len(held_out.class_names))}

    state, rows = federate(
        learning,
        network.state_dict(),
        engine,
        config.features.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        progress=progress,
    )
    network.load_state_dict(weights_of(state))
    return rows


def _patches(
    stage: str,
    config: NetworkedConfig,
    extractor: Extractor,
    nodes: Nodes,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> list[MetricsRow]:
    """Fit filters of patches, and the directions of their products, to sums."""
    assert isinstance(extractor, PatchExtractor)  # the settings say so
    sums = PatchSums(
        stage,
        nodes.clients,
        len(extractor.filters_KS),
        config.seed,
        config.features.patches.rounds,
        extractor.directions,
        extractor.threshold,
    )
    state, rows = federate(
        sums,
        {},
        secured(config, sums, nodes.engine(FEATURES)),
        sums.rounds,
        checkpoint=checkpoint,
        progress=progress,
    )
    fit_patches(extractor, state)
    return rows


def train_network(
    stage: str,
    config: NetworkedConfig,
    network: Network,
    data: ClientData,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> list[MetricsRow]:
    """Train one network in place by federated averaging over all clients; return the metrics rows.

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
    test = test_inputs_T, data.test_labels_T, at_once
    averaging = _averaging(stage, config, len(clients), ("train",))
    return _fedce(averaging, config, trained, Loop(clients), test, checkpoint, progress)


def _fedce(
    averaging: Stage,
    config: NetworkedConfig,
    trained: nn.Module,
    engine: Engine,
    test: tuple[Tensor, NDArray[np.int64], int],
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> list[MetricsRow]:
    inputs_T, labels_T, at_once = test

    def evaluate(state: State) -> dict[str, float]:
        trained.load_state_dict(state)
        logits_TC = outputs_in_batches(trained, inputs_T, at_once)
        return {"macro_f1": macro_f1(labels_T, logits_TC.argmax(dim=1).numpy(), logits_TC.shape[1])}

    state, rows = federate(
        averaging,
        trained.state_dict(),
        engine,
        config.features.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        progress=progress,
    )
    trained.load_state_dict(state)
    return rows


def _learning(stage: str, config: NetworkedConfig, clients: int) -> Stage:
    if config.features.method != "fedsc":
        return _averaging(stage, config, clients, ("train",))
    averaging = _averaging(stage, config, clients, EXCHANGES)
    return CorrelatedAveraging(averaging, config.features.spectral.projector_out)


def _averaging(stage: str, config: NetworkedConfig, clients: int, exchanges: tuple[str, ...]) -> Averaging:
    aggregation = make_aggregation(config.features.aggregation)
    participation = Participation(config.features.participation, config.seed)
    return Averaging(stage, clients, exchanges, aggregation, participation)
