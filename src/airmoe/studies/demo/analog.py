"""Channel-aware against naive routing over the same analog links, through the mesh and in one process.

Every query meets Rayleigh links of its own, the same for every method; a link fades over its whole band.

Shape suffixes: Q queries (one image each), T images, N clients, E experts, F features, C channels or classes,
H height, W width.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from airmoe.data import as_pixels
from airmoe.links import Links, LinkSnr, Ofdma, RayleighSnr, link_sequence
from airmoe.links.snapshot import OWN_NODE_SNR_DB
from airmoe.manifest import read_manifest
from airmoe.mesh import MeshClient
from airmoe.mesh.networks import OnnxGate
from airmoe.networked import ClientData, train_gate
from airmoe.networked.config import NetworkedConfig
from airmoe.nn import MixtureOfExperts, MoeLayer, RadioCarrier
from airmoe.progress import Progress
from airmoe.radio import Analog
from airmoe.randomness import stream
from airmoe.runfolder import client_folders
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.evaluation import outputs_in_batches
from airmoe.runs.export import export_gate
from airmoe.scheduling import BestLink, Policy, TopK
from airmoe.seeding import torch_seeded
from airmoe.studies.demo.simulated import ask_simulated
from airmoe.studies.demo.trials import Trial, ask

MEAN_SNR_DB = -5.0
"""Mean SNR of the links in the mesh. At 10 dB hardly an answer is lost: there is nothing to gain."""

SWEEP_MEAN_SNR_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
"""Mean SNRs of the curves."""

NAIVE, AWARE, BEST_LINK, IDEAL = "naive, top-1", "channel-aware, top-1", "best link", "ideal links, top-1"

GATE_FILE = "gate_channel_aware"
"""Name of the gate's two files beside the usual gate's."""

_NOISELESS_DB = 300.0


def train_aware_mixture(
    config: NetworkedConfig, naive: MixtureOfExperts, data: ClientData, run: Path, progress: Progress
) -> tuple[MixtureOfExperts, list[MetricsRow]]:
    """Return a mixture of the same extractor and experts under a channel-aware gate, and its metrics rows.

    The gate is trained by stage 3 with the settings of the usual one, and written to ``shared/``.

    Args:
        config: the run.
        naive: the trained mixture.
        data: of all clients.
        run: the run folder.
        progress: told of every round.
    """
    config = config.model_copy(update={"gate": config.gate.model_copy(update={"channel_aware": True})})
    features_TF = [outputs_in_batches(naive.extractor, images) for images in data.images_TCHW]
    experts = list(naive.layer.experts)
    gate, rows = train_gate(
        "channel-aware gate", config, naive.extractor, experts, features_TF, data, progress=progress
    )
    mixture = MixtureOfExperts(naive.extractor, MoeLayer(gate, experts)).eval()
    save_file(gate.state_dict(), run / "shared" / f"{GATE_FILE}.safetensors")
    export_gate(gate, features_TF[0][:32], len(experts), run / "shared" / f"{GATE_FILE}.onnx")
    return mixture, rows


class AnalogComparison:
    """Methods side by side: every image comes with links of its own, and every client asks about every image.

    Args:
        config: the run; its radio prices the airtime.
        naive: the trained mixture.
        aware: the same under a channel-aware gate.
        run: the run folder, with the gate that `train_aware_mixture` wrote.
        images_TCHW: uint8, what is asked.
        labels_T: int64, the classes.
        holds: for each client the classes in its data.
    """

    def __init__(
        self,
        config: NetworkedConfig,
        naive: MixtureOfExperts,
        aware: MixtureOfExperts,
        run: Path,
        images_TCHW: NDArray[np.uint8],
        labels_T: NDArray[np.int64],
        holds: list[list[int]],
    ) -> None:
        self._seed, self._clients = config.seed, config.data.clients
        self._images, self._labels, self._holds = images_TCHW, labels_T, holds
        power_w, subcarrier_hz = config.links.power_w, config.links.subcarrier_hz
        self._radio = Ofdma(subcarriers=1, subcarrier_hz=subcarrier_hz, power_w=power_w)
        process, random = RayleighSnr(MEAN_SNR_DB), stream(config.seed, "analog links")
        self._links_T = link_sequence(process, self._clients, self._radio, len(labels_T), random)
        manifest = read_manifest(client_folders(run)[0])
        self._classes = len(manifest.classes)
        self._aware_gate = OnnxGate(run / "shared" / f"{GATE_FILE}.onnx", manifest.layer(1), sees_snr=True)
        top, best_link = TopK(1), BestLink(1)
        self._methods: dict[str, tuple[MixtureOfExperts, Policy]] = {
            NAIVE: (naive, top),
            AWARE: (aware, top),
            BEST_LINK: (naive, best_link),
        }

    def largest_difference(self, clients: Sequence[MeshClient], batch: int = 45) -> float:
        """Return the largest difference between class probabilities from the mesh and from one process.

        No two receivers have the same noise. So here features arrive without any, while the gate sees the
        links of an image. Each client asks batches of the images in turn.

        Args:
            clients: over analog links.
            batch: images in a query.
        """
        model, policy = self._methods[AWARE]
        worst = 0.0
        noiseless = Links.from_snr(_NOISELESS_DB, self._radio, self._clients)
        for index, start in enumerate(range(0, len(self._images), batch)):
            client, seen = clients[index % len(clients)], self._links_T[start]
            part = self._images[start : start + batch]
            source_T = np.full(len(part), client.manifest.node)
            with torch.no_grad():
                snr = LinkSnr(seen.snr_db(source_T))
                expected = model(
                    torch.from_numpy(as_pixels(part)), source_T, snr=snr, policy=policy
                ).y_TC.numpy()
            links = noiseless.with_observed(seen)
            answer = client.predict(part, policy=policy, gate=self._aware_gate, links=links)
            worst = max(worst, float(np.abs(answer.probability_TC - expected).max()))
        return worst

    def ask_mesh(
        self, clients: Sequence[MeshClient], progress: Callable[[str], Callable[[int], None]]
    ) -> dict[str, Trial]:
        """Ask the mesh by every method.

        Args:
            clients: over analog links, with the usual gate; their policies are replaced.
            progress: method to what is called with the number of queries done.
        """
        usual, trials = [client.gate for client in clients], {}
        for name, (_, policy) in self._methods.items():
            for client, gate in zip(clients, usual, strict=True):
                client.policy, client.gate = policy, self._aware_gate if name == AWARE else gate
            done = progress(name)
            trials[name] = ask(
                clients, self._images, self._labels, links_of=self._links_T.__getitem__, after_query=done
            )
        for client, gate in zip(clients, usual, strict=True):
            client.gate = gate
        return trials

    def results(self, asked: dict[str, Trial], difference: float, ideal: Trial) -> dict[str, Any]:
        """Return what the report shows, with the same and more links simulated in one process.

        Args:
            asked: what `ask_mesh` returned.
            difference: what `largest_difference` returned.
            ideal: the usual gate's answers over ideal links, the ceiling.
        """
        snr_db_NTE, methods = self._snr_db_NTE(), list[dict[str, Any]]()
        for name, trial in asked.items():
            own_QE = trial.client_Q[:, np.newaxis] == np.arange(self._clients)
            used_db = snr_db_NTE[trial.client_Q, trial.image_Q][trial.requested_QE & ~own_QE]
            mean_snr_db = float(used_db.mean()) if used_db.size else None
            simulated = self._simulated(name, snr_db_NTE).summary(self._classes, self._holds)
            beside = {"mean_snr_db": mean_snr_db, "macro_f1_simulated": simulated["macro_f1"]}
            methods.append({"name": name} | trial.summary(self._classes, self._holds) | beside)
        ceiling = {"name": IDEAL} | ideal.summary(self._classes, self._holds)
        # Joules over ideal links have another price.
        methods.append(ceiling | dict.fromkeys(("joules_per_query", "mean_snr_db", "macro_f1_simulated")))
        return {
            "mean_snr_db": MEAN_SNR_DB,
            "methods": methods,
            "sweep": {name: self._sweep(name, snr_db_NTE - MEAN_SNR_DB) for name in (AWARE, NAIVE)},
            "mesh_minus_simulation": difference,
        }

    def _sweep(self, name: str, fade_db_NTE: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Return a method's figures in one process as the mean SNR grows; the fades are the same."""
        return [
            {"mean_snr_db": mean_snr_db}
            | self._simulated(name, fade_db_NTE + mean_snr_db).summary(self._classes, self._holds)
            for mean_snr_db in SWEEP_MEAN_SNR_DB
        ]

    def _simulated(self, name: str, snr_db_NTE: NDArray[np.float64]) -> Trial:
        model, policy = self._methods[name]
        seen_db_NTE, own = snr_db_NTE.copy(), np.arange(self._clients)
        seen_db_NTE[own, :, own] = OWN_NODE_SNR_DB
        with torch_seeded(self._seed, "simulated noise"):
            return ask_simulated(
                model,
                policy,
                RadioCarrier(Analog(), radio=self._radio),
                torch.from_numpy(as_pixels(self._images)),
                self._labels,
                self._clients,
                LinkSnr(seen_db_NTE.reshape(-1, self._clients)),
            )

    def _snr_db_NTE(self) -> NDArray[np.float64]:
        """The SNR that each client has to each expert while it asks about each image."""
        return np.stack([links.snr_db(np.arange(self._clients)) for links in self._links_T], axis=1)
