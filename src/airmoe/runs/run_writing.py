"""A run folder in the making: it lies in OUT.partial until it is whole, then that folder is renamed."""

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from airmoe.data import ImageSet
from airmoe.data.load import LARGEST_SIZE
from airmoe.files import portable, replaced_file, with_short_home
from airmoe.monitor import EVENTS, forget_events
from airmoe.newfolder import CHECKPOINTS, CONFIG, PROVENANCE, resumable_folder
from airmoe.plugins import keep_plugins, plugin_digests, plugin_records, refuse_other_plugins
from airmoe.runs.checkpoint import Checkpoint, MetricsRow, write_metrics
from airmoe.runs.settings import Section, dump_config
from airmoe.versions import kind_of_host, version_of

METRICS = "metrics.jsonl"
_PACKAGES = {name: name for name in ("airmoe", "torch", "numpy", "onnx", "onnxruntime")}
_PACKAGES["eclipse-zenoh"] = "zenoh"


class Texts(Protocol):
    """What a language model learns from."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""


@contextmanager
def begun_run(
    out: Path, config: Section, seed: int, data: ImageSet | Texts, *, resume: bool
) -> Iterator[Path]:
    """Yield the folder in which the run folder ``out`` is made; configuration and provenance are in it.

    It stays where the block fails, unless there is no checkpoint to resume from.

    Raises:
        InvalidInputError: as of `resumable_folder`.
        RunFolderError: likewise.
    """
    with resumable_folder(out, resume=resume) as partial:
        try:
            if not resume:
                _write(partial / CONFIG, with_short_home(dump_config(_told(config, data))))
                _write(partial / PROVENANCE, _provenance(seed, data, {}, {}))
            yield partial
        except BaseException:
            if not (partial / CHECKPOINTS).exists():
                shutil.rmtree(partial, ignore_errors=True)
            raise


def run_checkpoint(partial: Path, fingerprint: str) -> Checkpoint:
    """Return the checkpoints of a run in the making; saving one also writes the run's metrics and events.

    A run that begins keeps its plugins; one that is taken up needs the same ones.

    Raises:
        RunFolderError: as `Checkpoint`, or the plugins are others.
    """
    if any((partial / CHECKPOINTS).glob("*")):
        refuse_other_plugins(partial)
    keep_plugins(partial)
    checkpoint = Checkpoint(partial / CHECKPOINTS, fingerprint, partial / METRICS, partial / EVENTS)
    forget_events(partial)  # those of checkpoints that are taken up are written anew
    return checkpoint


def fingerprint(config: Section, data: ImageSet | Texts, *further: str) -> str:
    """Return a digest of a configuration and its data, for checkpoints.

    Args:
        config: of the run.
        data: images or texts.
        further: digests of what else the run reads.
    """
    settings = dump_config(_told(config, data))
    identity = "".join([settings, *_digest_of(data).values(), *further, *plugin_digests().values()])
    return hashlib.sha256(identity.encode()).hexdigest()


def _told(config: Section, data: ImageSet | Texts) -> Section:
    """Return the settings with the name and size of the images that are trained on, whatever they said."""
    if not isinstance(data, ImageSet):
        return config
    height, width = data.train_images.shape[2:]
    told: dict[str, object] = {"name": data.name}
    if height == width <= LARGEST_SIZE:
        told["size"] = height
    section: Section = getattr(config, "data")  # noqa: B009 (of either method)
    return config.model_copy(update={"data": section.model_copy(update=told)})


def _digest_of(data: ImageSet | Texts) -> dict[str, str]:
    if isinstance(data, ImageSet):
        return {"images": images_digest(data)}
    return {"texts": data.digest}


@lru_cache(maxsize=2)
def images_digest(images: ImageSet) -> str:
    """Return SHA-256 of all images and labels."""
    digest = hashlib.sha256()
    for array in (images.train_images, images.train_labels, images.test_images, images.test_labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def finish_run(
    partial: Path,
    out: Path,
    config: Section,
    seed: int,
    rows: Sequence[MetricsRow],
    data: ImageSet | Texts,
    read: Mapping[str, str] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> None:
    """Write configuration, provenance and metrics, remove the checkpoints, and give the folder its name.

    The host is told by its kind, never by its name, and paths without what is of this machine alone.
    ``read`` has the digest of what else the run read, by its name: of a pretrained backbone, for example.
    Nothing is said of what has none. ``seconds`` is how long each stage took.
    """
    _write(partial / CONFIG, with_short_home(dump_config(_told(config, data))))
    _write(partial / PROVENANCE, _provenance(seed, data, read or {}, seconds or {}))
    write_metrics(rows, partial / METRICS)
    shutil.rmtree(partial / CHECKPOINTS)
    partial.rename(out)


def _provenance(
    seed: int, data: ImageSet | Texts, read: Mapping[str, str], seconds: Mapping[str, float]
) -> str:
    provenance = {
        "seed": seed,
        **_digest_of(data),
        **{name: digest for name, digest in read.items() if digest},
        **({"seconds": {stage: round(spent, 2) for stage, spent in seconds.items()}} if seconds else {}),
        **circumstances(),
    }
    return json.dumps(provenance, indent=1) + "\n"


def circumstances() -> dict[str, Any]:
    """Return what ``run.json`` says of the process: versions, host, threads, plugins and command."""
    versions = {name: version_of(name, module) for name, module in _PACKAGES.items()}
    return {
        "versions": versions | {"python": platform.python_version()},
        "host": kind_of_host(),
        "threads": torch.get_num_threads(),
        "plugins": plugin_records(),
        "command": [Path(sys.argv[0]).name, *map(portable, sys.argv[1:])],
    }


def _write(path: Path, text: str) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
