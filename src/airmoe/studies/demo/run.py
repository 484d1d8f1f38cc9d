"""The whole path once: federated training, serving from separate processes, asking, two kills, a report."""

from collections.abc import Callable

from airmoe.checks import refuse_type
from airmoe.data import ImageSet
from airmoe.dispatch.reach import warn_of_reach
from airmoe.errors import InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.monitor import EVENTS, write_events
from airmoe.networked import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.newfolder import refuse_taken
from airmoe.nn.threads import one_thread
from airmoe.progress import Progress, silent
from airmoe.report import DemoResults, write_report, write_results
from airmoe.report.measured import Figures
from airmoe.studies.demo.analog import AnalogComparison
from airmoe.studies.demo.folder import new_run_folder
from airmoe.studies.demo.methods import demo_methods
from airmoe.studies.demo.questions import draw_questions, save_samples
from airmoe.studies.demo.results import demo_results
from airmoe.studies.demo.serving import serve_and_ask
from airmoe.studies.demo.steps import StepClock
from airmoe.studies.demo.training import train_all

FEWEST_QUERIES = 100
"""With fewer queries while two nodes die, none would be left to judge the time after."""


def run_demo(
    config: NetworkedConfig,
    load: Callable[[], ImageSet],
    out: AnyPath,
    *,
    central_epochs: int,
    ask_images: int,
    analog: bool = False,
    progress: Progress = silent,
) -> DemoResults:
    """Run the demonstration and write its run folder; return what ``results.json`` holds.

    Args:
        config: settings of the federated run.
        load: returns the data; called once the other arguments have been checked.
        out: run folder to make; nothing is left of it if the demonstration fails.
        central_epochs: passes over the data for the centrally trained baseline.
        ask_images: how many held-out images every client asks about; a seeded draw if there are more.
        analog: also compare a channel-aware gate with the usual one over analog links.
        progress: told about every round and query, from any thread.

    Raises:
        InvalidInputError: ``out`` exists, or the settings do not fit the data.
        MeshError: a node does not start, or the mesh and the same mixture in one process answer differently.
    """
    refuse_type("config", config, NetworkedConfig)
    out = as_path(out)
    refuse_taken(out)
    _check_settings(config, central_epochs)
    warn_of_reach(config.data.clients, config.links.subcarriers, config.links.transmission)
    images = load()
    refuse_type("images", images, ImageSet)
    _check_questions(ask_images, len(images.test_labels), config.data.clients)
    data = split_among_clients(config, images)
    methods, clock = demo_methods(config.data.clients, config.seed), StepClock()
    with new_run_folder(out) as run, one_thread():
        trained = train_all(
            config,
            images,
            data,
            run,
            central_epochs=central_epochs,
            analog=analog,
            clock=clock,
            progress=progress,
        )
        questions = draw_questions(images, data.holds, ask_images, config.seed)
        save_samples(questions, run / "samples")
        comparison = None
        if trained.aware is not None:
            comparison = AnalogComparison(config, trained.networked, trained.aware, run, questions)
        served = serve_and_ask(
            run,
            trained.networked,
            questions,
            methods,
            comparison,
            seed=config.seed,
            clock=clock,
            progress=progress,
        )
        results = demo_results(
            config, central_epochs, images, data, questions, methods, trained, served, clock
        )
        write_results(results, run)
        for method in results.methods:
            write_events(run / EVENTS / method.id, [_scalars(method.figures)])
        write_report(results, run)
    return results


def _scalars(figures: Figures) -> dict[str, str | int | float]:
    """Return the main figures of a method as a metrics row."""
    return {
        "stage": "asked",
        "round": 1,
        "macro_f1": figures.macro_f1,
        "bytes": figures.bytes_per_query,
        "energy_j": figures.joules_per_query,
    }


def _check_settings(config: NetworkedConfig, central_epochs: int) -> None:
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


def _check_questions(ask_images: int, held_out_images: int, clients: int) -> None:
    survivors, asked = clients - 2, min(ask_images, held_out_images)
    if asked * survivors < FEWEST_QUERIES:
        needed, why = -(-FEWEST_QUERIES // survivors), f"{FEWEST_QUERIES} queries while nodes die"
        if held_out_images < needed:
            enough = f", or {2 + -(-FEWEST_QUERIES // asked)} clients or more" if asked > 0 else ""
            more = f"at least {needed} of them{enough}: {why}"
            raise InvalidInputError("number of held-out images", held_out_images, more)
        raise InvalidInputError("ask", ask_images, f"at least {needed} of {held_out_images} images: {why}")
