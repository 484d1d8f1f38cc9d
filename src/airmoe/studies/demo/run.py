"""The whole path once: train federally, export, serve from separate processes, ask, kill two nodes, report.

Shape suffixes: T items, F features, E experts, C channels, H height, W width.
"""

import contextlib
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from airmoe.data import ImageSet, as_pixels
from airmoe.errors import InvalidInputError, MeshError
from airmoe.files import replaced_file
from airmoe.manifest import MeshTransmission
from airmoe.mesh import MeshClient, open_session, simulated_links
from airmoe.mesh.client import GateFunction
from airmoe.networked import (
    ClientData,
    radio_of,
    split_among_clients,
    train_central_moe,
    train_fedavg_network,
    train_run,
)
from airmoe.networked.config import NetworkedConfig
from airmoe.nn import IdealRadioCarrier, MixtureOfExperts
from airmoe.progress import Progress
from airmoe.randomness import stream
from airmoe.report import write_report
from airmoe.runfolder import client_folders
from airmoe.runs.checkpoint import MetricsRow
from airmoe.scheduling import All, Des, Jesa, Local, Policy, RandomK, TopK
from airmoe.studies.demo.analog import AnalogComparison, train_aware_mixture
from airmoe.studies.demo.fleet import NodeFleet
from airmoe.studies.demo.kills import kill_two
from airmoe.studies.demo.simulated import ask_one_network, ask_simulated
from airmoe.studies.demo.sweeps import equal_f1, sweep_importance
from airmoe.studies.demo.trials import Trial, ask

SAME_ANSWERS = 1e-5
"""Largest difference allowed between the mesh and the same mixture in one process."""

FEWEST_QUERIES = 100
"""With fewer queries while two nodes die, none would be left to judge the time after."""

ROUTED = "networked MoE, top-1"
SELECTED = "networked MoE, DES"
SCHEDULED = "networked MoE, JESA"
AVERAGED = "all experts averaged"

Say = Callable[[str, int, int], None]
"""(what is being done, steps done, steps in all)."""


def mesh_methods(seed: int) -> dict[str, Policy]:
    """Return the methods that the mesh compares, by name."""
    return {
        ROUTED: TopK(1),
        "networked MoE, top-2": TopK(2),
        SELECTED: Des(0.3, 2),
        SCHEDULED: Jesa(0.3, 2),
        AVERAGED: All(),
        "random routing": RandomK(1, seed),
        "local expert only": Local(),
    }


def run_demo(
    config: NetworkedConfig,
    load: Callable[[], ImageSet],
    out: Path,
    *,
    central_epochs: int,
    ask_images: int,
    analog: bool = False,
    say: Say,
) -> dict[str, Any]:
    """Run the demonstration and write its run folder; return what ``results.json`` holds.

    Args:
        config: the federated run.
        load: returns the data; called once the other arguments have been checked.
        out: run folder to make; nothing is left of it if the demonstration fails.
        central_epochs: passes over the data for the centrally trained baseline.
        ask_images: held-out images that every client asks; a seeded draw if there are more.
        analog: also compare a channel-aware gate with the usual one over analog links.
        say: told about progress.

    Raises:
        InvalidInputError: ``out`` exists, or the settings do not fit the data.
        MeshError: a node does not start, or the mesh answers other than the same mixture in one process.
    """
    if config.data.clients < 3:
        raise InvalidInputError("clients", config.data.clients, "at least 3: two nodes are killed")
    for name, value, usual in (
        ("gate.channel_aware", config.gate.channel_aware, False),
        ("links.transmission", config.links.transmission, "ideal"),
    ):
        if value != usual:
            expected = f"{usual!r}: the demonstration compares both where it is told --analog"
            raise InvalidInputError(name, value, expected)
    if central_epochs < 1:
        raise InvalidInputError("central_epochs", central_epochs, "at least 1")
    if out.exists():
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    images = load()
    survivors = config.data.clients - 2
    if min(ask_images, len(images.test_labels)) * survivors < FEWEST_QUERIES:
        expected = f"at least {-(-FEWEST_QUERIES // survivors)} of {len(images.test_labels)} held-out images"
        raise InvalidInputError("ask", ask_images, f"{expected}: {FEWEST_QUERIES} queries while nodes die")
    data = split_among_clients(config, images)
    with (
        _parent_of(out) as parent,
        tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.") as scratch,
    ):
        run = Path(scratch) / "run"
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # small networks: more threads cost more than they bring
        try:
            results = _demonstrate(config, images, data, run, central_epochs, ask_images, analog, say)
        finally:
            torch.set_num_threads(threads)
        with replaced_file(run / "results.json") as temporary:
            temporary.write_text(json.dumps(results) + "\n", encoding="utf-8")
        write_report(results, run)
        run.rename(out)
    return results


