"""From texts to a run folder of a language model, and back."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from airmoe.checks import refuse_type
from airmoe.errors import RunFolderError
from airmoe.files import AnyPath, as_path
from airmoe.language.config import DmoeConfig
from airmoe.language.measure import bits_per_byte, questions
from airmoe.language.source import export_language_model
from airmoe.language.stages import DmoeModel, train_dmoe
from airmoe.language.texts import Texts
from airmoe.language.transformer import MoeTransformer
from airmoe.manifest import RadioSpec
from airmoe.monitor import EVENTS, write_events
from airmoe.newfolder import CONFIG, PROVENANCE
from airmoe.nn.threads import one_thread
from airmoe.progress import Progress, silent
from airmoe.runfolder import LANGUAGE_WEIGHTS, SEED_WEIGHTS
from airmoe.runs.checkpoint import MetricsRow
from airmoe.runs.export_layers import layer_manifests
from airmoe.runs.run_writing import begun_run, fingerprint, finish_run, run_checkpoint
from airmoe.runs.settings import parse_section
from airmoe.runs.stage_times import StageTimes
from airmoe.runs.weights import load_weights, save_weights
from airmoe.scheduling import Placement

HELD_OUT_WINDOWS = 64
"""Windows of each domain on which a finished run is measured."""


@dataclass(frozen=True, eq=False)
class DmoeRun:
    """A finished run of a language model.

    Attributes:
        folder: the run folder.
        config: its settings.
        record: what ``run.json`` says.
        model: the mixture in evaluation mode, its experts at the nodes that the settings say.
        seed: the dense model that its experts branched off, likewise.
    """

    folder: Path
    config: DmoeConfig
    record: Mapping[str, Any]
    model: MoeTransformer
    seed: MoeTransformer


def train_dmoe_run(
    config: DmoeConfig,
    texts: Texts,
    out: AnyPath,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> DmoeModel:
    """Train a language model and write its run folder.

    While it trains, everything lies in ``out`` + ".partial"; at the end that folder is renamed to ``out``.
    The last row of the metrics has the mixture's bits per byte on held-out windows of each domain.

    Args:
        config: the run.
        texts: what is learnt.
        out: the run folder to make; must not exist.
        resume: take up ``out``.partial where an interrupted run left it; it ends at the same weights.
        progress: as `train_dmoe`.

    Raises:
        InvalidInputError: ``out`` exists, an argument is of another type, or as `train_dmoe`.
        RunFolderError: something to resume is missing, damaged, or of another configuration or other texts.
        TrainingDivergedError: a loss is not finite; the last good checkpoint stays behind.
    """
    refuse_type("config", config, DmoeConfig)
    refuse_type("texts", texts, Texts)
    out, form = as_path(out), config.model
    # What nodes could not serve is refused before anything is trained.
    placed: dict[str, Any] = {"mesh": config.mesh, "radio": radio_of(config), "placement": config.placement}
    layer_manifests(form.layers, form.experts, form.width, **placed)
    with one_thread(), begun_run(out, config, config.seed, texts, resume=resume) as partial:
        checkpoint, times = run_checkpoint(partial, fingerprint(config, texts)), StageTimes(partial)
        trained = train_dmoe(config, texts, checkpoint=checkpoint, progress=times.counting(progress))
        trained.rows.append({"stage": "held out", "round": 1, **held_out_bits(trained.model, texts)})
        write_events(partial / EVENTS, trained.rows[-1:])
        for name, model in ((LANGUAGE_WEIGHTS, trained.model), (SEED_WEIGHTS, trained.seed)):
            (partial / name).parent.mkdir(exist_ok=True)
            save_weights(model, partial / name)
        export_language_model(partial, trained.model, **placed)
        finish_run(partial, out, config, config.seed, trained.rows, texts, seconds=times.seconds)
    return trained


def radio_of(config: DmoeConfig) -> RadioSpec:
    """Return the simulated radio of a run."""
    return RadioSpec(**config.links.model_dump(), seed=config.seed)


def held_out_bits(model: MoeTransformer, texts: Texts) -> MetricsRow:
    """Return bits per byte of each domain's held-out texts, as ``bits_per_byte_DOMAIN``."""
    windows = questions(texts, model.settings.context, HELD_OUT_WINDOWS)
    return {
        f"bits_per_byte_{domain.name}": bits_per_byte(
            lambda tokens_BS: model(tokens_BS).logits_BSV, windows_WS
        )
        for domain, windows_WS in zip(texts.domains, windows, strict=True)
    }


def load_dmoe(folder: AnyPath) -> DmoeRun:
    """Return a finished run of a language model.

    Raises:
        RunFolderError: the folder is none of such a run, or a file is missing or damaged.
    """
    folder = as_path(folder)
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        if (method := tomllib.loads(text).get("method")) != "dmoe":
            raise RunFolderError(
                f"{folder} is a run of method {method!r}; expected one of a language model, dmoe"
            )
        config = parse_section(DmoeConfig, text, CONFIG)
        model, seed = MoeTransformer(config.model), MoeTransformer(config.model.dense)
        for name, network in ((LANGUAGE_WEIGHTS, model), (SEED_WEIGHTS, seed)):
            load_weights(network, load_file(folder / name), f"{folder / name}")
    except (OSError, ValueError, SafetensorError) as error:
        raise RunFolderError(
            f"{folder} is no run folder of a language model, or is damaged: {error}"
        ) from None
    model.place(Placement.of(config.placement))
    return DmoeRun(folder, config, record, model.eval(), seed.eval())
