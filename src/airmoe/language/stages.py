"""Branch, train, mix: a dense seed, an expert of each owner, and routers that tell the experts apart.

After Branch-Train-MiX (arXiv 2403.07816), with one difference: attention, embeddings and norms stay the
seed's, so experts that were trained apart, by owners who share no text, fit into one model as they are.

Stages, each with its checkpoint: ``dense``, on texts of all domains; ``expert 0``, ``expert 1``, ... , whose
feed-forward parts alone are trained, on documents that no other owner has; ``mix``, the routers alone, which
begin as `airmoe.language.routers` fits them.

Shape suffixes: B sequences, S positions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.language.config import DmoeConfig, StepSettings
from airmoe.language.routers import fit_routers
from airmoe.language.texts import Texts, drawn_windows, joined
from airmoe.language.transformer import EXPERT, ROUTER, MoeTransformer
from airmoe.progress import Progress, silent
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.optimiser_state import flattened, restored
from airmoe.runs.weights import load_weights, not_finite
from airmoe.seeding import torch_seeded

SAVED_EVERY = 25
"""Steps of a metrics row and of a checkpoint."""

WARM_UP = 20
"""Steps in which the learning rate rises."""

LEAST_RATE = 0.1
"""Share of the learning rate that is left in the end."""

LARGEST_STEP = 1.0
"""Gradients of a larger norm are scaled down to it."""

_MODEL, _OPTIMISER = "model", "optimiser"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class DmoeModel:
    """What the stages made.

    Attributes:
        model: the mixture.
        seed: the dense model that experts branched off.
        domain_E: the domain of each expert's texts.
        rows: a metrics row for every `SAVED_EVERY` steps.
    """

    model: MoeTransformer
    seed: MoeTransformer
    domain_E: tuple[str, ...]
    rows: list[MetricsRow]


def train_dmoe(
    config: DmoeConfig,
    texts: Texts,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> DmoeModel:
    """Train a mixture by branch, train, mix.

    Args:
        config: the run.
        texts: what is learnt; experts are dealt to its domains evenly.
        checkpoint: saved every `SAVED_EVERY` steps. Training goes on where it stands, with the same result.
        progress: told the stages and their steps.

    Raises:
        InvalidInputError: the number of experts is no multiple of the number of domains, a domain has fewer
            documents than experts, or a step fewer windows than there are domains.
        TrainingDivergedError: a loss or a weight is not finite; the last checkpoint is the last good one.
    """
    owned_E = texts_of_experts(config, texts)
    with torch_seeded(config.seed, "language model weights"):
        seed, model = MoeTransformer(config.model.dense), MoeTransformer(config.model)
    rows = list[MetricsRow]()

    def train(
        stage: str, trained: MoeTransformer, part: str, parts: Sequence[Bytes], of: StepSettings
    ) -> None:
        steps = _Steps(stage, config, trained, part, parts, of)
        rows.extend(steps.run(checkpoint, progress))

    train("dense", seed, "", [joined(domain.train) for domain in texts.domains], config.dense)
    branches = list[MoeTransformer]()
    for expert, (_, text) in enumerate(owned_E):
        branches.append(copy.deepcopy(seed))
        train(f"expert {expert}", branches[-1], EXPERT, [text], config.branch)
    model.load_state_dict(
        mixed(model.state_dict(), seed.state_dict(), [each.state_dict() for each in branches])
    )
    fit_routers(model, seed.eval(), [text for _, text in owned_E], config.mix.windows, config.seed)
    train("mix", model, ROUTER, [joined(domain.train) for domain in texts.domains], config.mix)
    return DmoeModel(model.eval(), seed.eval(), tuple(domain for domain, _ in owned_E), rows)


def trained_on(
    config: DmoeConfig,
    texts: Texts,
    dense: MoeTransformer,
    steps: int,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Progress = silent,
) -> MoeTransformer:
    """Return a dense model trained on for so many steps, on texts of all domains, at the rate of branches.

    It is what a mixture has to be measured against: the same texts and steps in one place.

    Args:
        config: the run.
        texts: what is learnt.
        dense: the model to begin with; it stays as it is.
        steps: how many.
        checkpoint: as in `train_dmoe`.
        progress: as in `train_dmoe`.

    Raises:
        TrainingDivergedError: a loss or a weight is not finite.
    """
    model, of = copy.deepcopy(dense), config.branch.model_copy(update={"steps": steps})
    parts = [joined(domain.train) for domain in texts.domains]
    _Steps(f"dense {steps} steps more", config, model, "", parts, of).run(checkpoint, progress)
    return model.eval()


def texts_of_experts(config: DmoeConfig, texts: Texts) -> list[tuple[str, Bytes]]:
    """Return the domain and the text of each expert: its domain's documents are dealt out in turn."""
    experts, domains = config.model.experts, len(texts.domains)
    if experts % domains:
        told = f"a multiple of {domains}, the number of domains"
        raise InvalidInputError("model.experts", experts, told)
    owners = experts // domains
    found = list[tuple[str, Bytes]]()
    for domain in texts.domains:
        if len(domain.train) < owners:
            told = f"at least {owners}, one for each of its experts"
            raise InvalidInputError(f"training documents of {domain.name}", len(domain.train), told)
        found += [(domain.name, joined(domain.train[owner::owners])) for owner in range(owners)]
    return found


