"""A finished run as an object: its model, its settings and its images, to evaluate or to build on."""

import copy
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from airmoe.checks import refuse_type
from airmoe.data import ImageSet, is_official, load_images, partition
from airmoe.data.load import USUAL_SIZE
from airmoe.data.partitions import partition_digest
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath, sought_in
from airmoe.manifest import Manifest, read_manifest
from airmoe.nn import (
    BiasGate,
    DiscriminantExpert,
    Extractor,
    MixtureOfExperts,
    MlpExpert,
    MoeLayer,
    PersonalGates,
    PooledExtractor,
    PosteriorGate,
    build_model,
)
from airmoe.nn.build import options_of, pretrained_digest
from airmoe.nn.channel_gates import Blind
from airmoe.plugins import refuse_missing_plugins
from airmoe.progress import Progress, silent
from airmoe.runfolder import (
    EXTRACTOR_WEIGHTS,
    LANGUAGE_WEIGHTS,
    SERVER,
    client_folders,
    expert_file,
    folder_of_client,
    gate_weights,
    model_hash_of,
)
from airmoe.runs.run_writing import images_digest
from airmoe.runs.weights import load_weights

Method = Literal["networked", "channel-aware"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run of `airmoe train` or `airmoe demo`.

    Attributes:
        folder: the run folder.
        method: "networked" or "channel-aware".
        config: the settings, as in ``config.toml``: ``run.config["data"]["name"]``.
        record: what ``run.json`` says: versions, host, command, digest of the images.
        manifest: of the node that asks: placement, classes and radio.
        holds: for each client the classes in its data; none at the nodes of a server.
        model: the trained mixture in evaluation mode, on the CPU.
    """

    folder: Path
    method: Method
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    manifest: Manifest
    holds: tuple[tuple[int, ...], ...]
    model: MixtureOfExperts

    def __repr__(self) -> str:
        """Return the run in one line."""
        data, experts = self.config["data"]["name"], len(self.model.layer.experts)
        return f"Run({str(self.folder)!r}: {self.method}, {data}, {experts} experts, seed {self.seed})"

    @property
    def seed(self) -> int:
        """The seed that the run was trained with."""
        return int(self.config["seed"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(self.manifest.classes)

    @property
    def has_server(self) -> bool:
        """Whether a server without an expert asks; else every client asks."""
        return not self.manifest.serves

    def load_images(self, data_dir: AnyPath | None = None, progress: Progress = silent) -> ImageSet:
        """Return the images that the run was trained and measured on.

        Args:
            data_dir: as `airmoe.data.load_images`.
            progress: as `airmoe.data.load_images`.

        Raises:
            InvalidInputError: a folder for images that are read from none.
            RunFolderError: they are not the images that the run was trained with, they do not lie where they
                lay then, or they were arrays.
            DataError: as `airmoe.data.load_images`.
        """
        name = self.config["data"]["name"]
        if data_dir is not None and not is_official(name):
            raise InvalidInputError("data_dir", str(data_dir), f"no folder: {name} reads none")
        if why := why_no_folder(name):
            raise _not_found(self.folder, name, why, "data.name")
        size = self.config["data"].get("size", USUAL_SIZE)  # older settings name none
        try:
            images = load_images(name, data_dir=data_dir, size=size, progress=progress)
        except InvalidInputError as error:
            if error.name != "dataset":
                raise
            raise RunFolderError(
                f"{self.folder} was trained on arrays, {name!r}, which it does not hold"
            ) from None
        if images_digest(images) != self.record["images"]:
            raise RunFolderError(f"{name} holds other images now than {self.folder} was trained with")
        return images

    def split(self, images: ImageSet) -> list[NDArray[np.int64]]:
        """Return for each client the indices of its training images, as in training.

        Raises:
            InvalidInputError: a channel-aware run, whose images no clients share, or no `ImageSet`.
            RunFolderError: the file of index lists changed since.
            DataError: it is not there any more.
        """
        refuse_type("images", images, ImageSet)
        if self.method != "networked":
            raise InvalidInputError("method", self.method, "networked: other runs split no images")
        labels_T, data, names = images.train_labels, self.config["data"], images.class_names
        if (digest := partition_digest(data["partition"])) != self.record.get("lists", digest):
            told = f"{data['partition']} holds other lists now than {self.folder} was trained with"
            raise RunFolderError(told)
        return partition(labels_T, data["clients"], data["partition"], seed=self.seed, class_names=names)


def load_run(folder: AnyPath) -> Run:
    """Load a finished run, networked or channel-aware.

    The weights are those of the safetensors files, not of the ONNX ones that nodes serve. So the model is the
    one that training measured, to the bit, and PyTorch can train it further.

    Args:
        folder: the run folder.

    Raises:
        RunFolderError: no run folder, an unfinished run, a plugin of it that is not loaded, or a file that is
            missing or damaged.
    """
    run = Path(folder).expanduser()
    config, record = _read_run(run)
    refuse_missing_plugins(run)
    clients = [read_manifest(client) for client in client_folders(run)]
    server = run / "clients" / SERVER
    manifest = read_manifest(server) if server.exists() else clients[0]
    if (found := model_hash_of(run, manifest)) != manifest.model_hash:
        raise RunFolderError(
            f"{run} is damaged: its weights have hash {found}; expected {manifest.model_hash}"
        )
    method: Method = config.get("method", "networked")
    holds = tuple(tuple(each.holds) for each in clients)
    model = _model(run, method, config, record, manifest)
    return Run(run, method, config, record, manifest, holds, model)


def _read_run(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings and record of a finished run; say what a folder is that holds none."""
    if (run / LANGUAGE_WEIGHTS).exists():
        expected = "that of images: this is the run of a language model, which airmoe generate takes"
        raise RunFolderError(f"{run} is another method's run folder; expected {expected}")
    if not (run / "config.toml").exists() or not (run / "clients").is_dir():
        unfinished = run.with_name(f"{run.name}.partial")
        if not run.exists() and unfinished.exists():
            raise RunFolderError(f"{run} is not finished: go on with --resume --out {run}")
        if run.name.endswith(".partial") and run.exists():
            raise RunFolderError(f"{run} is not finished: go on with --resume --out {run.with_suffix('')}")
        what = "a client's folder" if (run / "manifest.json").exists() else "no run folder"
        raise RunFolderError(f"{run} is {what}; expected a folder that airmoe train or airmoe demo made")
    try:
        config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        missing = [key for key in ("seed", "data", "model") if key not in config]
        missing += [key for key in ("seed", "versions", "images") if key not in record]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(f"the settings of {run} are damaged, or of another version: {error}") from None
    return config, record


def why_no_folder(name: str) -> str:
    """Return why the folder of a set of images cannot be read; "" if it is there, or the set has none."""
    _, is_folder, place = name.partition("folder:")
    if not is_folder or Path(place).expanduser().is_dir():
        return ""
    return f"there is no such folder{sought_in(Path(place).expanduser())}"


def _not_found(run: Path, what: str, why: str, key: str) -> RunFolderError:
    cure = f"go to the folder where it was trained, or correct {key} in {run / 'config.toml'}"
    return RunFolderError(f"{run} was trained with {what}, but {why}; {cure}")


def _model(
    run: Path, method: Method, config: Mapping[str, Any], record: Mapping[str, Any], manifest: Manifest
) -> MixtureOfExperts:
    assert manifest.asks is not None  # the first client asks, or the server does
    settings, (layer,) = config["model"], manifest.layers
    networked, norm = method == "networked", settings.get("norm")
    if networked and norm is None and "norm" in options_of(settings["backbone"]):
        norm = "group"  # batch statistics would spoil an average over clients
    shown, classes, hidden = manifest.asks.input, len(manifest.classes), settings.get("expert_hidden")
    try:
        model = build_model(
            settings["backbone"],
            classes=classes,
            experts=layer.experts,
            channels=shown.channels,
            norm=norm,
            width=settings.get("width"),
            size=(shown.height, shown.width),
            gate=settings["gate"],
            gate_hidden=settings.get("gate_hidden"),
            expert_hidden=hidden,
            expert_norm=not networked,
            source=manifest.node,
        )
    except InvalidInputError as error:
        if error.name != "source":
            raise
        raise _not_found(run, settings["backbone"], str(error), "model.backbone") from None
    extractor = model.extractor
    assert isinstance(extractor, Extractor)
    if (digest := pretrained_digest(extractor)) != record.get("backbone", digest):
        raise RunFolderError(f"{settings['backbone']} is another model now than {run} was trained with")
    if networked:
        model = _of_clients(model, extractor, config, classes)
    if networked and config["gate"]["channel_aware"] and not model.layer.gate.sees_snr:
        model.layer.gate = BiasGate(model.layer.gate)
    _load(model.extractor, run / "shared" / EXTRACTOR_WEIGHTS)
    for expert, (network, nodes) in enumerate(zip(model.layer.experts, layer.placement, strict=True)):
        _load(network, folder_of_client(run, nodes[0]) / expert_file(expert, "safetensors"))
    model.layer.gate = _gate(run, model.layer.gate, manifest)
    return model.eval()


def _of_clients(
    model: MixtureOfExperts, extractor: Extractor, config: Mapping[str, Any], classes: int
) -> MixtureOfExperts:
    """Return the mixture in the form that clients train: their experts see pooled features."""
    features, experts, gate = extractor.features, list(model.layer.experts), model.layer.gate
    if config.get("experts", {}).get("method") == "sums":  # older settings name no method
        experts = [DiscriminantExpert(features, classes) for _ in experts]
    elif extractor.pooling != "vector":
        experts = [MlpExpert(features, classes, config["model"]["expert_hidden"]) for _ in experts]
    if config["gate"].get("method") == "posterior":
        gate = PosteriorGate(features, len(experts), classes)
    pooled = extractor if extractor.pooling == "vector" else PooledExtractor(extractor)
    return MixtureOfExperts(pooled, MoeLayer(gate, experts))


def _gate(run: Path, gate: nn.Module, manifest: Manifest) -> nn.Module:
    """Return the gate with its weights: one that all share, or every client's own."""
    assert manifest.asks is not None
    gates = list[nn.Module]()
    for path in (paths := gate_weights(run, manifest.nodes)):
        gates.append(each := copy.deepcopy(gate))
        _load(each, path)
        if each.sees_snr and not manifest.asks.gates[0].sees_snr:
            gates[-1] = Blind(each)
    return gates[0] if paths[0].parent == run / "shared" else PersonalGates(gates)


def _load(network: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{path} is missing or damaged: {error}") from None
    load_weights(network, weights, str(path))
