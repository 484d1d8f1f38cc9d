"""Mixtures of Hugging Face whose experts are served by processes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from airmoe.errors import InvalidInputError
from airmoe.language import MeshSource, NodesOfModel, export_nodes_of_model
from airmoe.language.families import FAMILIES
from airmoe.mesh.fleet import NodeFleet
from airmoe.mesh.local_identities import local_identity
from airmoe.runfolder import client_folders
from tests.language.test_huggingface import EXPERTS, OWN, logits_of, model_of, tokens_BS, written

transformers = pytest.importorskip("transformers")
__all__ = ["tokens_BS"]

PLACEMENT = [[expert % 2] for expert in range(EXPERTS)]


QUICK = ("deepseek_v3", "mixtral")
"""What each commit is tested on; the other families differ in their routers alone."""


@pytest.mark.parametrize(
    "family",
    [
        family if family in QUICK else pytest.param(family, marks=pytest.mark.long)
        for family in sorted(FAMILIES)
    ],
)
def test_over_a_mesh_a_model_is_itself(family: str, tmp_path: Path, tokens_BS: torch.Tensor) -> None:
    model = model_of(family)
    before, text = logits_of(model, tokens_BS), written(model, tokens_BS)
    export_nodes_of_model(model, tmp_path, placement=PLACEMENT)
    own_k = OWN[family].get("num_experts_per_tok", 2)
    with (
        NodeFleet(client_folders(tmp_path)) as fleet,
        MeshSource(
            tmp_path / "clients" / "server",
            fleet.addresses,
            hedge_s=10.0,
            identity=local_identity(tmp_path / "clients" / "server"),
        ) as mesh,
    ):
        assert mesh.wait_for_all(20)
        for policy in (None, f"topk:{own_k}"):
            calls = mesh.calls(policy)
            with NodesOfModel(model, placement=mesh.placements[0], calls=calls, source=mesh.node) as nodes:
                torch.testing.assert_close(logits_of(model, tokens_BS), before, rtol=1e-5, atol=1e-5)
                assert written(model, tokens_BS) == text
            assert nodes.energy_j > 0
            assert calls.traffic.received_bytes > 0
            assert not any(done.degraded_T.any() for layer in nodes.layers for done in layer.done)


def test_experts_of_a_bfloat16_model_are_written_as_float32(tmp_path: Path, tokens_BS: torch.Tensor) -> None:
    model = model_of("mixtral").to(torch.bfloat16)
    before = logits_of(model, tokens_BS)
    export_nodes_of_model(model, tmp_path, placement=PLACEMENT)
    with (
        NodeFleet(client_folders(tmp_path)) as fleet,
        MeshSource(
            tmp_path / "clients" / "server",
            fleet.addresses,
            hedge_s=10.0,
            identity=local_identity(tmp_path / "clients" / "server"),
        ) as mesh,
    ):
        assert mesh.wait_for_all(20)
        with NodesOfModel(model, placement=mesh.placements[0], calls=mesh.calls(), source=mesh.node):
            after = logits_of(model, tokens_BS)
    assert after.dtype == torch.bfloat16
    assert (after - before).abs().max() < 0.1 * before.abs().max()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="for each of 8 experts"):
        export_nodes_of_model(model_of("mixtral"), tmp_path / "a", placement=[[0]] * 7)
    config: Any = transformers.LlamaConfig(
        vocab_size=96, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(InvalidInputError, match="llama"):
        export_nodes_of_model(transformers.AutoModelForCausalLM.from_config(config), tmp_path / "b")
    assert not list(tmp_path.iterdir())
