"""Checkpoints: one safetensors file per stage, replaced atomically after every round."""

import hashlib
import json
from pathlib import Path

import safetensors
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from airmoe.errors import RunFolderError
from airmoe.files import replaced_file

MetricsRow = dict[str, str | int | float]
"""One line of metrics.jsonl."""

_FORMAT = "airmoe checkpoint 1"


class Checkpoint:
    """The checkpoints of one run.

    Args:
        folder: where the files lie; made when needed.
        fingerprint: identifies the configuration; a checkpoint of another one is refused.

    Raises:
        RunFolderError: a checkpoint in the folder, of whatever stage, is damaged or of another configuration.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        for path in sorted(folder.glob("*.safetensors")):
            self._refuse_another(path)

    def save(
        self, stage: str, state: dict[str, Tensor], memories: dict[int, dict[str, Tensor]], rows: list[MetricsRow]
    ) -> None:
        """Replace the checkpoint of a stage.

        Args:
            stage: its name.
            state: the global weights.
            memories: for each client what it must remember.
            rows: all metrics of the stage so far, one per round.
        """
        tensors = {f"state/{name}": tensor.contiguous() for name, tensor in state.items()}
        for client, memory in memories.items():
            tensors |= {f"memory/{client}/{name}": tensor.contiguous() for name, tensor in memory.items()}
        metadata = {
            "format": _FORMAT,
            "fingerprint": self._fingerprint,
            "rows": json.dumps(rows),
        }
        metadata["sha256"] = _digest(stage, metadata, tensors)
        with replaced_file(self._path(stage)) as temporary:
            save_file(tensors, temporary, metadata)

    def load(self, stage: str) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]], list[MetricsRow]] | None:
        """Return what `save` was given last for this stage, or None if there is no checkpoint.

        Raises:
            RunFolderError: the file is damaged.
        """
        path = self._path(stage)
        if not path.exists():
            return None
        state: dict[str, Tensor] = {}
        memories: dict[int, dict[str, Tensor]] = {}
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            if metadata.pop("sha256", None) != _digest(stage, metadata, tensors):
                raise ValueError("its SHA-256 is not the one it names")
            rows: list[MetricsRow] = json.loads(metadata.get("rows", ""))
            for key, tensor in tensors.items():
                kind, _, name = key.partition("/")
                if kind == "state":
                    state[name] = tensor
                else:
                    client, _, name = name.partition("/")
                    memories.setdefault(int(client), {})[name] = tensor
        except (SafetensorError, ValueError, OSError) as error:
            raise _damaged(path, error) from None
        return state, memories, rows

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
        return self._folder / f"{stage}.safetensors"


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(f"checkpoint {path} is damaged ({error}); remove it to begin the stage anew")


def _digest(stage: str, metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    names = sorted(tensors)
    shapes = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in names]
    digest = hashlib.sha256(json.dumps([stage, sorted(metadata.items()), shapes]).encode())
    for name in names:
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
