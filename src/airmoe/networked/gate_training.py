"""Stage 3: the shared gate, by FedGate or in closed form.

Shape suffixes: T items, F features, E experts, C classes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from airmoe.federated import (
    Averaging,
    Participation,
    Stage,
    State,
    Summing,
    federate,
    make_aggregation,
)
from airmoe.networked import closed_form, fedgate
from airmoe.networked.answers import questions_over_links
from airmoe.networked.closed_form import fit_gate
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import features_of
from airmoe.networked.gates import initial_gate, standardise, trained_part
from airmoe.networked.held_out import HeldOut, ask_all
from airmoe.networked.moments import Moments
from airmoe.networked.node import GATE, HELD_OUT, STATISTICS, Nodes
from airmoe.networked.secured import secured
from airmoe.nn import Extractor, LinearGate
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import mean_macro_f1, routed_answers


def train_gate(
    stage: str,
    config: NetworkedConfig,
    extractor: Extractor,
    nodes: Nodes,
    held_out: HeldOut,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> tuple[nn.Module, list[MetricsRow]]:
    """Stage 3: return a gate trained by FedGate, or fitted in closed form, and the metrics rows.

    Macro-F1 in the rows is measured on held-out images under top-1 routing, a mean over clients. A
    channel-aware gate is measured over analog Rayleigh links with the run's mean SNR; about each image one
    client asks, drawn at random. Another gate is measured over ideal links, where all clients get the same
    answers. The server asks every expert about these images once; that counts as no byte of training.

    Args:
        stage: a name, for reports and checkpoints.
        config: the run; ``config.gate.channel_aware`` says which gate it is.
        extractor: trained in stage 1.
        nodes: reach the clients, which have their experts.
        held_out: the images.
        checkpoint: as `train_stages`.
        progress: told of every round.
    """
    gate = initial_gate(config, extractor.features, nodes.clients)
    statistics = Moments(f"{stage} statistics", nodes.clients)
    engine = secured(config, statistics, nodes.engine(STATISTICS))
    moments, moments_rows = federate(statistics, {}, engine, 1, checkpoint=checkpoint)
    standardise(gate, moments)
    nodes.standardise(moments)
    (test_features_TF,), test_snr_db_TE = features_of(extractor, [held_out.images_TCHW]), None
    asked_by_T = torch.zeros(len(test_features_TF), dtype=torch.int64)
    asked = [test_features_TF] * nodes.clients
    if config.gate.channel_aware:
        random = stream(config.seed, "held-out links")
        test_snr_db_TE, asked, asked_by_T = questions_over_links(
            test_features_TF, nodes.clients, config.links.mean_snr_db, random
        )
    classes = len(held_out.class_names)
    test_probability_TEC = ask_all(nodes.engine(HELD_OUT), asked, classes)
    steps = _steps_of(stage, config, gate, nodes.clients, moments)

    def evaluate(state: State) -> dict[str, float]:
        steps.take(state)
        with torch.no_grad():
            scores_TE = gate(test_features_TF, test_snr_db_TE).scores_TE
        answers_T = routed_answers(scores_TE, test_probability_TEC)
        return {"macro_f1": mean_macro_f1(held_out.labels_T, answers_T, asked_by_T.numpy(), classes)}

    state, rows = federate(
        steps.stage,
        steps.start,
        secured(config, steps.stage, nodes.engine(GATE)),
        steps.rounds,
        checkpoint=checkpoint,
        evaluate=evaluate,
        progress=progress,
    )
    steps.take(state)
    return gate.eval(), [*moments_rows, *rows]


class _GateSteps(NamedTuple):
    """How the server learns a gate: the stage, its first state, and what the gate takes from a state."""

    stage: Stage
    start: State
    rounds: int
    take: Callable[[State], object]


def _steps_of(
    stage: str, config: NetworkedConfig, gate: nn.Module, clients: int, moments: State
) -> _GateSteps:
    settings = config.gate
    if settings.method == "closed-form":
        assert isinstance(gate, LinearGate)  # the settings say so
        fit = partial(fit_gate, gate, penalty=settings.ridge, sharpness=settings.sharpness)
        return _GateSteps(Summing(stage, clients, closed_form.EXCHANGES, told=moments), {}, 1, fit)
    part, aggregation = trained_part(gate), make_aggregation(settings.aggregation)
    participation = Participation(settings.participation, config.seed)
    averaging = Averaging(stage, clients, fedgate.EXCHANGES, aggregation, participation)
    return _GateSteps(averaging, part.state_dict(), settings.rounds, part.load_state_dict)
