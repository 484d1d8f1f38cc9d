"""What a source of texts runs itself: a language model without its experts, in a folder and back."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Never

import tomli_w
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import AnyPath
from airmoe.language.form import TransformerSettings
from airmoe.language.transformer import EXPERT, MoeTransformer
from airmoe.manifest import Manifest, RadioSpec
from airmoe.runfolder import SOURCE_FORM, SOURCE_WEIGHTS, checked_file
from airmoe.runs.export_layers import export_layers
from airmoe.runs.settings import parse_section
from airmoe.runs.weights import load_weights, save_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Elsewhere(nn.Module):
    """Stands for an expert that runs on a node: a carrier of this process cannot ask it."""

    def forward(self, hidden_PW: Tensor) -> Never:
        """Refuse.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError(
            "carrier", "one of this process", "one that reaches the nodes: see MeshSource"
        )


def export_language_model(
    folder: AnyPath,
    model: MoeTransformer,
    *,
    mesh: str,
    radio: RadioSpec,
    placement: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write ``clients/`` of a run: every node gets its experts of all layers, and can be a source of texts.

    Args:
        folder: the run folder, without ``clients/``.
        model: the mixture.
        mesh: name of the mesh.
        radio: the simulated radio between the nodes.
        placement: for each expert the nodes that serve it, in every layer alike; default expert e at node e.

    Raises:
        InvalidInputError: as `airmoe.runs.export_layers.export_layers`.
        RunFolderError: likewise.
    """
    with _source_files(model) as files:
        layers = [list(block.moe.experts) for block in model.blocks]  # type: ignore[union-attr, arg-type]
        export_layers(
            folder,
            layers,
            model.settings.width,
            mesh=mesh,
            radio=radio,
            placement=placement,
            source_files=files,
        )


@contextmanager
def _source_files(model: MoeTransformer) -> Iterator[Mapping[str, Path]]:
    with TemporaryDirectory(prefix="airmoe-") as made:
        form, weights = Path(made, SOURCE_FORM), Path(made, SOURCE_WEIGHTS)
        form.write_text(tomli_w.dumps(model.settings.model_dump()), encoding="utf-8")
        save_weights(without_experts(model), weights)
        yield {SOURCE_FORM: form, SOURCE_WEIGHTS: weights}


def without_experts(model: MoeTransformer) -> MoeTransformer:
    """Return a copy of a model whose experts live elsewhere."""
    source = _empty(model.settings)
    source.load_state_dict(
        {name: weight for name, weight in model.state_dict().items() if EXPERT not in name}
    )
    return source.train(model.training)


def load_source(client_folder: Path, manifest: Manifest) -> MoeTransformer:
    """Return the model of a source without its experts, in evaluation mode.

    Raises:
        RunFolderError: a file is missing or damaged, or does not fit the manifest.
    """
    form, weights = (checked_file(client_folder, manifest, name) for name in (SOURCE_FORM, SOURCE_WEIGHTS))
    try:
        settings = parse_section(TransformerSettings, form.read_text(encoding="utf-8"), SOURCE_FORM)
        told = [(settings.experts, [settings.width])] * settings.layers
        expected = [(layer.experts, layer.payload) for layer in manifest.layers]
        if told != expected:
            raise RunFolderError(f"{form} tells of (experts, width) {told}; the manifest of {expected}")
        model = _empty(settings)
        load_weights(model, load_file(weights), str(weights))
    except (OSError, ValueError, tomllib.TOMLDecodeError, SafetensorError) as error:
        raise RunFolderError(f"{client_folder} is damaged: {error}") from None
    return model.eval()


def _empty(settings: TransformerSettings) -> MoeTransformer:
    model = MoeTransformer(settings)
    for block in model.blocks:
        block.moe.experts = nn.ModuleList(Elsewhere() for _ in range(settings.experts))  # type: ignore[union-attr]
    return model
