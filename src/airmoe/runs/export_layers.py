"""Write the experts of many layers to the folders of nodes, for models whose rest runs where a text rests.

Shape suffixes: T tokens, W values of a hidden state.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from airmoe.checks import refuse_type
from airmoe.errors import InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.manifest import (
    INPUT,
    ExpertSpec,
    LayerSpec,
    Manifest,
    OutputSpec,
    RadioSpec,
    SourceSpec,
    write_manifest,
)
from airmoe.records import refusal
from airmoe.runfolder import SERVER, layer_expert_file, model_hash, sha256_of
from airmoe.runs.aside import nodes_of_experts, share, written_aside
from airmoe.runs.manifests import NOT_YET
from airmoe.runs.onnx_files import export_onnx

CHECKED_TOKENS = 16
"""On how many drawn hidden states ONNX Runtime is compared with PyTorch."""


def export_layers(
    folder: AnyPath,
    layers: Sequence[Sequence[nn.Module]],
    width: int,
    *,
    mesh: str = "lab",
    radio: RadioSpec,
    placement: Sequence[Sequence[int]] | None = None,
    source_files: Mapping[str, Path] | None = None,
    server: bool = False,
) -> None:
    """Write ``clients/`` of a run: for each node its experts of all layers. Nothing is left if it fails.

    Args:
        folder: the run folder, without ``clients/``.
        layers: for each MoE layer its experts, which take and give hidden states (T, W); as many in each.
        width: W.
        mesh: name of the mesh.
        radio: the simulated radio between the nodes.
        placement: for each expert the nodes that serve it, in every layer alike; default expert e at node e.
        source_files: by name in a client's folder, the files that a source needs beside the experts.
        server: False lets a text rest at any node; True at ``clients/server`` alone, a node after the others
            that holds no expert.

    Raises:
        InvalidInputError: the folder has ``clients/``, or an argument is out of range or does not fit.
        RunFolderError: an exported network gives other outputs than PyTorch.
    """
    folder, sources = as_path(folder), dict(source_files or {})
    if not layers or len({len(experts) for experts in layers}) > 1:
        told = [len(experts) for experts in layers]
        raise InvalidInputError("experts of layers", told, "as many in every layer, one layer at least")
    refuse_type("radio", radio, RadioSpec)
    manifests = layer_manifests(
        len(layers),
        len(layers[0]),
        width,
        mesh=mesh,
        radio=radio,
        placement=placement,
        sources=list(sources),
        server=server,
    )
    specs = manifests["00"].layers
    example_TW = torch.randn(CHECKED_TOKENS, width, generator=torch.Generator().manual_seed(0))
    with written_aside(folder, "clients") as aside:
        clients = aside / "clients"
        for name in manifests:
            (clients / name).mkdir()
        hashes = _write_experts(layers, example_TW, specs[0].placement, clients)
        known = [
            spec.model_copy(update={"hashes": [digest[:16] for digest in of_layer]})
            for spec, of_layer in zip(specs, hashes, strict=True)
        ]
        digests = [*map(sha256_of, sources.values()), *itertools.chain(*hashes)]
        hash_ = model_hash(manifests["00"], digests)
        for name, manifest in manifests.items():
            if manifest.source is not None:
                for file, path in sources.items():
                    share(path, clients / name / file)
            written = {file: sha256_of(clients / name / file) for file in manifest.files}
            changes = {"model_hash": hash_, "layers": known, "sha256": written}
            write_manifest(clients / name, manifest.model_copy(update=changes))


def layer_manifests(
    layers: int,
    experts: int,
    width: int,
    *,
    mesh: str,
    radio: RadioSpec,
    placement: Sequence[Sequence[int]] | None = None,
    sources: Sequence[str] = (),
    server: bool = False,
) -> dict[str, Manifest]:
    """Return the manifest of every node by the name of its folder; hashes are stand-ins.

    Args:
        layers: how many there are.
        experts: of each.
        width: W.
        mesh: name of the mesh.
        radio: the simulated radio between the nodes.
        placement: for each expert the nodes that serve it; default expert e at node e.
        sources: names of the files that a source needs.
        server: whether texts rest at a node after the others alone.

    Raises:
        InvalidInputError: a manifest cannot hold a value, or not all of them together.
    """
    nodes = experts if placement is None else 1 + max((max(held, default=0) for held in placement), default=0)
    nodes_of = nodes_of_experts(placement, experts, nodes, server)
    manifests = {}
    try:
        specs = [
            LayerSpec(
                layer=number,
                payload=[width],
                output=OutputSpec(kind="hidden states", shape=[width]),
                placement=nodes_of,
                hashes=[NOT_YET[:16]] * experts,
            )
            for number in range(1, layers + 1)
        ]
        for node in range(nodes + server):
            serves = [
                ExpertSpec(layer=spec.layer, expert=expert, file=layer_expert_file(spec.layer, expert))
                for spec in specs
                for expert in spec.experts_on(node)
            ]
            source = SourceSpec(files=list(sources)) if not server or node == nodes else None
            files = [each.file for each in serves] + ([] if source is None else source.files)
            manifests[f"{node:02d}" if node < nodes else SERVER] = Manifest(
                mesh=mesh,
                model_hash=NOT_YET[:16],
                node=node,
                nodes=nodes + server,
                layers=specs,
                serves=serves,
                asks=None,
                source=source,
                classes=[],
                holds=[],
                radio=radio,
                sha256=dict.fromkeys(files, NOT_YET),
            )
    except ValidationError as error:
        raise refusal(error) from None
    return manifests


def _write_experts(
    layers: Sequence[Sequence[nn.Module]], example_TW: Tensor, nodes_of: list[list[int]], clients: Path
) -> list[list[str]]:
    """Write each expert to the first of its nodes, share it with the others; return the SHA-256 of all."""
    traced: Path | None = None
    digests = list[list[str]]()
    for number, experts in enumerate(layers, start=1):
        digests.append([])
        for expert, (network, nodes) in enumerate(zip(experts, nodes_of, strict=True)):
            name = layer_expert_file(number, expert)
            first, *others = (clients / f"{node:02d}" / name for node in nodes)
            export_onnx(network, {INPUT: example_TW}, first, like=traced)
            traced = first
            digests[-1].append(sha256_of(first))
            for other in others:
                share(first, other)
    return digests
