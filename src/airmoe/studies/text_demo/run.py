"""The demonstration of a language model, once through.

Owners train experts on texts of their own; processes serve them, each expert at two nodes; text is written
over the mesh, byte by byte. Then a node is killed in mid-text, once with replicas and once without.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from airmoe.checks import refuse_type
from airmoe.errors import InvalidInputError
from airmoe.files import AnyPath, as_path
from airmoe.language import Texts
from airmoe.language.config import BranchSettings, DmoeConfig, MixSettings, StepSettings
from airmoe.language.form import TransformerSettings
from airmoe.language.run import radio_of, train_dmoe_run
from airmoe.language.simulation import Simulated
from airmoe.language.source import export_language_model
from airmoe.language.writer import Writer
from airmoe.nn.threads import one_thread
from airmoe.progress import Progress, silent
from airmoe.studies.text_demo.predicting import largest_difference, predicted
from airmoe.studies.text_demo.results import TextDemoResults, TextInMesh, write_results
from airmoe.studies.text_demo.writing import DRAWN, Served, text_of

SETTINGS = DmoeConfig(
    model=TransformerSettings(width=96, expert_hidden=192, context=128),
    dense=StepSettings(steps=320, batch_size=24),
    branch=BranchSettings(steps=100, batch_size=24),
    mix=MixSettings(steps=40, batch_size=24),
    replicas=2,
)
"""Of the demonstration: smaller than `airmoe train --method dmoe`, and each expert at two nodes."""

LENGTH = 60
"""Bytes of each text that is written."""

PROMPT = "def __init__(self, "


def run_text_demo(
    config: DmoeConfig,
    texts: Texts,
    out: AnyPath,
    *,
    prompt: str = PROMPT,
    length: int = LENGTH,
    progress: Progress = silent,
) -> TextDemoResults:
    """Run it, and write the run folder; return what ``results.json`` holds.

    Args:
        config: of the training; needs 4 experts at least, each at two nodes or more.
        texts: what is learnt.
        out: run folder to make.
        prompt: what the texts begin with.
        length: their bytes.
        progress: told about every step.

    Raises:
        InvalidInputError: ``out`` exists, or settings do not fit.
        MeshError: a node does not start, or the endpoint does not answer.
    """
    refuse_type("config", config, DmoeConfig)
    if config.replicas < 2 or config.model.experts < 3:
        told = f"{config.model.experts} experts, {config.replicas} nodes each"
        raise InvalidInputError("config", told, "3 experts or more, at 2 nodes or more each: one is killed")
    begin_s, out = time.monotonic(), as_path(out)
    trained = train_dmoe_run(config, texts, out, progress=progress)
    with one_thread():
        table = predicted(config, texts, trained, progress)
        here = Writer(trained.model, Simulated(trained.model))
        expected = text_of(here.write([prompt.encode()], length, **DRAWN))
        written = list[TextInMesh]()
        with ExitStack() as open_:
            served = Served.of(out, length, prompt.encode(), expected, open_)
            whole = served.text()
            written.append(served.told("over the mesh", whole))
            written.append(served.asked_over_http("asked for as OpenAI's clients do"))
            written.append(served.write("without node 2, as its owner wishes", without=[2]))
            written.append(served.write("node 1 killed in mid-text; others hold its experts", kill=1))
        with TemporaryDirectory(prefix="airmoe-") as made, ExitStack() as open_:
            alone = Path(made, "run")
            export_language_model(alone, trained.model, mesh=config.mesh, radio=radio_of(config))
            served = Served.of(alone, length, prompt.encode(), expected, open_)
            written.append(served.write("node 1 killed in mid-text; nobody else holds its expert", kill=1))
    results = TextDemoResults(
        tuple(domain.name for domain in texts.domains),
        table,
        prompt,
        tuple(written),
        expected.byte_ms,
        largest_difference(whole.added, expected.added),
        time.monotonic() - begin_s,
    )
    write_results(results, out)
    return results
