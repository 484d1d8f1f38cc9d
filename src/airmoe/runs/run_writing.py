"""A run folder in the making: it lies in OUT.partial until it is whole, then that folder is renamed."""

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import portable, with_short_home
from airmoe.monitor import EVENTS, forget_events
from airmoe.runs.checkpoint import Checkpoint, MetricsRow, write_metrics
from airmoe.runs.settings import Section, dump_config

_CHECKPOINTS, METRICS = "checkpoint", "metrics.jsonl"
_PACKAGES = ("airmoe", "torch", "numpy", "onnx", "onnxruntime", "eclipse-zenoh")


def begun_run(out: Path, resume: bool) -> Path:
    """Return ``out`` + ".partial", where the run folder is to be made.

    Raises:
        InvalidInputError: ``out`` exists, or ``resume`` is False and an unfinished run of it exists.
        RunFolderError: there is nothing to resume.
    """
    if out.exists():
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    partial = out.with_name(out.name + ".partial")
    if resume and not partial.exists():
        raise RunFolderError(f"{partial} does not exist: there is nothing to resume")
    if partial.exists() and not resume:
        raise InvalidInputError("out", str(out), f"no unfinished run; resume {partial} or remove it")
    return partial


def run_checkpoint(partial: Path, fingerprint: str) -> Checkpoint:
    """Return the checkpoints of a run in the making; saving one also writes the run's metrics and events.

    Raises:
        RunFolderError: as `Checkpoint`.
    """
    checkpoint = Checkpoint(partial / _CHECKPOINTS, fingerprint, partial / METRICS, partial / EVENTS)
    forget_events(partial)  # those of checkpoints that are taken up are written anew
    return checkpoint


def fingerprint(config: Section, images: ImageSet, *further: str) -> str:
    """Return a digest of a configuration and its data, for checkpoints.

    Args:
        config: of the run.
        images: the data.
        further: digests of what else the run reads.
    """
    identity = "".join([dump_config(config), images_digest(images), *further])
    return hashlib.sha256(identity.encode()).hexdigest()


@lru_cache(maxsize=2)
def images_digest(images: ImageSet) -> str:
    """Return SHA-256 of all images and labels."""
    digest = hashlib.sha256()
    for array in (images.train_images, images.train_labels, images.test_images, images.test_labels):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def finish_run(
    partial: Path, out: Path, config: Section, seed: int, rows: Sequence[MetricsRow], images: ImageSet
) -> None:
    """Write configuration, provenance and metrics, remove the checkpoints, and give the folder its name.

    The host is told by its kind, never by its name, and paths without what is of this machine alone.
    """
    provenance = {
        "seed": seed,
        "versions": {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "host": {"system": platform.platform(), "machine": platform.machine()},
        "threads": torch.get_num_threads(),
        "images": images_digest(images),
        "command": [Path(sys.argv[0]).name, *map(portable, sys.argv[1:])],
    }
    (partial / "config.toml").write_text(with_short_home(dump_config(config)), encoding="utf-8")
    (partial / "run.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
    write_metrics(rows, partial / METRICS)
    shutil.rmtree(partial / _CHECKPOINTS)
    partial.rename(out)
