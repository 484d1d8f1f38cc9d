"""``airmoe demo --text``: what the demonstration of a language model prints."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airmoe.cli.console import console, tell

if TYPE_CHECKING:
    from airmoe.report.terminal import ScreenTable
    from airmoe.studies.text_demo.results import TextDemoResults


def demonstrate_text(data: str | None, seed: int | None, out: Path | None) -> None:
    """Run the demonstration of a language model and tell what it found."""
    from airmoe.language import load_texts
    from airmoe.report.progress import ProgressBars
    from airmoe.runs.settings import changed
    from airmoe.studies.text_demo.run import SETTINGS, run_text_demo

    config = changed(SETTINGS, {"data.name": data, "seed": seed}, {"data.name": "data"})
    name = config.data.name.partition(":")[0]
    out = out or Path("runs") / f"demo-text-{name}-{datetime.now():%Y%m%d-%H%M%S}"
    texts = load_texts(config.data.name)
    tell("Trains a seed and four owners' experts, serves them by processes, and kills nodes that write text.")
    with ProgressBars(console()) as progress:
        results = run_text_demo(config, texts, out, progress=progress)
    console().print(_table(results))
    tell(
        f"Each text begins with {results.prompt!r}. In one process: {results.process_byte_ms:.1f} ms a byte."
    )
    for written in results.written:
        same = "the same text as in one process" if written.same else "not the text of one process"
        told = f"{written.what}: {same}, {written.byte_ms:.1f} ms a byte"
        if written.after_kill_ms is not None:
            told += f", {written.after_kill_ms:.0f} ms from the kill to the next byte"
        if written.degraded:
            told += f"; {written.degraded} bytes lack an expert that the gate wanted"
        tell(told)
        tell(f"  {written.text!r}", style="dim")
    tell(f"Hidden states of the mesh differ from those of one process by {results.difference:.1e} at most.")
    tell(f"All of this is in {out / 'results.json'}.")
    serve = ["airmoe", "serve", str(out), "--all", "--completions", "127.0.0.1:8000"]
    tell(f"{results.seconds:.0f} s. Serve it, for OpenAI's clients too, with: {shlex.join(serve)}")


def _table(results: TextDemoResults) -> ScreenTable:
    from airmoe.report.terminal import ScreenTable

    header = ["held-out texts, bits per byte", *results.domains, "all", "µJ per byte"]
    rows = [
        [
            each.model,
            *(f"{bits:.3f}" for bits in each.bits_per_byte),
            "-" if each.energy_j is None else f"{each.energy_j * 1e6:.1f}",
        ]
        for each in results.predicted
    ]
    return ScreenTable("Experts of four owners, mixed without sharing a text", header, rows)
