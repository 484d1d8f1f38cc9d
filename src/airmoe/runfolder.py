"""The run folder, which training writes and serving reads.

    config.toml  run.json  metrics.jsonl  figures/  report.html
    shared/extractor.{safetensors,onnx}  shared/gate.{safetensors,onnx}
    clients/<id>/manifest.json  expert-<e>.{onnx,safetensors}  extractor.onnx  gate.onnx
    clients/server/manifest.json  extractor.onnx  gate.onnx

That of a language model, whose experts are of many layers:

    shared/model.safetensors  shared/seed.safetensors
    clients/<id>/manifest.json  layer-<l>-expert-<e>.onnx  model.toml  source.safetensors

A client's folder is whole: it serves and asks wherever it is copied to. ``shared/`` keeps the weights for
training. Without a server, every client is a node that serves its experts and asks. With a server, the
clients only serve; the server asks, and holds no expert. Where every client has a gate of its own,
``gate.onnx`` is that client's, its weights lie beside it as ``gate.safetensors``, and ``shared/`` holds none.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from airmoe.errors import RunFolderError
from airmoe.files import AnyPath, as_path
from airmoe.manifest import Manifest

SERVER = "server"
"""The folder under ``clients/`` of a server without an expert."""

EXTRACTOR, GATE = "extractor.onnx", "gate.onnx"
"""Names that training gives the files a client asks with; readers take names from the manifest."""

EXTRACTOR_WEIGHTS, GATE_WEIGHTS = "extractor.safetensors", "gate.safetensors"
"""Names of the files that training goes on from."""

LANGUAGE_WEIGHTS, SEED_WEIGHTS = "shared/model.safetensors", "shared/seed.safetensors"
"""Of a language model: the mixture, and the dense model that its experts branched off."""

SOURCE_FORM, SOURCE_WEIGHTS = "model.toml", "source.safetensors"
"""Of a language model, what a source of texts needs: its form, and its weights without the experts'."""


def expert_file(expert: int, suffix: str = "onnx") -> str:
    """Return the name that training gives the file of an expert."""
    return f"expert-{expert}.{suffix}"


def layer_expert_file(layer: int, expert: int) -> str:
    """Return the name of the file of an expert of one of many layers."""
    return f"layer-{layer}-expert-{expert}.onnx"


def folder_of_client(run_folder: Path, client: int) -> Path:
    """Return the folder of a client in a run folder."""
    return run_folder / "clients" / f"{client:02d}"


def gate_weights(run_folder: Path, clients: int) -> list[Path]:
    """Return the file with the weights of the gate that all share, or those of every client's own gate.

    Args:
        run_folder: holds the weights.
        clients: how many may have gates of their own.
    """
    shared = run_folder / "shared" / GATE_WEIGHTS
    own = [folder_of_client(run_folder, client) / GATE_WEIGHTS for client in range(clients)]
    return [shared] if shared.exists() or not any(path.exists() for path in own) else own


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_hash(manifest: Manifest, digests: Sequence[str]) -> str:
    """Return 16 hex digits over all that two nodes have to agree on to answer each other.

    Those are the weights of extractor, gates and every expert, and what they mean: the classes, and what goes
    in and out of an expert. Where the experts lie is not among them.

    Args:
        manifest: of any of the nodes; says what the weights mean.
        digests: the SHA-256 of the safetensors of extractor, gates and each expert, as hex digits.
    """
    meaning = [[layer.payload, layer.output.kind, layer.output.shape] for layer in manifest.layers]
    told = json.dumps([manifest.classes, meaning, list(digests)])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def model_hash_of(run_folder: Path, manifest: Manifest) -> str:
    """Return the `model_hash` of a run folder that holds all weights.

    Args:
        run_folder: holds the weights.
        manifest: of any of its nodes; says where the weights of the experts lie.

    Raises:
        RunFolderError: a file is missing.
    """
    files = [run_folder / "shared" / EXTRACTOR_WEIGHTS, *gate_weights(run_folder, manifest.nodes)]
    for layer in manifest.layers:
        for expert, nodes in enumerate(layer.placement):
            files.append(folder_of_client(run_folder, nodes[0]) / expert_file(expert, "safetensors"))
    digests = []
    for path in files:
        try:
            digests.append(sha256_of(path))
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None
    return model_hash(manifest, digests)


def checked_file(client_folder: Path, manifest: Manifest, name: str) -> Path:
    """Return the path of a file that the manifest names, after comparing its SHA-256.

    Raises:
        RunFolderError: the file is missing, not named by the manifest, or not what the manifest says.
    """
    path = client_folder / name
    try:
        actual = sha256_of(path)
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None
    if actual != manifest.sha256.get(name):
        raise RunFolderError(
            f"{path} is damaged: SHA-256 {actual}; the manifest expects {manifest.sha256.get(name)}"
        )
    return path


def client_folders(run_folder: AnyPath) -> list[Path]:
    """Return the clients' folders of a run, in client order; a server's is not among them.

    Raises:
        RunFolderError: there are none.
    """
    run_folder = as_path(run_folder)
    folders = [folder for folder in (run_folder / "clients").glob("*/") if folder.name.isdecimal()]
    folders.sort(key=lambda folder: int(folder.name))
    if not folders:
        what = "holds no clients/<id>/ folders" if run_folder.exists() else "does not exist"
        raise RunFolderError(f"{run_folder} {what}; expected the folder of a finished run")
    return folders
