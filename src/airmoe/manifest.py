"""The manifest of a client's folder: what it serves and runs, and the SHA-256 of every file of that.

A damaged file is never served.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from airmoe.errors import RunFolderError
from airmoe.files import replaced_file

MANIFEST = "manifest.json"
MOST_VALUES = 1 << 24
"""Values of one item's payload: as float32 they fill a message."""

MOST_GAINS = 1 << 26
"""Channel gains that a client will hold in memory: 512 MiB."""

Count = Annotated[int, Field(ge=1, le=1 << 20)]
Index = Annotated[int, Field(ge=0, le=1 << 20)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
MeshTransmission = Literal["ideal", "analog"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSpec(_Record):
    """The images that the extractor takes: (channels, height, width), float32 in [0, 1]."""

    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]


class RadioSpec(_Record):
    """The simulated radio of a run: Rayleigh block fading, slot 0 of stream ``seed``; see ``links``.

    An ideal ``transmission`` delivers payloads as they are and costs their bits at the Shannon rate; an
    analog one adds the links' noise and costs airtime.
    """

    mean_snr_db: float
    subcarriers: Count
    subcarrier_hz: Annotated[float, Field(gt=0)]
    power_w: Annotated[float, Field(gt=0)]
    seed: Seed
    transmission: MeshTransmission = "ideal"


class Manifest(_Record):
    """What one client serves and runs.

    Attributes:
        mesh: name of the mesh.
        model_hash: 16 hex digits over the shared weights; nodes of different models never meet.
        layer: MoE layer of the expert, counted from 1.
        client: number of the client, which is its node; a server's is the one after the experts'.
        expert: number of its expert; None for a server, which has none.
        experts: number of all experts; expert e lives on node e.
        payload: shape of one item's payload, what the extractor gives and every expert takes.
        gate_sees_snr: whether the gate takes the SNR of the links to all experts, too.
        classes: names of the classes.
        holds: classes in the client's own data.
        input: images that the extractor takes.
        radio: the simulated radio.
        sha256: file name, relative to the client's folder, to SHA-256, of the files that the client runs.
    """

    format: Literal["airmoe manifest 2"] = "airmoe manifest 2"
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    model_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    layer: Annotated[int, Field(ge=1, le=(1 << 16) - 1)] = 1
    client: Index
    expert: Index | None
    experts: Count
    payload: Annotated[list[Count], Field(min_length=1, max_length=7)]
    gate_sees_snr: bool = False
    classes: Annotated[list[str], Field(min_length=2)]
    holds: list[Index]
    input: InputSpec
    radio: RadioSpec
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]

    @property
    def features(self) -> int:
        """How many values an item's payload has."""
        return math.prod(self.payload)

    @property
    def asks(self) -> bool:
        """Whether the client runs extractor and gate; one that does not serves its expert and asks nobody."""
        return {EXTRACTOR_ONNX, GATE_ONNX} <= self.sha256.keys()

    @property
    def nodes(self) -> int:
        """How many nodes this client knows of: those of the experts, and its own."""
        return max(self.experts, self.client + 1)

    @model_validator(mode="after")
    def _numbers_exist(self) -> Self:
        is_server = self.expert is None
        for name, value, limit in (
            ("client", self.client, self.experts + is_server),
            ("holds", max(self.holds, default=0), len(self.classes)),
            ("the product of payload", self.features, MOST_VALUES + 1),
            ("nodes^2 x subcarriers", self.nodes**2 * self.radio.subcarriers, MOST_GAINS + 1),
        ):
            if value >= limit:
                raise ValueError(f"{name} is {value}; expected less than {limit}")
        if is_server and self.client != self.experts:
            raise ValueError(
                f"client is {self.client}; expected {self.experts}, the node after the experts', for a server"
            )
        if not is_server and self.expert != self.client:
            raise ValueError(f"expert is {self.expert}; expected {self.client}, the client's number")
        return self


EXPERT_ONNX = "expert.onnx"
EXTRACTOR_ONNX = "../../shared/extractor.onnx"
GATE_ONNX = "../../shared/gate.onnx"
INPUT, SNR_INPUT = "input", "snr_db"
"""The inputs of exported networks: the first of each, and the second of a gate that sees SNR."""


def write_manifest(client_folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a client's folder, atomically."""
    with replaced_file(client_folder / MANIFEST) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_manifest(client_folder: Path) -> Manifest:
    """Return the manifest of a client's folder.

    Raises:
        RunFolderError: it is missing or damaged.
    """
    path = client_folder / MANIFEST
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunFolderError(f"{path} does not exist; expected a client's folder of a run") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise RunFolderError(f"{path} is damaged: {key}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from None
