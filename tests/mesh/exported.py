"""The short run's networks in PyTorch, and the same run with a server that asks by a channel-aware gate."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from airmoe.data import ImageSet
from airmoe.links import Links, LinkSnr, Ofdma
from airmoe.manifest import Manifest, RadioSpec, read_manifest, write_manifest
from airmoe.runfolder import EXTRACTOR, GATE, client_folders, expert_file, sha256_of
from airmoe.scheduling import Placement

if TYPE_CHECKING:
    from torch import Tensor, nn

    from airmoe.dispatch import Carrier
    from airmoe.nn import BiasGate, LinearGate, MixtureOfExperts
    from airmoe.nn.moe_layer import MoeOutput
    from airmoe.scheduling import Policy

EXPERTS = 4
SERVER_NODE = 4
"""The node after the experts'."""


def load_model(run_folder: Path) -> "MixtureOfExperts":
    """The run's safetensors in PyTorch."""
    from safetensors.torch import load_file

    from airmoe.networked.config import load_config
    from airmoe.nn import build_model

    settings = load_config(run_folder / "config.toml").model
    model = build_model(
        settings.backbone,
        classes=10,
        experts=EXPERTS,
        channels=1,
        norm=settings.norm,
        expert_hidden=settings.expert_hidden,
    )
    model.extractor.load_state_dict(load_file(run_folder / "shared/extractor.safetensors"))
    model.layer.gate.load_state_dict(load_file(run_folder / "shared/gate.safetensors"))
    for number, (expert, folder) in enumerate(
        zip(model.layer.experts, client_folders(run_folder), strict=True)
    ):
        expert.load_state_dict(load_file(folder / expert_file(number, "safetensors")))
    return model.eval()


def channel_aware(gate: "LinearGate", per_10_db: float = 4.0) -> "BiasGate":
    """The same gate, to which a link is worth so much more for every 10 dB."""
    import torch

    from airmoe.nn import BiasGate

    aware = BiasGate(gate)
    with torch.no_grad():  # four ramps rise by a quarter in 2.5 dB; the softplus of so large a weight is it
        aware.link_worth.weight_S.fill_(per_10_db / 4)
    return aware.eval()


@dataclass(frozen=True)
class ServerRun:
    """A run whose server asks, and the same mixture in PyTorch."""

    folder: Path
    model: "MixtureOfExperts"

    @property
    def server(self) -> Path:
        return self.folder / "clients" / "server"

    @property
    def experts(self) -> list[Path]:
        return client_folders(self.folder)

    def in_one_process(
        self,
        images_TCHW: NDArray[np.uint8],
        policy: "Policy",
        carrier: "Carrier[Tensor, Tensor]",
        snr: LinkSnr | None = None,
    ) -> "MoeOutput":
        """What the mixture answers to a server without expert."""
        import torch

        with torch.no_grad():
            source_T = np.full(len(images_TCHW), SERVER_NODE)
            images = torch.from_numpy(images_TCHW).float() / 255
            return self.model(images, source_T, snr=snr, policy=policy, carrier=carrier)


def make_server_run(run_folder: Path, out: Path, digits: ImageSet, **radio: object) -> ServerRun:
    """The short run's networks with a server and a channel-aware gate, which sends to whom it hears well.

    The folder is laid out by hand; `tests.runs.test_export` has one that `export_run` writes.
    """
    import torch

    from airmoe.runs.onnx_files import export_gate

    model = load_model(run_folder)
    model.layer.gate = channel_aware(model.layer.gate)
    shutil.copytree(run_folder, out, ignore=shutil.ignore_patterns("identities"))
    with torch.no_grad():
        payload_T = model.extractor(torch.from_numpy(digits.test_images[:8]).float() / 255)
    export_gate(model.layer.gate, payload_T, EXPERTS, out / "shared" / GATE)
    server = out / "clients" / "server"
    server.mkdir()
    for name in (EXTRACTOR, GATE):
        shutil.copy(out / "shared" / name, server / name)
    for number, folder in enumerate(client_folders(out)):
        (folder / EXTRACTOR).unlink()
        (folder / GATE).unlink()
        manifest = read_manifest(folder)
        name, asks = expert_file(number), manifest.asks
        changes: dict[str, Any] = {
            "nodes": EXPERTS + 1,
            "radio": manifest.radio.model_copy(update=radio),
            "asks": None,
            "sha256": {name: manifest.sha256[name]},
        }
        write_manifest(folder, manifest.model_copy(update=changes))
    assert asks is not None
    changes |= {
        "node": SERVER_NODE,
        "serves": [],
        "asks": asks.model_copy(update={"gates": [asks.gates[0].model_copy(update={"sees_snr": True})]}),
        "holds": [],
        "sha256": {name: sha256_of(server / name) for name in (EXTRACTOR, GATE)},
    }
    write_manifest(server, Manifest.model_validate(manifest.model_copy(update=changes).model_dump()))
    return ServerRun(out, model)


def map_model(
    gate: "nn.Module | None" = None, placement: Sequence[Sequence[int]] = ((0,), (1,))
) -> "MixtureOfExperts":
    """Experts that take maps of 3 x 5 x 5 of grey 20 x 20 images; the weights are random."""
    import torch
    from torch import nn

    from airmoe.nn import ConcatGate, MixtureOfExperts, MoeLayer, NoisyTopK

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        extractor = nn.Sequential(nn.Conv2d(1, 3, 4, stride=4), nn.ReLU())
        experts = [
            nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4), nn.Softmax(dim=1))
            for _ in placement
        ]
        if gate is None:
            gate = ConcatGate(3, len(experts), hidden=8)
            nn.init.normal_(gate.last.weight)
            gate = NoisyTopK(gate, 3, len(experts), 1)
    return MixtureOfExperts(
        extractor, MoeLayer(gate, experts, pooling="map", placement=Placement.of(placement))
    ).eval()


def export_maps(
    folder: Path,
    model: "MixtureOfExperts",
    *,
    server: bool,
    holds: Sequence[Sequence[int]] = ((0, 1), (2, 3)),
    **options: Any,
) -> None:
    """Write a run of a model of maps."""
    import torch

    from airmoe.runs.export import export_run

    arguments: dict[str, Any] = {
        "example_TCHW": torch.rand(5, 1, 20, 20, generator=torch.Generator().manual_seed(0)),
        "mesh": "maps",
        "class_names": ("a", "b", "c", "d"),
        "radio": RadioSpec(mean_snr_db=10.0, subcarriers=6, subcarrier_hz=1e6, power_w=1e-2, seed=3),
    }
    export_run(folder, model, holds=holds, server=server, **(arguments | options))


def links_at(*snr_db: float, subcarriers: int = 20, nodes: int = EXPERTS + 1) -> Links:
    """Flat links: whatever the source, an expert is heard at its ``snr_db``."""
    toward_E: ArrayLike = [*snr_db, *[0.0] * (nodes - len(snr_db))]
    return Links.from_snr(np.broadcast_to(toward_E, (nodes, nodes)), Ofdma(subcarriers=subcarriers))
