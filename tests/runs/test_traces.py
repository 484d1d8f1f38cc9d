"""What the tests write without a trace is what a trace would have given: see ``tests/traces.py``."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from airmoe.nn import LeNet5Extractor
from airmoe.runs import export_onnx, onnx_files
from tests.traces import TRACED, remember_traces, traced_form, written_in


def with_random_weights(network: nn.Module, seed: int) -> nn.Module:
    draws = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        nn.init.normal_(weight, generator=draws)
    return network.eval()


def test_it_is_the_trace_to_the_byte_whatever_the_weights() -> None:
    inputs = {"input": torch.rand(3, 1, 32, 32)}
    form = traced_form(with_random_weights(LeNet5Extractor(1), 1), inputs)
    network = with_random_weights(LeNet5Extractor(1), 2)
    assert written_in(form, network) == TRACED(network, inputs)


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that are traced, where nothing has been traced yet."""
    modules: list[nn.Module] = []
    export = torch.onnx.export

    def watched(module: nn.Module, *args: Any, **options: Any) -> Any:
        modules.append(module)
        return export(module, *args, **options)

    monkeypatch.setattr(torch.onnx, "export", watched)
    monkeypatch.setattr(onnx_files, "_traced", TRACED)
    (tmp_path / "forms").mkdir()
    remember_traces(tmp_path / "forms", monkeypatch)
    return modules


def test_a_form_is_traced_once(tmp_path: Path, traced: list[nn.Module]) -> None:
    for number, network in enumerate((nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 2))):
        export_onnx(network, {"input": torch.rand(2, 4)}, tmp_path / f"{number}.onnx")
    assert len(traced) == 2


class Times(nn.Module):
    """Holds a number where nobody sees it who looks for weights and settings."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.held = {"factor": factor}

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.held["factor"]


def test_a_network_that_a_form_does_not_fit_is_traced(tmp_path: Path, traced: list[nn.Module]) -> None:
    for factor in (2.0, 3.0):
        network = Times(factor)
        export_onnx(network, {"input": torch.rand(2, 4)}, tmp_path / f"{factor}.onnx")
    assert traced[-1] is network
