"""Everything that the demonstration trains: the networked mixture, its baselines, a channel-aware gate."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airmoe.data import ImageSet
from airmoe.monitor import EVENTS, write_events
from airmoe.networked import (
    ClientData,
    NodesHere,
    train_central_moe,
    train_fedavg_network,
    train_gate,
    train_run,
)
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import features_of
from airmoe.networked.fedce import Network
from airmoe.nn import Extractor, MixtureOfExperts, MoeLayer
from airmoe.progress import Progress
from airmoe.report.results import CurvePoint, StageTraining
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.onnx_files import export_gate
from airmoe.runs.weights import save_weights
from airmoe.studies.demo.steps import StepClock

AWARE_GATE = "gate_channel_aware"
"""Name of the channel-aware gate's two files beside the usual gate's."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What was trained.

    Attributes:
        networked: the networked mixture.
        fedavg: one network, by federated averaging.
        central: a mixture trained on all images in one place.
        aware: the networked mixture under a channel-aware gate; None where it was not asked for.
        rows: the metrics rows of all federated stages.
    """

    networked: MixtureOfExperts
    fedavg: Network
    central: MixtureOfExperts
    aware: MixtureOfExperts | None
    rows: list[MetricsRow]


def train_all(
    config: NetworkedConfig,
    images: ImageSet,
    data: ClientData,
    run: Path,
    *,
    central_epochs: int,
    analog: bool,
    clock: StepClock,
    progress: Progress,
) -> Trained:
    """Train everything and write the run folder of the networked mixture.

    Args:
        config: settings of the run.
        images: all of the data.
        data: the same data, divided among the clients.
        run: the run folder to make.
        central_epochs: passes over the data for the central mixture.
        analog: whether to train a channel-aware gate, too.
        clock: times each training.
        progress: told about each training.
    """

    @contextlib.contextmanager
    def training(activity: str, total: int) -> Iterator[Progress]:
        with clock.step(activity):
            yield _counted(progress, activity, total)

    rounds, gate_rounds = config.features.rounds, config.gate.rounds
    with training("train the networked MoE", rounds + config.data.clients + gate_rounds) as counted:
        networked = train_run(config, images, run, progress=counted)
    with training("train one FedAvg network", rounds) as counted:
        fedavg, fedavg_rows = train_fedavg_network(config, data, counted)
    with training("train a central MoE", central_epochs) as counted:
        central, central_rows = train_central_moe(config, images, central_epochs, counted)
    rows, aware = [*networked.rows, *fedavg_rows], None
    if analog:
        with training("train a channel-aware gate", gate_rounds) as counted:
            aware, aware_rows = _train_aware(config, networked.model, data, run, counted)
        rows += aware_rows
    write_events(run / EVENTS, [*rows[len(networked.rows) :], *central_rows])
    return Trained(networked.model, fedavg, central, aware, rows)


def stages_of(rows: Sequence[MetricsRow], clients: int) -> tuple[StageTraining, ...]:
    """Return what each federated stage reached and sent, in the order of the rows."""
    stages: dict[str, list[MetricsRow]] = {}
    for row in rows:
        stages.setdefault(str(row["stage"]), []).append(row)
    return tuple(
        StageTraining(
            stage=stage,
            curve=tuple(
                CurvePoint(round=int(row["round"]), macro_f1=float(row["macro_f1"]))
                for row in stage_rows
                if "macro_f1" in row
            ),
            bytes_per_client=sum(float(row["bytes"]) / clients for row in stage_rows),
        )
        for stage, stage_rows in stages.items()
    )


def _train_aware(
    config: NetworkedConfig, naive: MixtureOfExperts, data: ClientData, run: Path, progress: Progress
) -> tuple[MixtureOfExperts, list[MetricsRow]]:
    """Return a mixture of the same extractor and experts under a channel-aware gate, and its metrics rows.

    Stage 3 trains the gate with the settings of the usual one, but all clients have the same. It is written
    to ``shared/``.
    """
    config = config.model_copy(
        update={"gate": config.gate.model_copy(update={"channel_aware": True, "sync": None})}
    )
    extractor, experts, nodes = naive.extractor, list(naive.layer.experts), NodesHere(config, data)
    assert isinstance(extractor, Extractor)  # as training made it
    weights = {client: expert.state_dict() for client, expert in enumerate(experts)}
    nodes.settle(extractor.state_dict(), weights)
    gate, rows = train_gate("channel-aware gate", config, extractor, nodes, data.held_out, progress=progress)
    (features_TF,) = features_of(extractor, [data.test_images_TCHW[:32]])
    save_weights(gate, run / "shared" / f"{AWARE_GATE}.safetensors")
    export_gate(gate, features_TF, len(experts), run / "shared" / f"{AWARE_GATE}.onnx")
    return MixtureOfExperts(extractor, MoeLayer(gate, experts)).eval(), rows


def _counted(progress: Progress, activity: str, total: int) -> Progress:
    """Return a callback that counts the steps of several stages as those of one activity."""
    done = 0

    def counted(stage: str, of_stage: int, in_stage: int, note: str = "", /) -> None:
        nonlocal done
        done += 1
        progress(activity, done, total, note)

    progress(activity, 0, total)
    return counted
