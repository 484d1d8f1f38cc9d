"""Models of the curves. Each is trained once for all curves that share it; a resumed run finds it again."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.channel_aware.models import first_model, first_stage, second_model
from airmoe.channel_aware.stages import (
    TrainingImages,
    channel_aware_fingerprint,
    pick_device,
    train_stage,
)
from airmoe.data import ImageSet, is_official, load_images
from airmoe.links import TraceSnr, make_process
from airmoe.nn import MixtureOfExperts
from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.run_writing import images_digest
from airmoe.studies.curves.figure import Curves, Workspace

BATCH = 500


def inputs_of(curves: Mapping[str, Curves], options: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of all images and traces that are read, by name."""
    inputs = dict[str, str]()
    for curve in (curve for of_figure in curves.values() for curve in of_figure.values()):
        name = f"set of images {curve.data}"
        if name not in inputs:
            inputs[name] = images_digest(_images(curve.data, options.get("data_dir")))
        for process in (make_process(curve.train_snr), curve.process()):
            if isinstance(process, TraceSnr):
                inputs[process.name] = process.digest
    return inputs


def images_of(config: ChannelAwareConfig, work: Workspace) -> ImageSet:
    """Return the images of a configuration, loaded once."""
    return _images(config.data.name, work.options.get("data_dir"))


@lru_cache(maxsize=1)
def _images(name: str, data_dir: str | None) -> ImageSet:
    return load_images(name, data_dir=Path(data_dir) if data_dir and is_official(name) else None)


def trained_model(config: ChannelAwareConfig, work: Workspace) -> MixtureOfExperts:
    """Return the model of a configuration; train it unless its checkpoints are there.

    Stage 2 goes on from a stage 1 that all its variants share. Processes that want the same stage train it
    once.

    Args:
        config: what to train; without epochs in stage 2, stage 1 is all of the training.
        work: keeps the checkpoints; its option "device" says what trains.
    """
    images, device = images_of(config, work), pick_device(work.options.get("device", "auto"))
    first = first_stage(config)
    model = first_model(config, images).to(device)
    data = TrainingImages.drawn(config, images, device)
    for stage, of_stage in (("clean", first), ("channel", config)):
        if stage == "channel":
            model = second_model(config, images, model).to(device)
        name = channel_aware_fingerprint(of_stage, images)[:16]
        title = f"train {config.model.backbone}, {stage}, {name[:6]}, seed {config.seed}"

        def progress(stage: str, done: int, total: int, note: str = "", title: str = title) -> None:
            work.progress(title, done, total)

        if stage == "clean" or config.channel.epochs:
            with work.locked(name):
                checkpoint = Checkpoint(work.folder / "models" / name, name)
                train_stage(stage, model, of_stage, data, checkpoint=checkpoint, progress=progress)
    return model


class Asked:
    """A trained model and the payloads of the held-out images that it is asked about, on its device.

    Args:
        config: configuration of the model; kept as ``training``.
        test_images: how many images; None for all.
        work: see `trained_model`.
    """

    def __init__(self, config: ChannelAwareConfig, test_images: int | None, work: Workspace) -> None:
        self.training = config
        self.model = trained_model(config, work).eval()
        images = images_of(config, work)
        device = next(self.model.parameters()).device
        pixels = torch.from_numpy(images.test_images[:test_images]).to(device)
        with torch.no_grad():
            payloads = [self.model.extractor(part.float() / 255) for part in pixels.split(BATCH)]
        self.payload_T: Tensor = torch.cat(payloads)
        self.labels_T: Tensor = torch.from_numpy(images.test_labels[:test_images]).to(device)
