"""The experts of a mixture of Hugging Face, in the folders of nodes that need no transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from airmoe.errors import require
from airmoe.files import AnyPath, as_path
from airmoe.language.families import route_of
from airmoe.language.huggingface import moe_blocks, run_expert
from airmoe.manifest import RadioSpec
from airmoe.runfolder import SERVER
from airmoe.runs.export_layers import export_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _OneExpert(nn.Module):
    """One of the experts whose weights a module holds stacked, as float32."""

    def __init__(self, experts: Any, number: int) -> None:
        super().__init__()
        self.gate_up, self.down = (
            nn.Parameter(weight[number].detach().float().cpu(), requires_grad=False)
            for weight in (experts.gate_up_proj, experts.down_proj)
        )
        self._stacked = [experts]  # in a list, lest its weights become this module's

    def forward(self, hidden_PH: Tensor) -> Tensor:
        return run_expert(self._stacked[0], self.gate_up, self.down, hidden_PH)


def export_nodes_of_model(
    model: PreTrainedModel,
    folder: AnyPath,
    *,
    placement: Sequence[Sequence[int]] | None = None,
    mesh: str = "lab",
    radio: RadioSpec | None = None,
) -> Path:
    """Write ``clients/`` of a run: each node's experts in all layers; return that of the source, the server.

    The model itself stays with whoever loaded it: text rests at the source, which holds no expert. Weights
    become float32.

    Args:
        model: of a family of `airmoe.language.families.FAMILIES`.
        folder: the run folder, without ``clients/``.
        placement: for each expert the nodes that serve it, in every layer alike; default expert e at node e.
        mesh: name of the mesh.
        radio: the simulated radio between the nodes; default that of seed 0 which charges the way back, too.

    Raises:
        InvalidInputError: another family, or as `airmoe.runs.export_layers.export_layers`.
        RunFolderError: an exported network gives other outputs than PyTorch.
        MissingExtraError: transformers is not installed.
    """
    require("llm", "transformers")
    route_of(model)
    layers = [
        [_OneExpert(block.experts, number) for number in range(block.experts.num_experts)]
        for _, block in moe_blocks(model)
    ]
    export_layers(
        folder,
        layers,
        layers[0][0].down.shape[0],
        mesh=mesh,
        radio=radio or RadioSpec(seed=0, charge_return=True),
        placement=placement,
        server=True,
    )
    return as_path(folder) / "clients" / SERVER
