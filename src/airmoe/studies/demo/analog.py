"""Channel-aware against naive routing over the same analog links, through the mesh and in one process.

Every query meets Rayleigh links of its own, the same for every method; a link fades over its whole band.

Shape suffixes: Q queries (one image each), T images, N clients, E experts, C channels or classes, H height,
W width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from airmoe.data import as_pixels
from airmoe.links import Links, LinkSnr, Ofdma, RayleighSnr, link_sequence
from airmoe.links.snapshot import OWN_NODE_SNR_DB
from airmoe.manifest import read_manifest
from airmoe.mesh import MeshClient
from airmoe.mesh.client import GateFunction
from airmoe.mesh.networks import OnnxGate
from airmoe.networked.config import NetworkedConfig
from airmoe.nn import MixtureOfExperts, RadioCarrier
from airmoe.progress import Progress
from airmoe.radio import Analog
from airmoe.randomness import stream
from airmoe.report.measured import (
    AnalogMethodId,
    AnalogMethodResult,
    AnalogResults,
    Figures,
    SnrPoint,
    SnrSweep,
)
from airmoe.runfolder import client_folders
from airmoe.scheduling import BestLink, Policy, TopK
from airmoe.seeding import torch_seeded
from airmoe.studies.demo.agreement import batches_in_turn, refused_if_large
from airmoe.studies.demo.asking import ask
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.simulated import ask_simulated
from airmoe.studies.demo.training import AWARE_GATE
from airmoe.studies.demo.trials import Trial

MEAN_SNR_DB = -5.0
"""Mean SNR of the links in the mesh. At 10 dB there is nothing to gain: noise spoils hardly an answer."""

SWEEP_MEAN_SNR_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
"""Mean SNRs of the curves."""

_NOISELESS_DB = 300.0


@dataclass(frozen=True)
class AnalogMethod:
    """A method over analog links.

    Attributes:
        id: its name in code.
        label: its name on the screen.
        model: the mixture in one process.
        policy: decides.
        gate: the model's, in the mesh; None for the one that every client has.
        links: "analog"; "ideal" for the ceiling, which is asked beforehand.
    """

    id: AnalogMethodId
    label: str
    model: MixtureOfExperts
    policy: Policy
    gate: GateFunction | None = None
    links: Literal["analog", "ideal"] = "analog"

    def result(
        self, figures: Figures, mean_snr_db: float | None = None, macro_f1_simulated: float | None = None
    ) -> AnalogMethodResult:
        """Return its entry in the report."""
        return AnalogMethodResult(
            id=self.id,
            label=self.label,
            links=self.links,
            figures=figures,
            mean_snr_db=mean_snr_db,
            macro_f1_simulated=macro_f1_simulated,
        )


class AnalogComparison:
    """Methods side by side: every image comes with links of its own, and every client asks about every image.

    Args:
        config: settings of the run; its radio prices the airtime.
        naive: the trained mixture.
        aware: the same mixture under a channel-aware gate.
        run: the run folder, with both gates.
        questions: what is asked.
    """

    def __init__(
        self,
        config: NetworkedConfig,
        naive: MixtureOfExperts,
        aware: MixtureOfExperts,
        run: Path,
        questions: Questions,
    ) -> None:
        self._seed, self._questions, self._clients = config.seed, questions, questions.clients
        power_w, subcarrier_hz = config.links.power_w, config.links.subcarrier_hz
        self._radio = Ofdma(subcarriers=1, subcarrier_hz=subcarrier_hz, power_w=power_w)
        process, random = RayleighSnr(MEAN_SNR_DB), stream(config.seed, "analog links")
        images = len(questions.labels_T)
        self._links_T = link_sequence(process, self._clients, self._radio, images, random)
        (layer,) = read_manifest(client_folders(run)[0]).layers
        aware_gate = OnnxGate(run / "shared" / f"{AWARE_GATE}.onnx", layer, sees_snr=True)
        self._naive = AnalogMethod("naive-top1", "naive, top-1", naive, TopK(1))
        self._aware = AnalogMethod("aware-top1", "channel-aware, top-1", aware, TopK(1), aware_gate)
        self._methods = (
            self._naive,
            self._aware,
            AnalogMethod("best-link", "best link", naive, BestLink(1)),
            AnalogMethod("ideal-top1", "ideal links, top-1", naive, TopK(1), links="ideal"),
        )

    def mesh_minus_simulation(self, clients: Sequence[MeshClient]) -> float:
        """Return the largest difference between class probabilities from the mesh and from one process.

        Noise differs between receivers, so features arrive here without any. The gate still sees the links of
        an image.

        Args:
            clients: clients over analog links; they ask in turn.

        Raises:
            MeshError: the difference is too large.
        """
        method, worst = self._aware, 0.0
        model, policy = method.model, method.policy
        noiseless = Links.from_snr(_NOISELESS_DB, self._radio, self._clients)
        for client, first, part_TCHW in batches_in_turn(clients, self._questions.images_TCHW):
            seen, source_T = self._links_T[first], np.full(len(part_TCHW), client.manifest.node)
            snr = LinkSnr(seen.snr_db(source_T))
            with torch.no_grad():
                expected = model(torch.from_numpy(as_pixels(part_TCHW)), source_T, snr=snr, policy=policy)
            links = noiseless.with_observed(seen)
            answered = client.predict(part_TCHW, policy=policy, gate=method.gate, links=links)
            worst = max(worst, float(np.abs(answered.probability_TC - expected.y_TC.numpy()).max()))
        return refused_if_large(worst)

    def ask_mesh(self, clients: Sequence[MeshClient], progress: Progress) -> dict[AnalogMethodId, Trial]:
        """Return what the mesh answers over analog links, by the id of the method.

        Args:
            clients: clients over analog links.
            progress: told after every query.
        """
        return {
            method.id: ask(
                clients,
                self._questions,
                policy=method.policy,
                gate=method.gate,
                links_T=self._links_T,
                activity=f"ask: {method.label}",
                progress=progress,
            )
            for method in self._methods
            if method.links == "analog"
        }

    def results(
        self, trials: Mapping[AnalogMethodId, Trial], difference: float, ideal: Figures
    ) -> AnalogResults:
        """Return the results for the report; this also simulates the methods in one process.

        Args:
            trials: what `ask_mesh` returned.
            difference: what `mesh_minus_simulation` returned.
            ideal: the figures of the usual gate over ideal links, the ceiling.
        """
        snr_db_NTE = self._snr_db_NTE()
        return AnalogResults(
            mean_snr_db=MEAN_SNR_DB,
            methods=tuple(
                method.result(ideal)
                if method.links == "ideal"
                else self._result(method, trials[method.id], snr_db_NTE)
                for method in self._methods
            ),
            sweeps=tuple(
                self._sweep(method, snr_db_NTE - MEAN_SNR_DB) for method in (self._aware, self._naive)
            ),
            mesh_minus_simulation=difference,
        )

    def _result(
        self, method: AnalogMethod, trial: Trial, snr_db_NTE: NDArray[np.float64]
    ) -> AnalogMethodResult:
        own_QE = trial.client_Q[:, np.newaxis] == np.arange(self._clients)
        used_db = snr_db_NTE[trial.client_Q, trial.image_Q][trial.requested_QE & ~own_QE]
        return method.result(
            trial.figures(self._questions.classes, self._questions.holds),
            mean_snr_db=float(used_db.mean()) if used_db.size else None,
            macro_f1_simulated=self._simulated(method, snr_db_NTE).macro_f1,
        )

    def _sweep(self, method: AnalogMethod, fade_db_NTE: NDArray[np.float64]) -> SnrSweep:
        """Return a method's figures in one process as the mean SNR grows; the fades are the same."""
        return SnrSweep(
            method=method.id,
            points=tuple(
                SnrPoint(mean_snr_db=mean_snr_db, figures=self._simulated(method, fade_db_NTE + mean_snr_db))
                for mean_snr_db in SWEEP_MEAN_SNR_DB
            ),
        )

    def _simulated(self, method: AnalogMethod, snr_db_NTE: NDArray[np.float64]) -> Figures:
        seen_db_NTE, own = snr_db_NTE.copy(), np.arange(self._clients)
        seen_db_NTE[own, :, own] = OWN_NODE_SNR_DB
        with torch_seeded(self._seed, "simulated noise"):
            trial = ask_simulated(
                method.model,
                method.policy,
                RadioCarrier(Analog(), radio=self._radio),
                self._questions,
                LinkSnr(seen_db_NTE.reshape(-1, self._clients)),
            )
        return trial.figures(self._questions.classes, self._questions.holds)

    def _snr_db_NTE(self) -> NDArray[np.float64]:
        """The SNR that each client has to each expert while it asks about each image."""
        return np.stack([links.snr_db(np.arange(self._clients)) for links in self._links_T], axis=1)
