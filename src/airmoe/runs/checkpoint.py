"""Checkpoints: one safetensors file per stage, replaced whole after every round, and the metrics so far."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import safetensors
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, uint8

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path, replaced_file
from airmoe.monitor import write_events
from airmoe.runs.weights import unshared

MetricsRow = dict[str, str | int | float]
"""One line of metrics.jsonl."""

_FORMAT = "airmoe checkpoint 3"
"""The number rises where training changes: a run must not end by other rules than it began by."""


class Saved(NamedTuple):
    """What a checkpoint holds: groups of named tensors, and the metrics of the stage, a row per round."""

    groups: dict[str, dict[str, Tensor]]
    rows: list[MetricsRow]


class Checkpoint:
    """The checkpoints of one run.

    Args:
        folder: where the files lie; made when needed.
        fingerprint: identifies the configuration; a checkpoint of another one is refused.
        metrics: the file to which `save` writes the rows of all stages saved or loaded so far; None for none.
        events: the folder to which new rows go as TensorBoard events; None for none.

    Raises:
        RunFolderError: a checkpoint in the folder, of whatever stage, is damaged or of another configuration.
    """

    def __init__(
        self, folder: AnyPath, fingerprint: str, metrics: AnyPath | None = None, events: AnyPath | None = None
    ) -> None:
        self._folder, self._fingerprint = as_path(folder), fingerprint
        self._metrics = None if metrics is None else as_path(metrics)
        self._events = None if events is None else as_path(events)
        self._rows: dict[str, Sequence[MetricsRow]] = {}
        for path in sorted(self._folder.glob("*.safetensors")):
            self._refuse_another(path)

    def save(
        self, stage: str, groups: Mapping[str, Mapping[str, Tensor]], rows: Sequence[MetricsRow]
    ) -> None:
        """Replace the checkpoint of a stage.

        Args:
            stage: its name.
            groups: named tensors by the name of their group, without "/" in it. An empty one leaves no trace.
                Tensors may share memory; each is saved whole.
            rows: all metrics of the stage so far, one per round.

        Raises:
            InvalidInputError: the name of the stage is none that a file can have.
        """
        tensors = unshared(
            {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
        )
        metadata = {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            "rows": json.dumps(rows),
        }
        metadata["sha256"] = _digest(stage, metadata, tensors)
        with replaced_file(self._path(stage)) as temporary:
            save_file(tensors, temporary, metadata)
        self._take(stage, rows)
        if self._metrics is not None:
            write_metrics([row for of_stage in self._rows.values() for row in of_stage], self._metrics)

    def load(self, stage: str) -> Saved | None:
        """Return what `save` was given last for this stage, or None if there is no checkpoint.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self._path(stage)
        if not path.exists():
            return None
        groups: dict[str, dict[str, Tensor]] = {}
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            if metadata.pop("sha256", None) != _digest(stage, metadata, tensors):
                raise ValueError("its SHA-256 is not the one it names")
            rows: list[MetricsRow] = json.loads(metadata.get("rows", ""))
        except (SafetensorError, ValueError, OSError) as error:
            raise _damaged(path, error) from None
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = tensor
        self._take(stage, rows)
        return Saved(groups, rows)

    def _take(self, stage: str, rows: Sequence[MetricsRow]) -> None:
        new = rows[len(self._rows.get(stage, ())) :]
        self._rows[stage] = list(rows)
        if self._events is not None and new:
            write_events(self._events, new)

    def _refuse_another(self, path: Path) -> None:
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from None
        if metadata.get("format") != _FORMAT or metadata.get("fingerprint") != self._fingerprint:
            raise RunFolderError(
                f"checkpoint {path} belongs to another configuration, data set or version; "
                "resume with the options it was begun with, or train into another folder"
            )

    def _path(self, stage: str) -> Path:
        if not re.fullmatch(r"[^/\\.\0][^/\\\0]*", stage):
            raise InvalidInputError("stage", stage, "a name that a file can have, without a slash")
        return self._folder / f"{stage}.safetensors"


def write_metrics(rows: Sequence[MetricsRow], path: Path) -> None:
    """Write metrics rows, a line of JSON each."""
    with replaced_file(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(f"checkpoint {path} is damaged ({error}); remove it to begin the stage anew")


def _digest(stage: str, metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    names = sorted(tensors)
    shapes = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in names]
    digest = hashlib.sha256(json.dumps([stage, sorted(metadata.items()), shapes]).encode())
    for name in names:
        digest.update(tensors[name].reshape(-1).view(uint8).numpy().data)  # NumPy has no bfloat16
    return digest.hexdigest()
