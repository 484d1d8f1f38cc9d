"""The networked mixture beside everything that it is to be compared with, on the same data and budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from airmoe.checks import refuse_type
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, one_of
from airmoe.networked.baselines import train_best_central_moe, train_fedavg_network
from airmoe.networked.client_data import ClientData, split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.equal_budget import equal_rounds
from airmoe.networked.global_head import fit_global_head
from airmoe.networked.local_networks import local_scores
from airmoe.networked.routing import ExpertAnswers, expert_answers
from airmoe.networked.scores import Scores, scores_of
from airmoe.networked.stages import NetworkedMoe, train_stages
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.evaluation import outputs_in_batches

if TYPE_CHECKING:
    from airmoe.report.table import Table

MOST_CENTRAL_EPOCHS = 200
"""Where the training of a central mixture ends at the latest."""

SMOOTHING = 0.1
"""Label smoothing of the local network that answers more than its own classes."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One run that all methods are compared on.

    Args:
        config: the run.
        images: all of the data.
        mixture: trains the networked mixture, once, when a method first needs it.
        progress: told of every training.
        most_central_epochs: where the central mixture's training ends at the latest.
    """

    config: NetworkedConfig
    images: ImageSet
    mixture: Callable[[NetworkedConfig, ClientData], NetworkedMoe] = train_stages
    progress: Progress = silent
    most_central_epochs: int = MOST_CENTRAL_EPOCHS

    @cached_property
    def data(self) -> ClientData:
        """The images of every client."""
        return split_among_clients(self.config, self.images)

    @cached_property
    def trained(self) -> NetworkedMoe:
        """The mixture."""
        return self.mixture(self.config, self.data)

    @cached_property
    def answers(self) -> ExpertAnswers:
        """The answers of the mixture's experts."""
        return expert_answers(self.trained.model, self.data)

    def exchanged_bytes(self, rows: Sequence[MetricsRow], *but: str) -> float:
        """Return the bytes of rows per client; those of stages whose names begin so are left out."""
        counted = [row for row in rows if not str(row["stage"]).startswith(but)] if but else rows
        return sum(float(row["bytes"]) for row in counted) / self.config.data.clients


@dataclass(frozen=True)
class MethodScores:
    """A method's line of the table.

    Attributes:
        method: a name of `METHODS`.
        scores: what its answers are worth.
        training_bytes: exchanged in training, per client, both directions. Of the central mixture: the raw
            images that leave a client, a byte a value.
        notes: what else there is to say in numbers, such as rounds.
    """

    method: str
    scores: Scores
    training_bytes: float
    notes: Mapping[str, float] = field(default_factory=dict)


def measure_method(method: str, setting: Setting) -> MethodScores:
    """Return a method's scores; it trains what it needs.

    Args:
        method: a name of `METHODS`.
        setting: what is trained and measured on; methods that share a mixture share it there.

    Raises:
        InvalidInputError: an unknown method, or the images cannot be split as the configuration says.
        TrainingDivergedError: a loss is not finite.
    """
    refuse_type("setting", setting, Setting)
    if method not in METHODS:
        raise InvalidInputError("method", method, one_of(method, METHODS))
    return METHODS[method](method, setting)


def baselines_table(lines: Sequence[MethodScores]) -> Table:
    """Return the table of several methods."""
    from airmoe.report.table import Table  # it brings Matplotlib along, which training does without

    return Table(
        "baselines",
        "Methods on the same data and budget",
        [
            "method",
            "macro-F1, %",
            "of own classes, %",
            "local share of own classes, %",
            "local share, %",
            "MB exchanged per client",
        ],
        [
            [
                line.method,
                100 * line.scores.macro_f1,
                100 * line.scores.own_f1,
                100 * line.scores.own_local_share,
                100 * line.scores.local_share,
                line.training_bytes / 1e6,
            ]
            for line in lines
        ],
    )


def _mixture(method: str, setting: Setting, *, k: int) -> MethodScores:
    sent = setting.exchanged_bytes(setting.trained.rows)
    return MethodScores(method, setting.answers.by_gate(k), sent)


def _routed(method: str, setting: Setting, *, by: Callable[[ExpertAnswers, int], Scores]) -> MethodScores:
    sent = setting.exchanged_bytes(setting.trained.rows, "gate")
    return MethodScores(method, by(setting.answers, setting.config.seed), sent)


def _local(method: str, setting: Setting, *, smoothing: float) -> MethodScores:
    scores = local_scores(setting.config, setting.data, label_smoothing=smoothing, progress=setting.progress)
    return MethodScores(method, scores, 0.0)


def _fedavg(method: str, setting: Setting) -> MethodScores:
    config, data = setting.config, setting.data
    rounds = equal_rounds(config, data.test_images_TCHW.shape[1:], len(data.class_names))
    network, rows = train_fedavg_network(config, data, setting.progress, rounds=rounds)
    at_once = network.extractor.images_at_once
    logits_TC = outputs_in_batches(network, data.test_images_TCHW, at_once)
    scores = _one_model(setting, logits_TC.argmax(dim=1).numpy())
    return MethodScores(method, scores, setting.exchanged_bytes(rows), {"rounds": rounds})


def _global_head(method: str, setting: Setting) -> MethodScores:
    extractor: nn.Module = setting.trained.model.extractor
    answers_T, rows = fit_global_head(extractor, setting.data, setting.config.gate.ridge)
    sent = setting.exchanged_bytes(setting.trained.rows, "gate") + setting.exchanged_bytes(rows)
    return MethodScores(method, _one_model(setting, answers_T.numpy()), sent)


def _central(method: str, setting: Setting) -> MethodScores:
    model, rows = train_best_central_moe(
        setting.config, setting.images, setting.most_central_epochs, setting.progress
    )
    sent = setting.images.train_images.nbytes / setting.config.data.clients
    scores = expert_answers(model, setting.data).by_gate()
    return MethodScores(method, scores, sent, {"epochs": len(rows)})


def _one_model(setting: Setting, answers_T: np.ndarray) -> Scores:
    """Return the scores of one model that every client holds, so that all is local."""
    data = setting.data
    answers_NT = np.broadcast_to(answers_T, (len(data.labels_T), len(answers_T)))
    local_NT = np.ones(answers_NT.shape)
    return scores_of(answers_NT, local_NT, data.test_labels_T, data.holds, len(data.class_names))


METHODS: Mapping[str, Callable[[str, Setting], MethodScores]] = {
    "networked": partial(_mixture, k=1),
    "networked-top-2": partial(_mixture, k=2),
    "local": partial(_local, smoothing=0.0),
    "local-smoothed": partial(_local, smoothing=SMOOTHING),
    "fedavg": _fedavg,
    "central": _central,
    "global-head": _global_head,
    "random": partial(_routed, by=lambda answers, seed: answers.at_random(seed)),
    "oracle": partial(_routed, by=lambda answers, seed: answers.by_oracle()),
    "holder": partial(_routed, by=lambda answers, seed: answers.by_holders()),
}
"""The methods by name.

* networked, networked-top-2: the mixture, its gate's best expert, or its best two, mixed by their scores.
* local, local-smoothed: each client's own network on its own data, the second with label smoothing.
* fedavg: one network, averaged, with the rounds that the mixture's whole computing pays for.
* central: a mixture trained in one place until more training brings nothing.
* global-head: one linear head in closed form on the mixture's features.
* random, oracle, holder: the mixture's experts, chosen at random; with hindsight, one
  that is right if any is; or one whose client holds the true class.
"""
