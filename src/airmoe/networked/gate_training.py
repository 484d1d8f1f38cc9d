"""Stage 3: the shared gate, by FedGate or in closed form.

Shape suffixes: T items, F features, E experts, C classes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from airmoe.federated import Averaging, Client, Loop, Stage, State, Summing, federate, make_aggregation
from airmoe.networked import closed_form, fedgate
from airmoe.networked.answers import answers_over_links
from airmoe.networked.client_data import ClientData
from airmoe.networked.closed_form import GateSumsClient, fit_gate
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import features_of
from airmoe.networked.fedgate import FedGateClient, content_of, trained_part
from airmoe.networked.moments import Moments, MomentsClient
from airmoe.nn import BiasGate, LinearGate
from airmoe.nn.build import build_gate
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import mean_macro_f1, outputs_in_batches, routed_answers
from airmoe.seeding import torch_seeded


def train_gate(
    stage: str,
    config: NetworkedConfig,
    extractor: nn.Module,
    experts: Sequence[nn.Module],
    features_TF: Sequence[Tensor],
    data: ClientData,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> tuple[nn.Module, list[MetricsRow]]:
    """Stage 3: return a gate trained by FedGate, or fitted in closed form, and the metrics rows.

    Macro-F1 in the rows is measured on held-out images under top-1 routing, a mean over clients. A
    channel-aware gate is measured over analog Rayleigh links with the run's mean SNR; about each image one
    client asks, drawn at random. Another gate is measured over ideal links, where all clients get the same
    answers.

    Args:
        stage: a name, for reports and checkpoints.
        config: the run; ``config.gate.channel_aware`` says which gate it is.
        extractor: trained in stage 1.
        experts: trained in stage 2.
        features_TF: of every client's images.
        data: of all clients.
        checkpoint: as `train_stages`.
        progress: told of every round.
    """
    gate = _initial_gate(config, features_TF[0].shape[1], len(experts))
    moments, moments_rows = federate(
        Moments(f"{stage} statistics", len(features_TF)),
        {},
        Loop([MomentsClient(features) for features in features_TF]),
        1,
        checkpoint=checkpoint,
    )
    if isinstance(content := content_of(gate), LinearGate):  # others see to their features themselves
        content.standardise(moments["mean"], moments["std"])
    (test_features_TF,), test_snr_db_TE = features_of(extractor, [data.test_images_TCHW]), None
    asks_T = torch.zeros(len(test_features_TF), dtype=torch.int64)
    if config.gate.channel_aware:
        random = stream(config.seed, "held-out links")
        test_snr_db_TE, test_probability_TEC, asks_T = answers_over_links(
            test_features_TF, experts, config.links.mean_snr_db, random
        )
    else:
        test_probability_TEC = torch.stack([outputs_in_batches(e, test_features_TF) for e in experts], dim=1)

    if config.gate.method == "closed-form":
        steps = _closed_form(stage, config, gate, experts, features_TF, data, moments)
    else:
        steps = _fedgate(stage, config, gate, experts, features_TF, data)

    def evaluate(state: State) -> dict[str, float]:
        steps.take(state)
        with torch.no_grad():
            scores_TE = gate(test_features_TF, test_snr_db_TE).scores_TE
        answers_T = routed_answers(scores_TE, test_probability_TEC)
        f1 = mean_macro_f1(data.test_labels_T, answers_T, asks_T.numpy(), len(data.class_names))
        return {"macro_f1": f1}

    state, rows = federate(
        steps.stage,
        steps.start,
        Loop(steps.clients),
        steps.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        progress=progress,
    )
    steps.take(state)
    return gate.eval(), [*moments_rows, *rows]


class _GateSteps(NamedTuple):
    """How a gate is learnt: the two sides, the server's first state, and what the gate takes from a state."""

    stage: Stage
    clients: Sequence[Client]
    start: State
    rounds: int
    take: Callable[[State], object]


def _fedgate(
    stage: str,
    config: NetworkedConfig,
    gate: nn.Module,
    experts: Sequence[nn.Module],
    features_TF: Sequence[Tensor],
    data: ClientData,
) -> _GateSteps:
    each = enumerate(zip(experts, features_TF, data.labels_T, strict=True))
    clients = [
        FedGateClient(
            gate, partial(outputs_in_batches, expert), features, labels, config.gate, config.seed, client
        )
        for client, (expert, features, labels) in each
    ]
    part, aggregation = trained_part(gate), make_aggregation(config.gate.aggregation)
    averaging = Averaging(stage, len(clients), fedgate.EXCHANGES, aggregation)
    return _GateSteps(averaging, clients, part.state_dict(), config.gate.rounds, part.load_state_dict)


def _closed_form(
    stage: str,
    config: NetworkedConfig,
    gate: nn.Module,
    experts: Sequence[nn.Module],
    features_TF: Sequence[Tensor],
    data: ClientData,
    moments: State,
) -> _GateSteps:
    assert isinstance(gate, LinearGate)  # the settings say so
    each = enumerate(zip(experts, features_TF, data.labels_T, strict=True))
    clients = [
        GateSumsClient(partial(outputs_in_batches, expert), features, labels, client, len(experts))
        for client, (expert, features, labels) in each
    ]
    summing = Summing(stage, len(clients), closed_form.EXCHANGES, told=moments)
    fit = partial(fit_gate, gate, penalty=config.gate.ridge, sharpness=config.gate.sharpness)
    return _GateSteps(summing, clients, {}, 1, fit)


def _initial_gate(config: NetworkedConfig, features: int, experts: int) -> nn.Module:
    with torch_seeded(config.seed, "gate weights"):
        content = build_gate(config.model.gate, features, experts)
    if not config.gate.channel_aware or content.sees_snr:
        return content
    with torch_seeded(config.seed, "worth of a link"):
        return BiasGate(content)
