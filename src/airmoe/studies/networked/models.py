"""Mixtures of the curves. Each stage is trained once for all curves that share it; a resumed run finds it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from airmoe.data import ImageSet, is_official, load_images
from airmoe.data.partitions import partition_digest
from airmoe.networked.client_data import ClientData, split_among_clients
from airmoe.networked.config import (
    ExpertSettings,
    GateSettings,
    ModelSettings,
    NetworkedConfig,
)
from airmoe.networked.node import EXPERTS, FEATURES
from airmoe.networked.stages import NetworkedMoe, train_stages
from airmoe.runs.checkpoint import Checkpoint, MetricsRow, Saved
from airmoe.runs.run_writing import fingerprint, images_digest
from airmoe.studies.curves.figure import Curves, Workspace
from airmoe.studies.networked.settings import ImagesSettings


def inputs_of(curves: Mapping[str, Curves], options: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of all images and lists of indices that are read, by name."""
    inputs = dict[str, str]()
    for curve in (curve for of_figure in curves.values() for curve in of_figure.values()):
        name = f"set of images {curve.data}"
        if name not in inputs:
            inputs[name] = images_digest(_images(curve.data, options.get("data_dir")))
        if digest := partition_digest(curve.partition):
            inputs[curve.partition] = digest
    return inputs


def images_of(settings: ImagesSettings, work: Workspace) -> ImageSet:
    """Return the images of a curve: the first ones of a set, as many as it says."""
    images = _images(settings.data, work.options.get("data_dir"))
    return _first(images, settings.train_images, settings.test_images)


@lru_cache(maxsize=2)
def _images(name: str, data_dir: str | None) -> ImageSet:
    return load_images(name, data_dir=Path(data_dir) if data_dir and is_official(name) else None)


@lru_cache(maxsize=2)
def _first(images: ImageSet, train: int | None, test: int | None) -> ImageSet:
    return replace(
        images,
        train_images=images.train_images[:train],
        train_labels=images.train_labels[:train],
        test_images=images.test_images[:test],
        test_labels=images.test_labels[:test],
    )


def trained_mixture(
    config: NetworkedConfig, images: ImageSet, work: Workspace
) -> tuple[NetworkedMoe, ClientData]:
    """Return the mixture of a configuration and its data; train what of it is not there yet.

    Processes that want the same extractor train it once, and wait for one another.
    """
    data = split_among_clients(config, images)
    checkpoint = StageCheckpoints(work.folder / "models", config, images)
    title = f"train {config.data.name}, {config.data.partition}, {config.gate.method}, seed {config.seed}"

    def progress(stage: str, done: int, total: int, note: str = "", /) -> None:
        work.progress(f"{title}: {stage}", done, total, note)

    with work.locked(checkpoint.fingerprint_of(FEATURES)[:16]):
        return train_stages(config, data, checkpoint=checkpoint, progress=progress), data


class StageCheckpoints(Checkpoint):
    """Checkpoints of a training, each under a fingerprint of what its stage depends on.

    Stage 1 depends on neither experts nor gate, and stage 2 not on the gate. So trainings that differ in
    these take up the same checkpoint.

    Args:
        folder: of the checkpoints of all trainings.
        config: of this training.
        images: its data.
    """

    def __init__(self, folder: Path, config: NetworkedConfig, images: ImageSet) -> None:
        super().__init__(folder, "")
        self._root, self._images = folder, images
        gate = {"gate": GateSettings(), "links": NetworkedConfig().links}
        later = gate | {"experts": ExpertSettings()}
        model = config.model.model_copy(update={"gate": ModelSettings().gate})
        of_features = model.model_copy(update={"expert_hidden": ModelSettings().expert_hidden})
        self._config_of = {
            FEATURES: config.model_copy(update=later | {"model": of_features}),
            EXPERTS: config.model_copy(update=gate | {"model": model}),
        }
        self._config = config

    def fingerprint_of(self, stage: str) -> str:
        """Return the digest of all that the checkpoint of a stage depends on."""
        config = self._config_of.get(stage, self._config)
        return fingerprint(config, self._images, partition_digest(config.data.partition))

    def save(
        self, stage: str, groups: Mapping[str, Mapping[str, Tensor]], rows: Sequence[MetricsRow]
    ) -> None:
        """Replace the checkpoint of a stage; see `Checkpoint`."""
        self._of(stage).save(stage, groups, rows)

    def load(self, stage: str) -> Saved | None:
        """Return what was saved last for this stage, by whatever training that shares it."""
        return self._of(stage).load(stage)

    def _of(self, stage: str) -> Checkpoint:
        digest = self.fingerprint_of(stage)
        return Checkpoint(self._root / digest[:16], digest)
