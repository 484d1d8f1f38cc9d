"""From images to a run folder of a channel-aware mixture: a server asks, and each node serves an expert."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.channel_aware.models import first_model, first_stage, networks_of, second_model
from airmoe.channel_aware.stages import (
    TrainingImages,
    channel_aware_fingerprint,
    pick_device,
    train_stage,
    unseen,
)
from airmoe.checks import refuse_type
from airmoe.data import ImageSet, as_pixels
from airmoe.dispatch.reach import warn_of_reach
from airmoe.files import AnyPath, as_path
from airmoe.links import LinkSnr, make_process
from airmoe.manifest import RadioSpec
from airmoe.monitor import EVENTS, write_events
from airmoe.nn import Extractor, LocalCarrier, MixtureOfExperts, RadioCarrier
from airmoe.nn.build import pretrained_digest
from airmoe.nn.threads import training_threads
from airmoe.progress import Progress, silent
from airmoe.radio import make_transmission
from airmoe.randomness import stream
from airmoe.runs.asking import HELD_OUT_NOISE, HELD_OUT_SNR, ask_in_batches
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.export import export_run
from airmoe.runs.manifests import rehearse_manifests
from airmoe.runs.run_writing import begun_run, finish_run, run_checkpoint
from airmoe.scheduling import TopK
from airmoe.seeding import torch_seeded


@dataclass(frozen=True)
class ChannelAwareMoe:
    """A trained mixture, with a metrics row for each epoch and one for the held-out images."""

    model: MixtureOfExperts
    rows: list[MetricsRow]


def train_channel_aware(
    config: ChannelAwareConfig,
    images: ImageSet,
    out: AnyPath,
    *,
    device: str = "auto",
    resume: bool = False,
    progress: Progress = silent,
) -> ChannelAwareMoe:
    """Train over both stages and write a run folder that a server and expert nodes run from.

    While it trains, everything lies in ``out`` + ".partial": a checkpoint after every epoch, and metrics as
    TensorBoard events. At the end that folder is renamed to ``out``.

    Args:
        config: the run.
        images: the data.
        out: the run folder to make; must not exist.
        device: "auto", "cpu" or "cuda".
        resume: take up ``out``.partial where an interrupted run left it; on a CPU it ends at the same
            weights, on CUDA at the same up to rounding.
        progress: told the stages and their steps, and how many held-out images were answered.

    Raises:
        InvalidInputError: ``out`` exists, an argument is of another type, or a setting does not fit the data
            or this machine.
        RunFolderError: something to resume is missing, damaged, or of another configuration or data set.
        TrainingDivergedError: a loss or weight is not finite; the last good checkpoint stays behind.
    """
    refuse_type("config", config, ChannelAwareConfig)
    refuse_type("images", images, ImageSet)
    out = as_path(out)
    warn_of_reach(config.model.experts + 1, config.links.subcarriers, config.links.transmission)
    with (
        training_threads(config.model.backbone),
        begun_run(out, config, config.seed, images, resume=resume) as partial,
    ):
        return _trained_in(partial, config, images, out, pick_device(device), progress)


def _trained_in(
    partial: Path,
    config: ChannelAwareConfig,
    images: ImageSet,
    out: Path,
    place: torch.device,
    progress: Progress,
) -> ChannelAwareMoe:
    radio = RadioSpec(**config.links.model_dump(), seed=config.seed)
    holds: list[list[int]] = [[] for _ in range(config.model.experts)]
    rehearse_manifests(
        mesh=config.mesh, class_names=images.class_names, holds=holds, radio=radio, server=True
    )
    data = TrainingImages.drawn(config, images, place)
    checkpoint = run_checkpoint(partial, channel_aware_fingerprint(config, images))
    model = first_model(config, images).to(place)
    rows = train_stage("clean", model, first_stage(config), data, checkpoint=checkpoint, progress=progress)
    model = second_model(config, images, model).to(place)
    rows += train_stage("channel", model, config, data, checkpoint=checkpoint, progress=progress)
    model = model.cpu()
    accuracy = held_out_accuracy(model, config, images, progress)
    _warn_of_guessing(accuracy["accuracy_perfect"], images)
    rows.append({"stage": "held out", "round": 1, **accuracy})
    write_events(partial / EVENTS, rows[-1:])
    for leftover in ("shared", "clients"):
        shutil.rmtree(partial / leftover, ignore_errors=True)
    export_run(
        partial,
        model,
        torch.from_numpy(as_pixels(images.test_images[:32])),
        mesh=config.mesh,
        class_names=images.class_names,
        holds=holds,
        radio=radio,
        server=True,
        gate_sees_snr=_sees_snr(config),
    )
    read = {"backbone": pretrained_digest(model.extractor)}
    finish_run(partial, out, config, config.seed, rows, images, read)
    return ChannelAwareMoe(model, rows)


def held_out_accuracy(
    model: MixtureOfExperts, config: ChannelAwareConfig, images: ImageSet, progress: Progress = silent
) -> dict[str, float]:
    """Return the accuracy on held-out images over a perfect channel, and under the law of stage 2.

    ``energy_j`` is the mean energy of an image over these links.
    """
    settings, items = config.channel, len(images.test_labels)
    process = make_process(settings.snr)
    snr = LinkSnr.drawn(process, items, config.model.experts, stream(config.seed, HELD_OUT_SNR))
    if not _sees_snr(config):
        snr = unseen(snr.true_db_TE)
    policy, radio = TopK(config.model.k), RadioCarrier(make_transmission(settings.transmission))
    assert isinstance(model.extractor, Extractor)
    at_once = model.extractor.images_at_once
    pixels_TCHW, payloads = torch.from_numpy(as_pixels(images.test_images)), list[Tensor]()
    with torch.no_grad():
        for part in pixels_TCHW.split(at_once):
            payloads.append(model.extractor(part))
            progress("held out", min(len(payloads) * at_once, items), items)
    perfect = ask_in_batches(model.layer, payloads, policy=policy, carrier=LocalCarrier())
    with torch_seeded(config.seed, HELD_OUT_NOISE):
        over_links = ask_in_batches(model.layer, payloads, policy=policy, carrier=radio, snr=snr)
    right, right_over_links = (int((a.answer_T == images.test_labels).sum()) for a in (perfect, over_links))
    return {
        "accuracy_perfect": right / items,
        "accuracy": right_over_links / items,
        "energy_j": float(over_links.energy_j_T.mean()),
    }


def _warn_of_guessing(accuracy: float, images: ImageSet) -> None:
    """Log a warning if a mixture is right no more often than the same answer to every held-out image."""
    count_C = np.bincount(images.test_labels)
    commonest = int(count_C.argmax())
    if accuracy <= (guessing := count_C[commonest] / len(images.test_labels)) < 1:
        logging.getLogger("airmoe").warning(
            "training: the mixture is right about %.1f %% of the held-out images over a perfect channel, and "
            "whoever always answers %r about %.1f %%: it learned nothing that carries over. A lower "
            "learning_rate, warmup = 0.1 or more epochs in [clean] and [channel] may help",
            100 * accuracy,
            images.class_names[commonest],
            100 * guessing,
        )


def _sees_snr(config: ChannelAwareConfig) -> bool:
    """Return whether the gate was trained to see links: in stage 2, or in stage 1 among several networks."""
    chose_in_stage_1 = config.clean.over_links and networks_of(config) > 1
    return config.channel.gate_sees_snr and (config.channel.epochs > 0 or chose_in_stage_1)