@contextlib.contextmanager
def _parent_of(out: Path) -> Iterator[Path]:
    """Make the folders above ``out``; those that are still empty at the end are removed again."""
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield out.parent
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _demonstrate(
    config: NetworkedConfig,
    images: ImageSet,
    data: ClientData,
    run: Path,
    central_epochs: int,
    ask_images: int,
    analog: bool,
    say: Say,
) -> dict[str, Any]:
    clock = _Clock()
    steps = config.features.rounds + config.data.clients + config.gate.rounds
    with clock.step("train the networked MoE"):
        trained = train_run(config, images, run, progress=_counted(say, "train the networked MoE", steps))
    with clock.step("train one FedAvg network"):
        fedavg, fedavg_rows = train_fedavg_network(
            config, data, _counted(say, "train one FedAvg network", config.features.rounds)
        )
    with clock.step("train a central MoE"):
        central, _ = train_central_moe(
            config, images, central_epochs, _counted(say, "train a central MoE", central_epochs)
        )

    asked = stream(config.seed, "asked images").permutation(len(images.test_labels))[:ask_images]
    images_TCHW, labels_T = images.test_images[asked], images.test_labels[asked]
    _save_samples(images_TCHW, labels_T, images.class_names, run / "samples")

    rows, classes = [*trained.rows, *fedavg_rows], len(images.class_names)
    comparison: AnalogComparison | None = None
    if analog:
        what = "train a channel-aware gate"
        with clock.step(what):
            counted = _counted(say, what, config.gate.rounds)
            aware, aware_rows = train_aware_mixture(config, trained.model, data, run, counted)
        rows += aware_rows
        comparison = AnalogComparison(config, trained.model, aware, run, images_TCHW, labels_T, data.holds)

    with contextlib.ExitStack() as open_:
        with clock.step("start the nodes"):
            scheduler = mesh_methods(config.seed)[SCHEDULED].name
            fleet = open_.enter_context(NodeFleet(client_folders(run), schedule=scheduler))
            clients = _connect(run, fleet, open_)
        difference = _checked(largest_difference(clients, trained.model, images_TCHW))
        with clock.step("ask the mesh"):
            trials = _ask_by_every_method(clients, images_TCHW, labels_T, config.seed, say)
        memory_mb = fleet.memory_mb()
        if comparison is not None:
            with clock.step("ask over analog links"), contextlib.ExitStack() as open_noisy:
                noisy = _connect(run, fleet, open_noisy, "analog", config.seed)
                noisy_difference = _checked(comparison.largest_difference(noisy))
                over_analog = comparison.ask_mesh(
                    noisy, lambda name: _each_query(say, f"ask: {name}", len(labels_T) * len(clients))
                )
        with clock.step("kill two nodes"):
            for client in clients:
                client.policy = TopK(1)
            progress = _each_query(
                say, "ask while two nodes die, and after", 2 * len(labels_T) * (len(clients) - 2)
            )
            kills = kill_two(
                clients, fleet, trials[ROUTED], images_TCHW, labels_T, data.holds, config.seed, progress
            )

    pixels_TCHW = torch.from_numpy(as_pixels(images_TCHW))
    radio = IdealRadioCarrier(simulated_links(radio_of(config), config.data.clients))

    def simulated(model: MixtureOfExperts, policy: Policy) -> Trial:
        return ask_simulated(model, policy, radio, pixels_TCHW, labels_T, config.data.clients)

    def summary_of(policy: Policy) -> dict[str, Any]:
        return simulated(trained.model, policy).summary(classes, data.holds)

    sweeps = sweep_importance(summary_of)
    through = dict.fromkeys(trials, "mesh")
    trials["one FedAvg network"] = ask_one_network(fedavg, pixels_TCHW, labels_T, config.data.clients)
    trials["centrally trained MoE"] = simulated(central, TopK(1))
    results = {
        "format": "airmoe demo 1",
        "data": {
            "name": images.name,
            "train_images": len(images.train_labels),
            "held_out_images": len(images.test_labels),
            "asked_images": len(labels_T),
            "classes": list(images.class_names),
            "holds": data.holds,
        },
        "config": config.model_dump(),
        "central_epochs": central_epochs,
        "methods": [
            {"name": name, "through": through.get(name, "simulation")} | trial.summary(classes, data.holds)
            for name, trial in trials.items()
        ],
        "asked_by_client": {name: trials[name].asked_NE().tolist() for name in (ROUTED, SCHEDULED)},
        "sweeps": sweeps,
        "equal_f1": [equal_f1(k, summary_of(TopK(k)), sweeps["JESA"]) for k in (1, 2)],
        "curves": _curves(rows),
        "training_bytes_per_client": _bytes_per_client(rows, config.data.clients),
        "mesh_minus_simulation": difference,
        "kills": kills,
        "nodes": {"memory_mb": memory_mb, "all_serving_s": max(fleet.start_s)},
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6 + sum(memory_mb),
        "seconds": clock.seconds,
    }
    if comparison is not None:
        results["analog"] = comparison.results(over_analog, noisy_difference, trials[ROUTED])
    return results


