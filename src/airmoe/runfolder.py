"""The run folder, which training writes and serving reads.

    config.toml  run.json  metrics.jsonl  figures/  report.html
    shared/extractor.{safetensors,onnx}  shared/gate.{safetensors,onnx}
    clients/<id>/manifest.json  expert-<e>.{onnx,safetensors}  extractor.onnx  gate.onnx
    clients/server/manifest.json  extractor.onnx  gate.onnx

A client's folder is whole: it serves and asks wherever it is copied to. ``shared/`` keeps the weights for
training. Without a server, every client is a node that serves its experts and asks. With a server, the
clients only serve; the server asks, and holds no expert.
"""

import hashlib
import json
from pathlib import Path

from airmoe.errors import RunFolderError
from airmoe.files import AnyPath, as_path
from airmoe.manifest import Manifest

SERVER = "server"
"""The folder under ``clients/`` of a server without an expert."""

EXTRACTOR, GATE = "extractor.onnx", "gate.onnx"
"""Names that training gives the files a client asks with; readers take names from the manifest."""


SHARED_WEIGHTS = "extractor.safetensors", "gate.safetensors"
"""The files under ``shared/`` that every node has the weights of."""


def expert_file(expert: int, suffix: str = "onnx") -> str:
    """Return the name that training gives the file of an expert."""
    return f"expert-{expert}.{suffix}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_hash_of(run_folder: Path, manifest: Manifest) -> str:
    """Return 16 hex digits over all that two nodes have to agree on to answer each other.

    Those are the weights of extractor, gate and every expert, and what they mean: the classes, and what goes
    in and out of an expert. Where the experts lie is not among them.

    Args:
        run_folder: holds the weights.
        manifest: of any of its nodes; says what the weights mean and where the experts' lie.

    Raises:
        RunFolderError: a file is missing.
    """
    meaning = [[layer.payload, layer.output.kind, layer.output.shape] for layer in manifest.layers]
    digest = hashlib.sha256(json.dumps([manifest.classes, meaning]).encode())
    files = [run_folder / "shared" / name for name in SHARED_WEIGHTS]
    for layer in manifest.layers:
        for expert, nodes in enumerate(layer.placement):
            files.append(run_folder / "clients" / f"{nodes[0]:02d}" / expert_file(expert, "safetensors"))
    for path in files:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:16]


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
