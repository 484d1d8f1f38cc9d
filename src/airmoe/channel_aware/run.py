"""From images to a run folder by two-stage training: a server with extractor and gate, an expert per node."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from airmoe.channel_aware.config import TwoStageConfig
from airmoe.channel_aware.stages import (
    Say,
    TrainingImages,
    gated_fingerprint,
    initial_model,
    pick_device,
    train_stage,
    unseen,
)
from airmoe.data import ImageSet, as_pixels
from airmoe.links import LinkSnr, make_process
from airmoe.manifest import RadioSpec
from airmoe.nn import LocalCarrier, MixtureOfExperts, RadioCarrier
from airmoe.radio import make_transmission
from airmoe.randomness import stream
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.export import export_run
from airmoe.runs.run_writing import begun_run, finish_run, run_checkpoint
from airmoe.scheduling import TopK
from airmoe.seeding import torch_seeded

BATCH = 500


@dataclass(frozen=True)
class GatedMoe:
    """What the two stages make: the mixture, and a metrics row per epoch and one of held-out images."""

    model: MixtureOfExperts
    rows: list[MetricsRow]


def train_gated_run(
    config: TwoStageConfig,
    images: ImageSet,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    report: Callable[[MetricsRow], None] = lambda row: None,
    say: Say = lambda what, done, total, note: None,
) -> GatedMoe:
    """Train over both stages and write a run folder that a server and expert nodes run from.

    While it trains, everything lies in ``out`` + ".partial", with a checkpoint after every epoch and the
    progress as TensorBoard events; at the end that folder is renamed to ``out``.

    Args:
        config: the run.
        images: the data.
        out: the run folder to make; must not exist.
        device: "auto", "cpu" or "cuda".
        resume: take up ``out``.partial where an interrupted run left it; on a processor it ends at the same
            weights, on CUDA up to rounding.
        report: called with each metrics row.
        say: told about progress.

    Raises:
        InvalidInputError: ``out`` exists, or a setting does not fit the data or this machine.
        RunFolderError: something to resume is missing, damaged, or of another configuration or data set.
        TrainingDivergedError: a loss or weight is not finite; the last good checkpoint stays behind.
    """
    partial = begun_run(out, resume)
    place = pick_device(device)
    data = TrainingImages.drawn(config, images, place)
    model = initial_model(config, images).to(place)
    checkpoint = run_checkpoint(partial, gated_fingerprint(config, images))
    threads = torch.get_num_threads()
    if config.model.backbone == "lenet5":
        torch.set_num_threads(1)  # small networks: more threads cost more than they bring
    try:
        with _Events(partial / "tensorboard") as events:

            def tell(row: MetricsRow) -> None:
                events.write(row)
                report(row)

            rows = list[MetricsRow]()
            for stage in ("clean", "channel"):
                rows += train_stage(stage, model, config, data, checkpoint=checkpoint, report=tell, say=say)
        model = model.cpu()
        held_out: MetricsRow = {"stage": "held out", "round": 1, **held_out_accuracy(model, config, images)}
        rows.append(held_out)
        report(rows[-1])
        for leftover in ("shared", "clients"):
            shutil.rmtree(partial / leftover, ignore_errors=True)
        export_run(
            partial,
            model,
            torch.from_numpy(as_pixels(images.test_images[:32])),
            mesh=config.mesh,
            class_names=images.class_names,
            holds=[[] for _ in model.layer.experts],
            radio=RadioSpec(**config.links.model_dump(), seed=config.seed),
            server=True,
            gate_sees_snr=_sees_snr(config),
        )
    finally:
        torch.set_num_threads(threads)
    finish_run(partial, out, config, config.seed, rows)
    return GatedMoe(model, rows)


def held_out_accuracy(model: MixtureOfExperts, config: TwoStageConfig, images: ImageSet) -> dict[str, float]:
    """Return the accuracy on held-out images over a perfect channel, and under the law of stage 2."""
    settings, items = config.channel, len(images.test_labels)
    process = make_process(settings.snr)
    snr = LinkSnr.drawn(process, items, config.model.experts, stream(config.seed, "held-out snr"))
    if not _sees_snr(config):
        snr = unseen(snr.true_db_TE)
    policy, radio = TopK(config.model.k), RadioCarrier(make_transmission(settings.transmission))
    right, right_over_links = 0, 0
    with torch.no_grad(), torch_seeded(config.seed, "held-out noise"):
        for item_B in torch.arange(items).split(BATCH):
            rows_B = item_B.numpy()
            payload = model.extractor(torch.from_numpy(as_pixels(images.test_images[rows_B])))
            labels_B = torch.from_numpy(images.test_labels[rows_B])
            perfect = model.layer(payload, policy=policy, carrier=LocalCarrier())
            right += int((perfect.y_TC.argmax(dim=1) == labels_B).sum())
            answer = model.layer(payload, snr=snr.of_items(rows_B), policy=policy, carrier=radio)
            right_over_links += int((answer.y_TC.argmax(dim=1) == labels_B).sum())
    return {"accuracy_perfect": right / items, "accuracy": right_over_links / items}


def _sees_snr(config: TwoStageConfig) -> bool:
    """Return whether the gate was trained to see links, which it is in stage 2 alone."""
    return config.channel.gate_sees_snr and config.channel.epochs > 0


class _Events:
    """TensorBoard event files of metrics rows."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder)

    def __enter__(self) -> "_Events":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, row: MetricsRow) -> None:
        """Write the numbers of a metrics row under the name of its stage."""
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['stage']}/{name}", value, row["round"])