def mixed(
    fresh: Mapping[str, Tensor], seed: Mapping[str, Tensor], branches: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return a mixture's weights: routers as they are, expert e of branch e, all else of the seed."""
    weights = dict[str, Tensor]()
    for name, tensor in fresh.items():
        if ROUTER in name:
            weights[name] = tensor
        elif EXPERT in name:
            block, _, rest = name.partition(EXPERT)
            expert, _, weight = rest.partition(".")
            weights[name] = branches[int(expert)][f"{block}{EXPERT}0.{weight}"]
        else:
            weights[name] = seed[name]
    return weights


class _Steps:
    """The steps of one stage, which trains the weights with ``part`` in their name."""

    def __init__(
        self,
        name: str,
        config: DmoeConfig,
        model: MoeTransformer,
        part: str,
        texts: Sequence[Bytes],
        settings: StepSettings,
    ) -> None:
        self._name, self._config, self._model, self._texts = name, config, model, texts
        self._settings = settings
        if settings.batch_size < len(texts):
            told = f"at least {len(texts)}, a window of each domain"
            raise InvalidInputError(f"batch_size of stage {name}", settings.batch_size, told)
        for weight_name, weight in model.named_parameters():
            weight.requires_grad_(part in weight_name)
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._trained, betas=(0.9, 0.95), weight_decay=settings.weight_decay, foreach=True
        )

    def run(self, checkpoint: Checkpoint | None, progress: Progress) -> list[MetricsRow]:
        """Take all steps, or those that a checkpoint lacks; return a row for every `SAVED_EVERY` of them."""
        rows, done = list[MetricsRow](), 0
        if checkpoint is not None and (saved := checkpoint.load(self._name)) is not None:
            rows, done = saved.rows, int(saved.rows[-1]["round"])
            load_weights(self._model, saved.groups[_MODEL], f"checkpoint of stage {self._name}")
            restored(self._optimiser, saved.groups.get(_OPTIMISER, {}))
        total = self._settings.steps
        self._model.train()
        losses = list[float]()
        for step in range(done, total):
            losses.append(self._step(step))
            if not math.isfinite(losses[-1]):
                told = f"{self._name}: the loss is {losses[-1]} at step {step + 1} of {total}"
                raise TrainingDivergedError(told)
            if (step + 1) % SAVED_EVERY and step + 1 < total:
                continue
            if name := not_finite(self._model.state_dict()):
                raise TrainingDivergedError(
                    f"{self._name}: {name} is not finite after step {step + 1} of {total}"
                )
            bits = float(np.mean(losses)) / math.log(2)
            losses.clear()
            rows.append({"stage": self._name, "round": step + 1, "bits_per_byte": bits})
            if checkpoint is not None:
                groups = {_MODEL: self._model.state_dict(), _OPTIMISER: flattened(self._optimiser)}
                checkpoint.save(self._name, groups, rows)
            progress(self._name, step + 1, total, f"{bits:.2f} bits per byte")
        for weight in self._model.parameters():
            weight.requires_grad_(True)
        return rows

    def _step(self, step: int) -> float:
        """Take one step; return the loss in nats a byte."""
        settings, context = self._settings, self._config.model.context
        risen = min((step + 1) / WARM_UP, 1.0)
        fallen = (1 + math.cos(math.pi * step / settings.steps)) / 2
        for group in self._optimiser.param_groups:
            group["lr"] = settings.learning_rate * risen * (LEAST_RATE + (1 - LEAST_RATE) * fallen)
        random = stream(self._config.seed, f"windows of {self._name}", step)
        shares = np.diff(np.linspace(0, settings.batch_size, len(self._texts) + 1).round().astype(int))
        windows_BS = torch.from_numpy(
            np.concatenate(
                [
                    drawn_windows(text, int(share), context + 1, random)
                    for text, share in zip(self._texts, shares, strict=True)
                ]
            )
        )
        output = self._model(windows_BS[:, :-1])
        nats = functional.cross_entropy(output.logits_BSV.flatten(0, 1), windows_BS[:, 1:].flatten())
        self._optimiser.zero_grad()
        nats.backward()
        nn.utils.clip_grad_norm_(self._trained, LARGEST_STEP)
        self._optimiser.step()
        return float(nats.detach())