def _ask_by_every_method(
    clients: Sequence[MeshClient],
    images_TCHW: NDArray[np.uint8],
    labels_T: NDArray[np.int64],
    seed: int,
    say: Say,
) -> dict[str, Trial]:
    usual, trials = [client.gate for client in clients], {}
    for name, policy in mesh_methods(seed).items():
        for client, gate in zip(clients, usual, strict=True):
            client.policy = policy
            client.prepare(policy)
            client.gate = _equal_scores(len(clients)) if name == AVERAGED else gate
        progress = _each_query(say, f"ask: {name}", len(labels_T) * len(clients))
        trials[name] = ask(clients, images_TCHW, labels_T, together=policy.joint, after_query=progress)
    for client, gate in zip(clients, usual, strict=True):
        client.gate = gate
    return trials


def _connect(
    run: Path,
    fleet: NodeFleet,
    open_: contextlib.ExitStack,
    transmission: MeshTransmission = "ideal",
    seed: int = 0,
) -> list[MeshClient]:
    session = open_session(connect=fleet.addresses)
    open_.callback(session.close)
    clients = [
        open_.enter_context(
            MeshClient(folder, fleet.addresses, session=session, transmission=transmission, seed=seed)
        )
        for folder in client_folders(run)
    ]
    for client in clients:
        client.wait_for_nodes(len(clients), timeout_s=20.0)
    return clients


def largest_difference(
    clients: Sequence[MeshClient], model: MixtureOfExperts, images_TCHW: NDArray[np.uint8], batch: int = 45
) -> float:
    """Return the largest difference between class probabilities from the mesh and from one process.

    Each client asks batches of the images in turn, top-1 and top-2; the same mixture answers them with the
    local carrier.
    """
    worst = 0.0
    for index, start in enumerate(range(0, len(images_TCHW), batch)):
        client = clients[index % len(clients)]
        part = images_TCHW[start : start + batch]
        for policy in (TopK(1), TopK(2)):
            client.policy = policy
            with torch.no_grad():
                expected = model(torch.from_numpy(as_pixels(part)), policy=policy).y_TC.numpy()
            worst = max(worst, float(np.abs(client.predict(part).probability_TC - expected).max()))
    return worst


def _checked(difference: float) -> float:
    """Return the largest difference between mesh and simulation, unless it is too large."""
    if not difference <= SAME_ANSWERS:
        raise MeshError(
            f"the mesh and the same mixture in one process differ by {difference}; "
            f"expected at most {SAME_ANSWERS}"
        )
    return difference


def _equal_scores(experts: int) -> GateFunction:
    return lambda features_TF, snr_db_TE: np.full((len(features_TF), experts), 1 / experts, np.float32)


def _save_samples(
    images_TCHW: NDArray[np.uint8], labels_T: NDArray[np.int64], class_names: Sequence[str], folder: Path
) -> None:
    """Save one held-out image of each class, to try ``airmoe predict`` on."""
    folder.mkdir()
    for label in np.unique(labels_T):
        image_CHW = images_TCHW[np.flatnonzero(labels_T == label)[0]]
        pixels = image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0)
        name = "".join(letter if letter.isalnum() else "-" for letter in class_names[label])
        Image.fromarray(pixels).save(folder / f"{name}.png")


def _curves(rows: Sequence[MetricsRow]) -> dict[str, list[list[float]]]:
    """Return for each stage the (round, macro-F1) points that were measured."""
    curves: dict[str, list[list[float]]] = {}
    for row in rows:
        if "macro_f1" in row:
            curves.setdefault(str(row["stage"]), []).append([float(row["round"]), float(row["macro_f1"])])
    return curves


def _bytes_per_client(rows: Sequence[MetricsRow], clients: int) -> dict[str, float]:
    """Return for each stage the bytes that one client sent and received over all rounds, on average."""
    total: dict[str, float] = {}
    for row in rows:
        total[str(row["stage"])] = total.get(str(row["stage"]), 0.0) + float(row["bytes"]) / clients
    return total


class _Clock:
    """Seconds of each step, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Any:
        begin = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begin


def _counted(say: Say, what: str, steps: int) -> Progress:
    """Return a progress that shows the steps of several activities as those of one."""
    done = 0

    def progress(activity: str, of_activity: int, total: int, note: str = "") -> None:
        nonlocal done
        done += 1
        say(what, done, steps)

    return progress


def _each_query(say: Say, what: str, queries: int) -> Callable[[int], None]:
    return lambda done: say(what, done, queries)
