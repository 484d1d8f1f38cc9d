"""The manifest of a client's folder: what its node serves, what it asks with, and where all experts are.

A manifest is a JSON file beside the files that it names, so the folder can be copied anywhere. It has the
SHA-256 of every one of them: a damaged file is never run.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath, as_path, replaced_file
from airmoe.records import Record, refusal

MANIFEST = "manifest.json"
FORMAT = "airmoe manifest 5"
INPUT, SNR_INPUT = "input", "snr_db"
"""Names of the inputs of exported networks; only a gate that sees SNR takes the second."""

MOST_VALUES = 1 << 24
"""The most values of one item's payload or output; as float32 they fill a message."""

MOST_GAINS = 1 << 26
"""The most channel gains that a client holds in memory: 512 MiB."""

Count = Annotated[int, Field(ge=1, le=1 << 20)]
Index = Annotated[int, Field(ge=0, le=1 << 20)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
LayerNumber = Annotated[int, Field(ge=1, le=(1 << 16) - 1)]
ItemShape = Annotated[list[Count], Field(min_length=1, max_length=7)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
MeshTransmission = Literal["ideal", "analog"]
OutputKind = Literal["probabilities", "logits", "hidden states"]
ShortHash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class RadioSettings(Record):
    """The simulated radio between the nodes: Rayleigh block fading on OFDMA subcarriers.

    Attributes:
        mean_snr_db: mean of the linear SNR of every link and subcarrier, in dB.
        subcarriers: the number of subcarriers.
        subcarrier_hz: bandwidth of one subcarrier, Hz.
        power_w: transmit power per subcarrier, W.
        charge_return: whether outputs travel back over the reverse link, for the price of payloads.
        transmission: what a mesh does to payloads on their way. "ideal" links carry bits without error, at
            the Shannon rate; "analog" ones add noise and cost airtime.
    """

    mean_snr_db: Annotated[float, Field(ge=-300, le=300)] = 10.0
    subcarriers: Count = 128
    subcarrier_hz: Annotated[float, Field(ge=1, le=1e12)] = 1e6
    power_w: Annotated[float, Field(ge=1e-12, le=1e6)] = 1e-2
    charge_return: bool = False
    transmission: MeshTransmission = "ideal"


class RadioSpec(RadioSettings):
    """The simulated radio of a run. Its links are those of slot 0 of the random stream ``seed``."""

    seed: Seed


class InputSpec(Record):
    """The images that the extractor takes: (channels, height, width), float32 in [0, 1]."""

    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]


class OutputSpec(Record):
    """What an expert returns for one item: its meaning and its shape."""

    kind: OutputKind
    shape: ItemShape


class LayerSpec(Record):
    """One MoE layer of the model; all its experts take and return the same.

    Attributes:
        layer: its number, counted from 1.
        payload: shape of one item's payload, which every expert takes.
        output: what every expert returns.
        placement: for each expert the nodes that serve it. Two or more are replicas.
        hashes: for each expert the first 16 hex digits of the SHA-256 of its ONNX file. A request names the
            one it is for, and a reply the one it is of.
    """

    layer: LayerNumber
    payload: ItemShape
    output: OutputSpec
    placement: Annotated[list[Annotated[list[Index], Field(min_length=1)]], Field(min_length=1, repr=False)]
    hashes: Annotated[list[ShortHash], Field(repr=False)]

    @property
    def experts(self) -> int:
        """How many experts the layer has."""
        return len(self.placement)

    @property
    def payload_values(self) -> int:
        """How many values an item's payload has."""
        return math.prod(self.payload)

    @property
    def most_values(self) -> int:
        """How many values an item's payload or output has, whichever has more."""
        return max(self.payload_values, math.prod(self.output.shape))

    def experts_on(self, node: int) -> list[int]:
        """Return the experts that a node serves, ascending."""
        return [expert for expert, nodes in enumerate(self.placement) if node in nodes]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name, shape in (("payload", self.payload), ("output", self.output.shape)):
            if (values := math.prod(shape)) > MOST_VALUES:
                raise InvalidInputError(f"the product of {name}", values, f"at most {MOST_VALUES}")
        for expert, nodes in enumerate(self.placement):
            if nodes != sorted(set(nodes)):
                expected = "each node once, in ascending order"
                raise InvalidInputError(f"placement of expert {expert}", nodes, expected)
        if len(self.hashes) != self.experts:
            raise InvalidInputError("hashes", len(self.hashes), f"{self.experts}, one for each expert")
        return self


class ExpertSpec(Record):
    """An expert that the folder's node serves, and the ONNX file of its network."""

    layer: LayerNumber
    expert: Index
    file: FileName


class GateSpec(Record):
    """The gate of a layer: its ONNX file, and whether it also takes the SNR of the links to all experts."""

    layer: LayerNumber
    file: FileName
    sees_snr: bool = False


class AskingSpec(Record):
    """What a client asks with.

    Attributes:
        input: the images that the extractor takes.
        extractor: the ONNX file of the feature extractor.
        gates: the gate of every layer that is asked, one at least.
    """

    input: InputSpec
    extractor: FileName
    gates: Annotated[list[GateSpec], Field(min_length=1)]

    @property
    def files(self) -> list[str]:
        """The names of all files that the client runs to ask."""
        return [self.extractor, *(gate.file for gate in self.gates)]


class SourceSpec(Record):
    """What a source of texts asks with.

    Attributes:
        files: of the model without its experts; none where the model comes from elsewhere.
    """

    files: list[FileName]


class Manifest(Record):
    """What the node of a client's folder serves and asks, and where the experts of the whole model are.

    Attributes:
        mesh: name of the mesh.
        model_hash: 16 hex digits over all weights and what they mean; nodes of different models never meet.
        node: the node of this folder.
        nodes: how many nodes there are, those that only ask included.
        layers: every MoE layer of the model.
        serves: the experts of this node, as the placement says; nothing at a server that only asks.
        asks: what the client asks with about images; None at a node that only serves.
        source: what it asks with about texts.
        classes: names of the classes; none where every layer returns hidden states.
        holds: classes in the client's own data.
        radio: the simulated radio.
        sha256: SHA-256 of every file that ``serves``, ``asks`` and ``source`` name.
    """

    format: Literal["airmoe manifest 5"] = "airmoe manifest 5"
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    model_hash: ShortHash
    node: Index
    nodes: Count
    layers: Annotated[list[LayerSpec], Field(min_length=1)]
    serves: list[ExpertSpec]
    asks: AskingSpec | None
    source: SourceSpec | None = None
    classes: list[str]
    holds: list[Index]
    radio: RadioSpec
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show which node of which mesh it is."""
        for name in ("mesh", "model_hash", "node", "nodes"):
            yield name, getattr(self, name)

    def layer(self, number: int) -> LayerSpec:
        """Return the layer of this number; KeyError if the model has none."""
        return {layer.layer: layer for layer in self.layers}[number]

    @property
    def files(self) -> list[str]:
        """The names of all files that the folder's node and client run."""
        return [*(expert.file for expert in self.serves), *self.files_to_ask]

    @property
    def files_to_ask(self) -> list[str]:
        """The names of the files among them that only a client needs."""
        asked = [] if self.asks is None else self.asks.files
        return asked if self.source is None else [*asked, *self.source.files]

    @property
    def layers_asked(self) -> list[int]:
        """The numbers of the layers that the folder's client asks at."""
        if self.source is not None:
            return [layer.layer for layer in self.layers]
        return [] if self.asks is None else [gate.layer for gate in self.asks.gates]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        _refuse_twice("layer", [layer.layer for layer in self.layers])
        if len(self.classes) < 2 and any(layer.output.kind != "hidden states" for layer in self.layers):
            raise InvalidInputError("number of classes", len(self.classes), "at least 2")
        if self.asks is not None and self.source is not None:
            raise InvalidInputError("source", self.source, "None beside asks: a client has images or texts")
        numbers = [
            ("node", self.node, self.nodes),
            ("holds", max(self.holds, default=-1), len(self.classes)),
            ("nodes^2 x subcarriers", self.nodes**2 * self.radio.subcarriers, MOST_GAINS + 1),
        ]
        for layer in self.layers:
            last = max(max(nodes) for nodes in layer.placement)
            numbers.append((f"a node in the placement of layer {layer.layer}", last, self.nodes))
        for name, value, limit in numbers:
            if value >= limit:
                raise InvalidInputError(name, value, f"less than {limit}")
        for layer in self.layers:
            if layer.output.kind != "hidden states" and layer.output.shape != [len(self.classes)]:
                name = f"shape of the {layer.output.kind} of layer {layer.layer}"
                expected = f"[{len(self.classes)}], the number of classes"
                raise InvalidInputError(name, layer.output.shape, expected)
        return self

    @model_validator(mode="after")
    def _serves_what_is_placed_here(self) -> Self:
        served = sorted((expert.layer, expert.expert) for expert in self.serves)
        placed = sorted(
            (layer.layer, expert) for layer in self.layers for expert in layer.experts_on(self.node)
        )
        if served != placed:
            expected = f"{placed}, the (layer, expert) that the placement puts on node {self.node}"
            raise InvalidInputError("serves", served, expected)
        if not served and self.asks is None and self.source is None:
            raise InvalidInputError("asks", None, f"a value, for node {self.node} serves no expert")
        if self.asks is not None:
            gates = [gate.layer for gate in self.asks.gates]
            _refuse_twice("layer of a gate", gates)
            for number in gates:
                if all(layer.layer != number for layer in self.layers):
                    raise InvalidInputError("layer of a gate", number, "a layer of the model")
        if (named := set(self.files)) != self.sha256.keys():
            differing = sorted(named ^ self.sha256.keys())
            raise InvalidInputError(
                "sha256", ", ".join(differing), "the digests of exactly the files that are named"
            )
        for each in self.serves:
            of_layer, of_file = self.layer(each.layer).hashes[each.expert], self.sha256[each.file]
            if not of_file.startswith(of_layer):
                expected = f"one that begins with {of_layer}, the hash of expert {each.expert} in this model"
                raise InvalidInputError(f"sha256 of {each.file}", of_file, expected)
        return self


def _refuse_twice(name: str, numbers: list[int]) -> None:
    for number in numbers:
        if numbers.count(number) > 1:
            raise InvalidInputError(name, number, f"once, not {numbers.count(number)} times")


def experts_in_words(experts: Sequence[ExpertSpec]) -> str:
    """Return e.g. "expert 3", "expert 3 of 12 layers", or "experts 0, 1 of layer 1, 0 of layer 2"."""
    layers = sorted({expert.layer for expert in experts})
    numbers = [sorted(each.expert for each in experts if each.layer == layer) for layer in layers]
    listed = [", ".join(map(str, of_layer)) for of_layer in numbers]
    if len(layers) > 1 and len(set(listed)) == 1:
        return f"expert{'s' * (len(numbers[0]) > 1)} {listed[0]} of {len(layers)} layers"
    if len(layers) > 1:
        listed = [f"{some} of layer {layer}" for some, layer in zip(listed, layers, strict=True)]
    return f"expert{'s' * (len(experts) > 1)} {', '.join(listed)}"


def write_manifest(client_folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` into a client's folder, atomically."""
    with replaced_file(client_folder / MANIFEST) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_manifest(client_folder: AnyPath) -> Manifest:
    """Return the manifest of a client's folder.

    Raises:
        RunFolderError: it is missing, damaged or of another version of airmoe.
    """
    path = as_path(client_folder) / MANIFEST
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(read, dict) and read.get("format") != FORMAT:
            raise RunFolderError(
                f"{path} has format {read.get('format')!r}; expected {FORMAT!r}: it was written by another "
                f"version of airmoe; train again with this one, or export the run again with `export_run`"
            )
        return Manifest.model_validate(read)
    except FileNotFoundError:
        expected = "a client's folder of a run"
        if (path.parent / "clients").is_dir():
            expected += f": one of those in {path.parent / 'clients'}"
        raise RunFolderError(f"{path} does not exist; expected {expected}") from None
    except ValidationError as error:
        raise RunFolderError(f"{path} is damaged: {refusal(error, lambda key: key or 'manifest')}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {error}") from None
