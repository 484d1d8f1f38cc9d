"""All results of a demonstration: what the mesh answered, and further methods in one process."""

import re
import resource
from collections.abc import Sequence
from typing import Any

import numpy as np

from airmoe.data import ImageSet
from airmoe.mesh import simulated_links
from airmoe.networked import ClientData, radio_of
from airmoe.networked.config import NetworkedConfig
from airmoe.nn import IdealRadioCarrier, MixtureOfExperts
from airmoe.report import DemoResults
from airmoe.report.measured import Asked, Figures, MethodId
from airmoe.report.results import DataSplit, Training
from airmoe.scheduling import Policy, TopK
from airmoe.studies.demo.methods import Method
from airmoe.studies.demo.questions import Questions
from airmoe.studies.demo.serving import Served
from airmoe.studies.demo.simulated import ask_one_network, ask_simulated
from airmoe.studies.demo.steps import StepClock
from airmoe.studies.demo.sweeps import equal_f1, sweep_importance
from airmoe.studies.demo.training import Trained, stages_of
from airmoe.studies.demo.trials import Trial

WHO_ASKS_WHOM: tuple[MethodId, ...] = ("moe-top1", "moe-jesa")
"""The methods shown client by client and expert by expert."""


def demo_results(
    config: NetworkedConfig,
    central_epochs: int,
    images: ImageSet,
    data: ClientData,
    questions: Questions,
    methods: Sequence[Method],
    trained: Trained,
    served: Served,
    clock: StepClock,
) -> DemoResults:
    """Return the results; this sweeps importance factors and asks two baselines, in one process.

    Args:
        config: settings of the run.
        central_epochs: passes of the central mixture over the data.
        images: all of the data.
        data: the same data, divided among the clients.
        questions: what was asked.
        methods: the table.
        trained: what was trained.
        served: what came of asking the mesh.
        clock: timed each step.
    """
    links = simulated_links(radio_of(config), config.data.clients)
    carrier = IdealRadioCarrier(links)

    def simulated(model: MixtureOfExperts, policy: Policy) -> Trial:
        return ask_simulated(model, policy, carrier, questions)

    def figures_of(policy: Policy) -> Figures:
        return simulated(trained.networked, policy).figures(questions.classes, questions.holds)

    by_id = {method.id: method for method in methods}
    trials = {
        **served.trials,
        "fedavg-network": ask_one_network(trained.fedavg, questions),
        "central-moe": simulated(trained.central, by_id["central-moe"].policy),
    }
    sweeps = sweep_importance(methods, figures_of)
    (jesa,) = (sweep for sweep in sweeps if sweep.method == "moe-jesa")
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return DemoResults(
        seed=config.seed,
        config={name: without_folders(value) for name, value in config.model_dump(exclude_none=True).items()},
        data=DataSplit(
            name=without_folders(images.name),
            partition=config.data.partition,
            train_images=len(images.train_labels),
            held_out_images=len(images.test_labels),
            asked_images=len(questions.labels_T),
            classes=questions.class_names,
            holds=tuple(tuple(held) for held in questions.holds),
            images_NC=tuple(
                tuple(np.bincount(labels.numpy(), minlength=questions.classes).tolist())
                for labels in data.labels_T
            ),
        ),
        training=Training(
            feature_rounds=config.features.rounds,
            central_epochs=central_epochs,
            stages=stages_of(trained.rows, config.data.clients),
        ),
        methods=tuple(
            method.result(trials[method.id].figures(questions.classes, questions.holds)) for method in methods
        ),
        asked=tuple(
            Asked(method=shown, pairs_NE=tuple(map(tuple, trials[shown].asked_NE().tolist())))
            for shown in WHO_ASKS_WHOM
        ),
        sweeps=sweeps,
        equal_f1=tuple(equal_f1(k, figures_of(TopK(k)), jesa) for k in (1, 2)),
        mesh_minus_simulation=served.difference,
        kills=served.kills,
        nodes=served.nodes,
        links_db_NN=tuple(
            tuple(None if node == other else round(snr_db, 2) for other, snr_db in enumerate(of_node))
            for node, of_node in enumerate(links.snr_db(np.arange(links.nodes)).tolist())
        ),
        confusion_CC=tuple(map(tuple, trials["moe-top1"].confusion_CC(questions.classes).tolist())),
        samples=served.samples,
        memory_mb=own_mb + sum(served.nodes.memory_mb),
        steps=tuple(clock.times),
        analog=served.analog,
    )


def without_folders(setting: Any) -> Any:
    """Return a setting in which a path is its last part alone: a report is shown to others.

    Examples:
        >>> from airmoe.studies.demo.results import without_folders
        >>> without_folders({"name": "folder:/home/ada/photos", "clients": 10})
        {'name': 'folder:photos', 'clients': 10}
    """
    if isinstance(setting, dict):
        return {name: without_folders(value) for name, value in setting.items()}
    if isinstance(setting, str):  # a path is all of the text, or what follows the first colon
        return re.sub(r"(^|:)[/~.].*/(?=[^/])", r"\1", setting, count=1)
    return setting
