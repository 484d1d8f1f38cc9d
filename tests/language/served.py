"""A language model with random weights, in the folders of four nodes; every expert is at two of them."""

from pathlib import Path

import torch

from airmoe.language import MoeTransformer, TransformerSettings
from airmoe.language.source import export_language_model
from airmoe.manifest import RadioSpec
from airmoe.seeding import torch_seeded

PLACEMENT = [[0, 3], [0, 1], [1, 2], [2, 3]]
RADIO = RadioSpec(seed=3, subcarriers=16, charge_return=True)


def random_model() -> MoeTransformer:
    settings = TransformerSettings(width=16, layers=3, heads=2, expert_hidden=16, context=64)
    with torch_seeded(1, "served"):
        model = MoeTransformer(settings).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    return model


def served(folder: Path, placement: list[list[int]] | None = None) -> tuple[Path, MoeTransformer]:
    """The run folder, and the whole model."""
    model = random_model()
    export_language_model(folder, model, mesh="text", radio=RADIO, placement=placement or PLACEMENT)
    return folder, model
