"""One averaged network against the epochs that clients trained: the yardstick niid_bench, and momentum."""

from collections.abc import Iterator

import torch

from airmoe.data.partitions import partition_digest
from airmoe.federated import Averaging, Loop, State, federate
from airmoe.networked.client_data import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import FedCeClient
from airmoe.nn.backbones.lenet5 import LeNet5Expert
from airmoe.nn.threads import one_thread
from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Table
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.evaluation import outputs_in_batches
from airmoe.runs.run_writing import fingerprint
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.networked.models import images_of
from airmoe.studies.networked.settings import AveragingSettings

STAGE = "averaged LeNet-5"


def measure(settings: AveragingSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the accuracy of the averaged network on held-out images after so many epochs."""
    with one_thread():
        rows = _trained(settings, settings.training(seed), work)
    by_round = {int(row["round"]): row for row in rows}
    for value in settings.values:
        row = by_round[int(value) // settings.local_epochs]
        yield {"x": value, "seed": seed, "accuracy": float(row["accuracy"])}


def _trained(settings: AveragingSettings, config: NetworkedConfig, work: Workspace) -> list[MetricsRow]:
    """Return the rows of a training, a row per round; the original LeNet-5, all of it averaged."""
    images = images_of(settings, work)
    data = split_among_clients(config, images)
    network = initial_network(
        config,
        data.test_images_TCHW.shape[1:],
        lambda features: LeNet5Expert(len(data.class_names), features).layers,
    )
    initial, labels_T = network.state_dict(), torch.from_numpy(data.test_labels_T)
    asked_rounds = sorted({int(value) // settings.local_epochs for value in settings.values})
    each = enumerate(zip(data.images_TCHW, data.labels_T, strict=True))
    clients = [
        FedCeClient(network, pixels, labels, config.features, config.seed, client)
        for client, (pixels, labels) in each
    ]
    digest = fingerprint(config, images, STAGE, partition_digest(settings.partition), str(asked_rounds))
    title = f"average LeNet-5, {settings.partition}, momentum {settings.momentum:g}, seed {config.seed}"
    rows = list[MetricsRow]()

    def accuracy(state: State) -> dict[str, float]:
        network.load_state_dict(state)
        logits_TC = outputs_in_batches(network, data.test_images_TCHW)
        return {"accuracy": float((logits_TC.argmax(dim=1) == labels_T).double().mean())}

    checkpoint = Checkpoint(work.folder / "models" / digest[:16], digest)
    with work.locked(digest[:16]):
        if (saved := checkpoint.load(STAGE)) is not None:
            rows = saved.rows
        for rounds in asked_rounds:  # the last round of each call is evaluated
            if rounds > len(rows):
                _, rows = federate(
                    Averaging(STAGE, len(clients)),
                    initial,
                    Loop(clients),
                    rounds,
                    checkpoint=checkpoint,
                    evaluate=accuracy,
                    progress=lambda _, done, total, note="", /: work.progress(title, done, total, note),
                )
    return rows


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return accuracy against epochs."""
    drawn = []
    for name, look in zip(figure.curves, looks_of(list(figure.curves)), strict=True):
        spread = scaled(rows.spread(name, "accuracy"), 100)
        drawn.append(Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look))
    return {"": Drawing([panel(figure, drawn)])}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return the accuracy after so many epochs."""
    spreads = {figure.label(name): scaled(rows.spread(name, "accuracy"), 100) for name in figure.curves}
    return [sweep_table("accuracy", "Accuracy", figure.x_label("epochs of each client"), spreads, unit="%")]


AVERAGING = FigureKind(AveragingSettings, ("accuracy",), measure, draw, tables)
