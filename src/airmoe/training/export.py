"""Write a trained networked MoE to a run folder: safetensors for training, ONNX for serving, and a check that
both give the same outputs."""

import hashlib
import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from airmoe.errors import RunFolderError
from airmoe.nn import MixtureOfExperts
from airmoe.runfolder import (
    EXPERT_ONNX,
    EXTRACTOR_ONNX,
    GATE_ONNX,
    InputSpec,
    Manifest,
    RadioSpec,
    sha256_of,
    write_manifest,
)

TOLERANCE = 1e-4
"""Largest difference between PyTorch and ONNX Runtime that an export may show."""


class _Scores(nn.Module):
    """A gate reduced to its scores."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, pooled_TF: Tensor) -> Tensor:
        return self.gate(pooled_TF).scores_TE  # type: ignore[no-any-return]


def export_onnx(module: nn.Module, example_T: Tensor, path: Path) -> None:
    """Write a module as ONNX with a free batch axis, and check its outputs on ``example_T``.

    Raises:
        RunFolderError: ONNX Runtime and PyTorch differ by more than `TOLERANCE`.
    """
    module = module.eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it lists every torchvision operator it lacks
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            module,
            (example_T,),
            path,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("T")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        expected = module(example_T).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {"input": example_T.numpy()})
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE:
        raise RunFolderError(
            f"{path.name}: ONNX and PyTorch outputs differ by {difference}; expected at most {TOLERANCE}"
        )


def export_run(
    folder: Path,
    model: MixtureOfExperts,
    example_TCHW: Tensor,
    *,
    mesh: str,
    class_names: tuple[str, ...],
    holds: list[list[int]],
    radio: RadioSpec,
) -> None:
    """Write ``shared/`` and ``clients/`` of a run.

    Args:
        folder: the run folder.
        model: the trained mixture, expert e of client e.
        example_TCHW: a few real images, float32 in [0, 1], for the check.
        mesh: name of the mesh.
        class_names: of all classes.
        holds: for each client the classes in its data.
        radio: the simulated radio.
    """
    shared = folder / "shared"
    shared.mkdir(parents=True)
    with torch.no_grad():
        features_TF = model.extractor.eval()(example_TCHW)
    digest = hashlib.sha256()
    for name, module, example, served in (
        ("extractor", model.extractor, example_TCHW, model.extractor),
        ("gate", model.gate, features_TF, _Scores(model.gate)),
    ):
        save_file(module.state_dict(), shared / f"{name}.safetensors")
        export_onnx(served, example, shared / f"{name}.onnx")
        digest.update((shared / f"{name}.safetensors").read_bytes())
    for client, expert in enumerate(model.experts):
        client_folder = folder / "clients" / f"{client:02d}"
        client_folder.mkdir(parents=True)
        save_file(expert.state_dict(), client_folder / "expert.safetensors")
        export_onnx(expert, features_TF, client_folder / EXPERT_ONNX)
        channels, height, width = example_TCHW.shape[1:]
        manifest = Manifest(
            mesh=mesh,
            model_hash=digest.hexdigest()[:16],
            client=client,
            expert=client,
            experts=len(model.experts),
            features=features_TF.shape[1],
            classes=list(class_names),
            holds=holds[client],
            input=InputSpec(channels=channels, height=height, width=width),
            radio=radio,
            sha256={
                name: sha256_of(client_folder / name) for name in (EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX)
            },
        )
        write_manifest(client_folder, manifest)
