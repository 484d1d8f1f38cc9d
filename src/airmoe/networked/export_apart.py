"""The export of a run whose nodes are elsewhere: each node writes its own folder, the server the shared part.

A round has two exchanges. In "expert" each node writes its expert and replies with no more than its digests.
In "folder" the server sends extractor, gate and the manifest, and each node completes its folder. The folders
together serve as a mesh; the expert of a client that was not there is one whose node is down.

Shape suffixes: T items, F features.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from airmoe.errors import RunFolderError
from airmoe.federated import Message, State
from airmoe.files import replaced_file
from airmoe.manifest import INPUT, Manifest, write_manifest
from airmoe.nn import ClassifierExpert
from airmoe.runfolder import (
    EXTRACTOR,
    EXTRACTOR_WEIGHTS,
    GATE,
    GATE_WEIGHTS,
    expert_file,
    model_hash,
    sha256_of,
)
from airmoe.runs.manifests import NOT_YET
from airmoe.runs.onnx_files import export_onnx
from airmoe.runs.weights import save_weights

EXPORT = "export"
"""The part of a run that this is."""

FOLDER = "client"
"""The folder that a node writes, in its folder of the run."""

CHECKED_ITEMS = 32
"""On how many of its own images a node compares ONNX Runtime with PyTorch."""


class ExportClient:
    """A node's side.

    Args:
        expert: its own.
        features_TF: float32, of its images.
        client: its number.
        holds: the classes in its data.
        folder: where it writes `FOLDER`.
    """

    def __init__(
        self, expert: ClassifierExpert, features_TF: Tensor, client: int, holds: list[int], folder: Path
    ) -> None:
        self._expert, self._features = expert, features_TF
        self._client, self._holds, self._folder = client, holds, folder / FOLDER

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        """In "expert", write it and reply with its digests; in "folder", write the rest."""
        if exchange == "expert":
            return state, self._with_expert()
        self._complete({name: _bytes(tensor) for name, tensor in message.tensors.items()})
        return state, Message()

    def _with_expert(self) -> Message:
        self._folder.mkdir(parents=True, exist_ok=True)
        weights, network = (
            self._folder / expert_file(self._client, suffix) for suffix in ("safetensors", "onnx")
        )
        save_weights(self._expert, weights)
        export_onnx(self._expert, {INPUT: self._features[:CHECKED_ITEMS]}, network)
        return Message({"weights": _digest(sha256_of(weights)), "network": _digest(sha256_of(network))})

    def _complete(self, files: dict[str, bytes]) -> None:
        manifest = Manifest.model_validate_json(files.pop("manifest"))
        for name in (EXTRACTOR, GATE):
            with replaced_file(self._folder / name) as temporary:
                temporary.write_bytes(files[name])
        for name, digest in manifest.sha256.items():
            if sha256_of(self._folder / name) != digest:
                raise RunFolderError(f"{name} is not what the manifest of the server says")
        write_manifest(self._folder, manifest.model_copy(update={"holds": self._holds}))


class Exporting:
    """The server's side, after extractor and gate were written to ``shared``.

    Args:
        manifests: of every client, with stand-ins for hashes.
        shared: the folder.
    """

    name, exchanges = EXPORT, ("expert", "folder")

    def __init__(self, manifests: Sequence[Manifest], shared: Path) -> None:
        self._manifests, self._shared = manifests, shared

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        """Ask all clients for the digests of their experts."""
        return dict.fromkeys(range(len(self._manifests)), Message())

    def fault(self, exchange: str, state: State, reply: Message) -> str:
        """Say what is wrong with digests that are none."""
        forms = {name: (str(each.dtype), list(each.shape)) for name, each in reply.tensors.items()}
        expected = dict.fromkeys(("weights", "network"), ("torch.uint8", [32]))
        return "" if exchange == "folder" or forms == expected else f"{forms} are no digests of an expert"

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        """Send what completes the folders."""
        if exchange == "folder":
            return state, {}
        digests = {
            name: [
                _hex(replies[client].tensors[name]) if client in replies else NOT_YET
                for client in range(len(self._manifests))
            ]
            for name in ("weights", "network")
        }
        shared = [sha256_of(self._shared / name) for name in (EXTRACTOR_WEIGHTS, GATE_WEIGHTS)]
        files = {name: (self._shared / name).read_bytes() for name in (EXTRACTOR, GATE)}
        hash_ = model_hash(self._manifests[0], [*shared, *digests["weights"]])
        sha256 = {name: sha256_of(self._shared / name) for name in files}
        told = {}
        for client in replies:
            manifest = self._manifests[client]
            (layer,) = manifest.layers
            hashes = [digest[:16] for digest in digests["network"]]
            layers = [layer.model_copy(update={"hashes": hashes})]
            own = {expert_file(client): digests["network"][client]}
            known = {"model_hash": hash_, "layers": layers, "sha256": {**own, **sha256}}
            text = manifest.model_copy(update=known).model_dump_json()
            tensors = {name: _tensor(data) for name, data in {**files, "manifest": text.encode()}.items()}
            told[client] = Message(tensors)
        return state, told


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def _digest(digits: str) -> Tensor:
    return _tensor(bytes.fromhex(digits))


def _hex(tensor: Tensor) -> str:
    return _bytes(tensor).hex()
