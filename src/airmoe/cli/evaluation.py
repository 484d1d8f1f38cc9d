"""``airmoe evaluate``. Heavy packages are imported by the command that needs them."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from airmoe.cli.console import console, tell
from airmoe.cli.paths import expanded
from airmoe.cli.plugin_option import Plugins, load_plugins, tell_unused_plugins
from airmoe.errors import require
from airmoe.files import portable
from airmoe.newfolder import refuse_taken
from airmoe.scheduling.parsing import POLICY_FORMS


def evaluate(
    run: Annotated[
        Path, typer.Argument(callback=expanded, help="Run folder of airmoe train or airmoe demo.")
    ],
    policy: Annotated[
        list[str],
        typer.Option(
            help=f"{POLICY_FORMS}. May be repeated. The own expert alone, the best score, and all experts "
            "stand in the table in any case (where a server asks, the best link instead of the own expert). "
            "So does the ensemble: the plain mean of all experts' answers, whatever the gate says."
        ),
    ] = [],  # noqa: B006 (Typer copies it)
    links: Annotated[
        list[str],
        typer.Option(
            help="run: those that the run's settings name; perfect: nothing is lost or paid; or an SNR "
            "process, e.g. rayleigh:10 or uniform:-5:20 (a wrong one is told all forms). May be repeated."
        ),
    ] = ["run"],  # noqa: B006 (Typer copies it)
    transmission: Annotated[
        str | None,
        typer.Option(help="ideal, analog[:REPEATS] or digital:BITS:MODULATION:CODE. [the run's]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often links and noise are drawn anew.")] = 3,
    seed: Annotated[int | None, typer.Option(help="The first seed. [the run's]")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            callback=expanded,
            help="Folder of files of CIFAR and Fashion-MNIST. [$AIRMOE_DATA, then the cache]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(callback=expanded, help="Folder to make for CSV, tables and figure.")
    ] = None,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Compare policies on the held-out images of a finished run. Nothing is trained: it takes seconds.

    Shows macro-F1 (the mean over clients), accuracy, energy, bytes and experts per query of each policy,
    means over seeds. All policies meet the same links. With --out also as CSV (a row per seed), Markdown,
    LaTeX, and a figure as SVG, PDF and PGF.
    """
    require("train", "torch", "safetensors", "sklearn", "matplotlib", "numba")
    if out is not None:
        refuse_taken(out)
    load_plugins(plugin)
    import torch

    from airmoe.plugins import kept_digests
    from airmoe.report.progress import ProgressBars
    from airmoe.runs import compare, load_run
    from airmoe.studies.evaluation import comparison_on_screen, remarks, write_comparison

    begin = time.monotonic()
    torch.set_num_threads(1)  # small networks: more threads cost more than they bring
    loaded = load_run(run)
    with ProgressBars(console()) as progress:
        images = loaded.load_images(data_dir, progress)
        found = compare(
            loaded,
            images,
            policy,
            links=links,
            transmission=transmission,
            seeds=seeds,
            first_seed=seed,
            progress=progress,
        )
    tell_unused_plugins(plugin, needed=kept_digests(run))
    for table in comparison_on_screen(found):
        console().print(table)
    for line in remarks(found):
        tell(line)
    tell(f"{len(images.test_labels):,} held-out images of {images.name}; {time.monotonic() - begin:.0f} s")
    if out is not None:
        command = shlex.join(["airmoe", *map(portable, sys.argv[1:])])
        write_comparison(found, out, command, loaded.manifest.model_hash)
        tell(f"Written to {out}")
