"""A client of a run at its node: its data, its steps, and what it keeps in a folder of its own.

The folder holds the extractor that the node was told, its expert, and the moments of the features. So a node
that was killed goes on, and its expert never has to leave it. Noise for privacy comes from a seed that lies
there, too: the server cannot subtract it, and a step that is repeated after a crash adds the same noise.

Shape suffixes: T items, C channels, H height, W width.
"""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from airmoe.data import ImageSet, as_pixels, load_images
from airmoe.errors import DataError, InvalidInputError, RunFolderError
from airmoe.federated import Client, Message, State
from airmoe.files import replaced_file, write_secret
from airmoe.networked.apart import EXTRACTOR
from airmoe.networked.client_data import split_among_clients
from airmoe.networked.config import NetworkedConfig, parse_config
from airmoe.networked.export_apart import EXPORT, ExportClient
from airmoe.networked.fedsc import SPECTRAL, refuse_too_few
from airmoe.networked.gates import standardise
from airmoe.networked.node import CLASS_SUMS, EXPERTS, STATISTICS, NetworkedNode, Workspace
from airmoe.nn.threads import training_threads
from airmoe.runs.weights import unshared

_NOISE_SEED, _NOISE_SEED_BYTES = "noise.seed", 16
_EXTRACTOR, _EXPERT, _MOMENTS = (f"{name}.safetensors" for name in ("extractor", "expert", "moments"))


class NodeApart:
    """What a node takes part with in one run.

    Args:
        settings: what `airmoe.networked.apart.told_to_nodes` gave.
        client: its number.
        folder: its own, for this run alone.
        data: name of its own image set, all of whose training images it has; None if it takes its part of the
            run's image set, by the run's partition.
        data_dir: where official files lie.
        only_secure_sums: whether it takes part in no run whose server sees more than sums.

    Raises:
        DataError: its images are not of the classes or the shape of the run's.
        InvalidInputError: the run has no secure sums, and the node insists on them.
        RunFolderError: what it kept is damaged.
    """

    def __init__(
        self,
        settings: str,
        client: int,
        folder: Path,
        *,
        data: str | None = None,
        data_dir: Path | None = None,
        only_secure_sums: bool = False,
    ) -> None:
        text, class_names, shape = json.loads(settings)
        self._config = parse_config(text, "the server's settings")
        if only_secure_sums and not self._config.federation.secure_sums:
            expected = "true: this node gives nothing in the open that the server needs as a sum"
            raise InvalidInputError("federation.secure_sums", False, expected)
        self._client, self._folder = client, folder
        images_TCHW, labels_T = _images(self._config, client, class_names, data, data_dir)
        if list(images_TCHW.shape[1:]) != shape:
            own = tuple(images_TCHW.shape[1:])
            raise DataError(f"images of client {client} are {own}; those of the run are {tuple(shape)}")
        self._holds = labels_T.unique().tolist()
        self._workspace = Workspace(self._config, shape, len(class_names), self._config.data.clients)
        self._node = NetworkedNode(
            self._config, images_TCHW, labels_T, client, self._workspace, self._noise_seed()
        )
        self._in_part: tuple[str, Client] | None = None
        self._take_up()

    def client(self, part: str) -> Client:
        """Return who takes the steps of a part; the same one until another part begins."""
        if self._in_part is None or self._in_part[0] != part:
            self._in_part = part, self._client_of(part)
        return self._in_part[1]

    def _client_of(self, part: str) -> Client:
        if part == EXTRACTOR:
            client: Client = _ToldClient(self._node.take_extractor)
        elif part == EXPORT:
            features_TF, expert = self._node.features_TF, self._node.expert
            client = ExportClient(expert, features_TF, self._client, self._holds, self._folder)
        else:
            client = self._node.client(part)
        kept = {
            EXTRACTOR: self._keep_extractor,
            CLASS_SUMS: self._keep_extractor,
            EXPERTS: self._keep_expert,
            STATISTICS: self._keep_moments,
        }
        return _Keeping(client, self._config.model.backbone, kept.get(part, _keep_nothing))

    def _noise_seed(self) -> int:
        path = self._folder / _NOISE_SEED
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_secret(path, secrets.token_bytes(_NOISE_SEED_BYTES))
        if len(seed := path.read_bytes()) != _NOISE_SEED_BYTES:
            raise RunFolderError(f"{path} is damaged: {len(seed)} bytes; expected {_NOISE_SEED_BYTES}")
        return int.from_bytes(seed)

    def _take_up(self) -> None:
        for name, take in (
            (_EXTRACTOR, self._node.take_extractor),
            (_EXPERT, self._node.adopt),
            (_MOMENTS, self._standardise),
        ):
            path = self._folder / name
            if path.exists():
                try:
                    take(load_file(path))
                except (SafetensorError, RuntimeError, KeyError, OSError) as error:
                    raise RunFolderError(f"{path} is damaged: {error}") from None

    def _keep_extractor(self, exchange: str, state: State) -> None:
        if not self._workspace.network.extractor.frozen:
            self._keep(_EXTRACTOR, self._workspace.network.extractor.state_dict())

    def _keep_expert(self, exchange: str, state: State) -> None:
        self._keep_extractor(exchange, state)
        self._keep(_EXPERT, self._node.expert.state_dict())

    def _keep_moments(self, exchange: str, state: State) -> None:
        if exchange == "tell":
            self._keep(_MOMENTS, state)
            self._standardise(state)

    def _standardise(self, moments: State) -> None:
        standardise(self._workspace.gate, moments)

    def _keep(self, name: str, state: State) -> None:
        with replaced_file(self._folder / name) as temporary:
            save_file(unshared(state), temporary)


class _ToldClient:
    """A client that is told weights."""

    def __init__(self, take: Callable[[State], object]) -> None:
        self._take = take

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        self._take(message.tensors)
        return state, Message()


class _Keeping:
    """A client whose steps are taken with the threads of a training, and after which something is kept."""

    def __init__(self, client: Client, backbone: str, keep: Callable[[str, State], None]) -> None:
        self._client, self._backbone, self._keep = client, backbone, keep

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        with training_threads(self._backbone):
            state, reply = self._client.client_step(exchange, state, message)
        self._keep(exchange, state)
        return state, reply


def _keep_nothing(exchange: str, state: State) -> None:
    """Keep nothing."""


def _images(
    config: NetworkedConfig, client: int, class_names: list[str], data: str | None, data_dir: Path | None
) -> tuple[Tensor, Tensor]:
    """Return a node's images and their classes: its own, or its part of those of the run."""
    own = load_images(data or config.data.name, data_dir=data_dir, size=config.data.size)
    if data is None:
        split = split_among_clients(config, own)
        return split.images_TCHW[client], split.labels_T[client]
    if config.features.method in SPECTRAL:
        refuse_too_few(client, len(own.train_labels))
    labels_T = torch.from_numpy(_labels_among(own, class_names))
    return torch.from_numpy(as_pixels(own.train_images)), labels_T


def _labels_among(own: ImageSet, class_names: list[str]) -> NDArray[np.int64]:
    """Return the labels of a node's own images, by the names of the run's classes."""
    numbers = {name: number for number, name in enumerate(class_names)}
    strange = [name for name in own.class_names if name not in numbers]
    if strange:
        raise DataError(f"classes {strange} are none of the run's: {class_names}")
    return np.array([numbers[name] for name in own.class_names])[own.train_labels]
