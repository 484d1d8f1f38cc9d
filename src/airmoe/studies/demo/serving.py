"""Node processes serve a run while its clients ask; two of the nodes die."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airmoe.mesh.fleet import NodeFleet
from airmoe.mesh.local_identities import forget_local_identities
from airmoe.mesh.peers import HEDGE_S
from airmoe.nn import MixtureOfExperts
from airmoe.progress import Progress
from airmoe.report.measured import AnalogResults, MethodId
from airmoe.report.results import Kills, NodeProcesses, Sample
from airmoe.runfolder import client_folders
from airmoe.studies.demo.agreement import mesh_minus_simulation
from airmoe.studies.demo.analog import AnalogComparison
from airmoe.studies.demo.asking import ask_by_every_method, connected_clients
from airmoe.studies.demo.kills import kill_two
from airmoe.studies.demo.methods import Method
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.samples import ask_samples
from airmoe.studies.demo.steps import StepClock
from airmoe.studies.demo.trials import Trial


@dataclass(frozen=True, eq=False)
class Served:
    """The results of serving and asking.

    Attributes:
        trials: the answers by each method, by its id.
        difference: largest difference between the mesh and the same mixture in one process.
        analog: the comparison over analog links; None where there is none.
        kills: what happened around the kills.
        nodes: the node processes.
        samples: some images and their answers.
    """

    trials: dict[MethodId, Trial]
    difference: float
    analog: AnalogResults | None
    kills: Kills
    nodes: NodeProcesses
    samples: tuple[Sample, ...]


def serve_and_ask(
    run: Path,
    model: MixtureOfExperts,
    questions: Questions,
    methods: Sequence[Method],
    comparison: AnalogComparison | None,
    *,
    seed: int,
    clock: StepClock,
    progress: Progress,
) -> Served:
    """Serve a run from a process per node, ask by every method, and kill two nodes.

    Args:
        run: the run folder.
        model: the mixture that it holds.
        questions: the images that every client asks about.
        methods: the table.
        comparison: the comparison over analog links; None for none.
        seed: the run's seed.
        clock: times each step.
        progress: told after every query.

    Raises:
        MeshError: a node does not start, or the mesh and the same mixture in one process answer differently.
    """
    routed = next(method for method in methods if method.id == "moe-top1")
    scheduled = next(method for method in methods if method.policy.joint)
    with contextlib.ExitStack() as open_:
        open_.callback(forget_local_identities, run)  # no key is left in a folder that may be shared
        with clock.step("start the nodes"):
            fleet = open_.enter_context(NodeFleet(client_folders(run), schedule=scheduled.policy.name))
            clients = open_.enter_context(connected_clients(run, fleet.addresses, fleet.identities))
        difference = mesh_minus_simulation(clients, model, questions.images_TCHW)
        with clock.step("ask the mesh"):
            trials = ask_by_every_method(clients, questions, methods, progress)
        samples = ask_samples(clients, questions)
        nodes = NodeProcesses(memory_mb=tuple(fleet.memory_mb()), all_serving_s=max(fleet.start_s))
        if comparison is not None:
            with (
                clock.step("ask over analog links"),
                connected_clients(run, fleet.addresses, fleet.identities, "analog", seed) as noisy,
            ):
                noisy_difference = comparison.mesh_minus_simulation(noisy)
                over_analog = comparison.ask_mesh(noisy, progress)
        with (
            clock.step("kill two nodes"),
            connected_clients(run, fleet.addresses, fleet.identities, hedge_s=HEDGE_S) as hasty,
        ):
            kills = kill_two(
                hasty,
                fleet,
                trials[routed.id],
                questions,
                policy=routed.policy,
                seed=seed,
                progress=progress,
            )
    analog = None
    if comparison is not None:
        ideal = trials[routed.id].figures(questions.classes, questions.holds)
        analog = comparison.results(over_analog, noisy_difference, ideal)
    return Served(trials, difference, analog, kills, nodes, samples)
