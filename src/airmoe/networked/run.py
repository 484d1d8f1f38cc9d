"""From images to a run folder: split the images among clients, train, export."""

import shutil
from pathlib import Path

from airmoe.checks import refuse_type
from airmoe.data import ImageSet
from airmoe.data.partitions import partition_digest
from airmoe.dispatch.reach import warn_of_reach
from airmoe.files import AnyPath, as_path
from airmoe.manifest import RadioSpec
from airmoe.networked.client_data import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.stages import NetworkedMoe, train_stages
from airmoe.nn.build import backbone_digest
from airmoe.nn.threads import training_threads
from airmoe.progress import Progress, silent
from airmoe.runs.export import export_run
from airmoe.runs.manifests import rehearse_manifests
from airmoe.runs.run_writing import begun_run, fingerprint, finish_run, run_checkpoint
from airmoe.runs.stage_times import StageTimes


def radio_of(config: NetworkedConfig) -> RadioSpec:
    """Return the radio of a run in the form of its manifests."""
    return RadioSpec(**config.links.model_dump(), seed=config.seed)


def train_run(
    config: NetworkedConfig,
    images: ImageSet,
    out: AnyPath,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> NetworkedMoe:
    """Train a networked MoE and write its run folder.

    While it trains, everything lies in ``out`` + ".partial"; at the end that folder is renamed to ``out``.

    Args:
        config: the run.
        images: the data.
        out: the run folder to make; must not exist.
        resume: take up ``out``.partial where an interrupted run left it; it ends at the same weights.
        progress: as `train_stages`.

    Raises:
        InvalidInputError: ``out`` exists, an argument is of another type, or the images cannot be split among
            that many clients.
        RunFolderError: something to resume is missing, damaged, or of another configuration or data set.
        TrainingDivergedError: a loss or weight is not finite; the last good checkpoint stays behind.
    """
    refuse_type("config", config, NetworkedConfig)
    refuse_type("images", images, ImageSet)
    out = as_path(out)
    warn_of_reach(config.data.clients, config.links.subcarriers, config.links.transmission)
    with (
        training_threads(config.model.backbone),
        begun_run(out, config, config.seed, images, resume=resume) as unfinished,
    ):
        return _trained_in(unfinished, config, images, out, progress)


def _trained_in(
    unfinished: Path, config: NetworkedConfig, images: ImageSet, out: Path, progress: Progress
) -> NetworkedMoe:
    data = split_among_clients(config, images)
    rehearse_manifests(
        mesh=config.mesh, class_names=data.class_names, holds=data.holds, radio=radio_of(config)
    )
    backbone = backbone_digest(config.model.backbone, images.train_images.shape[1])
    lists = partition_digest(config.data.partition)
    checkpoint = run_checkpoint(unfinished, fingerprint(config, images, backbone, lists))
    times = StageTimes(unfinished)
    trained = train_stages(config, data, checkpoint=checkpoint, progress=times.counting(progress))
    for leftover in ("shared", "clients"):
        shutil.rmtree(unfinished / leftover, ignore_errors=True)
    export_run(
        unfinished,
        trained.model,
        data.test_images_TCHW[:32],
        mesh=config.mesh,
        class_names=data.class_names,
        holds=data.holds,
        radio=radio_of(config),
    )
    read = {"backbone": backbone, "lists": lists}
    finish_run(unfinished, out, config, config.seed, trained.rows, images, read, times.seconds)
    return trained
