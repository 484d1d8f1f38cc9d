"""Models of the curves, trained once for all curves that share them; a resumed run finds them.

Shape suffixes: W windows, S positions, E experts.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.language import MoeTransformer, Texts, load_texts
from airmoe.language.config import DmoeConfig
from airmoe.language.measure import questions
from airmoe.language.stages import DmoeModel, texts_of_experts, train_dmoe, trained_on
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.settings import dump_config
from airmoe.scheduling import Placement
from airmoe.studies.curves.figure import Curves, Workspace
from airmoe.studies.dmoe.settings import LanguageSettings, PatternSettings, QualitySettings, RadioSettings


def inputs_of(curves: Mapping[str, Curves], options: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of all texts that are read, by name; refuse curves that do not fit them."""
    every = [curve for of_figure in curves.values() for curve in of_figure.values()]
    for curve in every:
        _refuse_other_texts(curve)
    return {f"texts {name}": texts_of(name).digest for name in sorted({curve.data for curve in every})}


def _refuse_other_texts(settings: LanguageSettings) -> None:
    texts, data = texts_of(settings.data), settings.data
    domains = len(texts.domains)
    texts_of_experts(settings.training(0), texts)
    held_out(settings)
    if isinstance(settings, QualitySettings) and settings.values != (domains,):
        raise InvalidInputError("values", settings.values, f"[{domains}], the number of domains of {data}")
    if isinstance(settings, PatternSettings) and settings.domain >= domains:
        raise InvalidInputError("domain", settings.domain, f"0 to {domains - 1}: the domains of {data}")


@lru_cache(maxsize=2)
def texts_of(name: str) -> Texts:
    """Return the texts of this name."""
    return load_texts(name)


def held_out(settings: LanguageSettings) -> list[Tensor]:
    """Return (W, S) windows of each domain's held-out texts."""
    return _questions(settings.data, settings.context, settings.windows)


@lru_cache(maxsize=4)
def _questions(data: str, context: int, windows: int) -> list[Tensor]:
    return questions(texts_of(data), context, windows)


def mixture_of(settings: LanguageSettings, seed: int, work: Workspace) -> DmoeModel:
    """Return the model of a curve and a seed; train what of it is not there yet.

    Processes that want the same model train it once, and wait for one another.
    """
    config = settings.training(seed)
    checkpoint = _checkpoint(config, work)
    with work.locked(_name(config)):
        return train_dmoe(
            config, texts_of(settings.data), checkpoint=checkpoint, progress=_titled(seed, work)
        )


def dense_of(settings: LanguageSettings, seed: int, steps: int, work: Workspace) -> MoeTransformer:
    """Return the dense seed of a curve, trained on for so many steps on the texts of all domains."""
    config, begun = settings.training(seed), mixture_of(settings, seed, work).seed
    with work.locked(_name(config)):
        return trained_on(
            config,
            texts_of(settings.data),
            begun,
            steps,
            checkpoint=_checkpoint(config, work),
            progress=_titled(seed, work),
        )


def placed(model: MoeTransformer, settings: RadioSettings, seed: int) -> MoeTransformer:
    """Return the model with expert e on node e, which spends what the curve says on computing."""
    compute_j_E = stream(seed, "dmoe study computation").uniform(*settings.compute_j, settings.experts)
    model.place(Placement(np.arange(settings.experts), compute_j_E))
    return model


def all_domains(windows: list[Tensor]) -> Tensor:
    """Return the windows of all domains together, as many of each, the domains in turn."""
    fewest = min(map(len, windows))
    return torch.stack([each[:fewest] for each in windows], dim=1).flatten(0, 1)


def in_turn(windows: int, nodes: int, domains: int = 1) -> NDArray[np.int64]:
    """Return the node of each window: the nodes in turn, with a window of every domain at each."""
    return np.arange(windows) // domains % nodes


def _checkpoint(config: DmoeConfig, work: Workspace) -> Checkpoint:
    return Checkpoint(work.folder / "models" / _name(config), _name(config))


def _name(config: DmoeConfig) -> str:
    identity = dump_config(config) + texts_of(config.data.name).digest
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _titled(seed: int, work: Workspace):  # type: ignore[no-untyped-def]
    def progress(stage: str, done: int, total: int, note: str = "", /) -> None:
        work.progress(f"train, seed {seed}: {stage}", done, total, note)

    return progress
