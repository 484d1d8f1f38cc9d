"""Stage 3: the gate, by rounds of questions and training, or in closed form.

Shape suffixes: T items, F features, E experts, C classes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from torch import nn

from airmoe.errors import InvalidInputError
from airmoe.federated import (
    Averaging,
    Participation,
    Stage,
    State,
    Summing,
    federate,
    make_aggregation,
    nbytes,
)
from airmoe.networked import closed_form
from airmoe.networked.answers import questions_over_links
from airmoe.networked.class_sums import Discriminant
from airmoe.networked.closed_form import fit_gate
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import features_of
from airmoe.networked.fedgate import exchanges_of
from airmoe.networked.gate_measures import HeldOutAnswers, measures, warn_of_collapse, warn_of_silence
from airmoe.networked.gates import gates_at_clients, initial_gate, standardise, trained_part
from airmoe.networked.held_out import HeldOut, ask_all
from airmoe.networked.moments import Moments
from airmoe.networked.node import GATE, HELD_OUT, STATISTICS, Nodes
from airmoe.networked.secured import secured
from airmoe.networked.syncs import gates_differ
from airmoe.nn import Extractor, PosteriorGate
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint, MetricsRow


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
    """Stage 3: return a gate that was trained or fitted in closed form, and the metrics rows.

    The rows hold `airmoe.networked.gate_measures.measures` of held-out images. The bytes of the last one
    include telling every client the gate that it shares with all. A channel-aware gate is
    measured over analog Rayleigh links with the run's mean SNR; about each image one client asks, drawn at
    random. Another gate is measured over ideal links; there every client asks about every image. The server
    asks every expert about these images once; that counts as no byte of training.

    Where clients have gates of their own, the gate is `airmoe.nn.PersonalGates`.

    Args:
        stage: a name, for reports and checkpoints.
        config: the run; ``config.gate.channel_aware`` says which gate it is.
        extractor: trained in stage 1.
        nodes: reach the clients, which have their experts.
        held_out: the images.
        checkpoint: as `train_stages`.
        progress: told of every round.

    Raises:
        InvalidInputError: clients are to have gates of their own, and these are elsewhere.
        TrainingDivergedError: as `airmoe.federated.federate`.
    """
    gate = initial_gate(config, extractor.features, nodes.clients)
    statistics = Moments(f"{stage} statistics", nodes.clients)
    engine = secured(config, statistics, nodes.engine(STATISTICS))
    moments, moments_rows = federate(statistics, {}, engine, 1, checkpoint=checkpoint)
    standardise(gate, moments)
    nodes.standardise(moments)
    answers = held_out_answers(config, extractor, nodes, held_out)
    steps = _steps_of(stage, config, gate, nodes.clients, moments)
    engine = secured(config, steps.stage, nodes.engine(GATE))
    if steps.personal and len(engine.states) < nodes.clients:
        expected = "fedavg: clients that are elsewhere keep their gates to themselves"
        raise InvalidInputError("gate.sync", config.gate.sync, expected)

    told_bytes = nodes.clients * nbytes(trained_part(gate).state_dict())
    state, rows = federate(
        steps.stage,
        steps.start,
        engine,
        steps.rounds,
        checkpoint=checkpoint,
        evaluate=lambda state: measures(steps.gate_of(state, engine.states), answers),
        closing_bytes=0 if steps.personal else told_bytes,
        progress=progress,
    )
    warn_of_collapse(stage, rows[-1])
    warn_of_silence(stage, rows, nodes.clients)
    return steps.gate_of(state, engine.states).eval(), [*moments_rows, *rows]


def fit_posterior_gate(
    stage: str,
    config: NetworkedConfig,
    extractor: Extractor,
    nodes: Nodes,
    held_out: HeldOut,
    discriminant: Discriminant,
) -> tuple[PosteriorGate, list[MetricsRow]]:
    """Stage 3 without a round: return the gate that the discriminant of all clients makes, and a row.

    Args:
        stage: as `train_gate`.
        config: as `train_gate`.
        extractor: as `train_gate`.
        nodes: as `train_gate`.
        held_out: as `train_gate`.
        discriminant: of all clients' features.
    """
    gate = PosteriorGate(extractor.features, nodes.clients, len(held_out.class_names)).eval()
    weight_CF, bias_C = discriminant.of_raw_features()
    counts_CN = discriminant.counts_NC.T
    gate.weight_CF.copy_(weight_CF)
    gate.bias_C.copy_(bias_C)
    gate.share_CE.copy_(counts_CN / counts_CN.sum(dim=1, keepdim=True).clamp_min(1))
    answers = held_out_answers(config, extractor, nodes, held_out)
    told_bytes = nodes.clients * nbytes(gate.state_dict())
    return gate, [{"stage": stage, "round": 1, "bytes": told_bytes, **measures(gate, answers)}]


def held_out_answers(
    config: NetworkedConfig, extractor: Extractor, nodes: Nodes, held_out: HeldOut
) -> HeldOutAnswers:
    """Return what every expert answers about held-out images; over links for a channel-aware gate."""
    (features_TF,), snr_db_TE = features_of(extractor, [held_out.images_TCHW]), None
    asked_by_T, asked = None, [features_TF] * nodes.clients
    if config.gate.channel_aware:
        random = stream(config.seed, "held-out links")
        snr_db_TE, asked, drawn_T = questions_over_links(
            features_TF, nodes.clients, config.links.mean_snr_db, random
        )
        asked_by_T = drawn_T.numpy()
    answers_TEC = ask_all(nodes.engine(HELD_OUT), asked, len(held_out.class_names))
    return HeldOutAnswers(features_TF, held_out.labels_T, answers_TEC, snr_db_TE, asked_by_T)


class _GateSteps(NamedTuple):
    """How the server learns a gate.

    Attributes:
        stage: its side.
        start: its first state.
        rounds: how many.
        gate_of: the gate, or every client's own, that the states of the server and of the clients make.
        personal: whether clients have gates of their own.
    """

    stage: Stage
    start: State
    rounds: int
    gate_of: Callable[[State, Mapping[int, State]], nn.Module]
    personal: bool


def _steps_of(
    stage: str, config: NetworkedConfig, gate: nn.Module, clients: int, moments: State
) -> _GateSteps:
    settings = config.gate
    if settings.method == "closed-form":
        summing = Summing(stage, clients, closed_form.EXCHANGES, told=moments)

        def fitted(sums: State, _: Mapping[int, State]) -> nn.Module:
            fit_gate(gate, sums, penalty=settings.ridge, sharpness=settings.sharpness)
            return gate

        return _GateSteps(summing, {}, 1, fitted, personal=False)
    sync = settings.sync_rule
    aggregation = make_aggregation(settings.aggregation if sync.averages else "mean")
    participation = Participation(settings.participation, config.seed)
    averaging = Averaging(stage, clients, exchanges_of(sync), aggregation, participation)
    start = trained_part(gate).state_dict() if sync.averages else {}
    gate_of = partial(gates_at_clients, gate, sync)
    return _GateSteps(averaging, start, settings.rounds, gate_of, gates_differ(sync))
