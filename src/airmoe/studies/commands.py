"""``airmoe study``: a command per study. Heavy packages are imported by the command that needs them."""

import time
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from airmoe.errors import InvalidInputError, MissingExtraError

study = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Repeat a published study: figures, tables and every number behind them, by one command.",
)


@study.callback()
def _of_several() -> None:
    """Keep the name of the study in the command line, although there is only one."""


@study.command()
def selection(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds and tokens: a few minutes.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Everything tiny: seconds.")] = False,
    only: Annotated[
        list[str],
        typer.Option(
            metavar="FIGURE",
            help="One figure, e.g. proven_gap; may be repeated. A wrong name is told which there are.",
        ),
    ] = [],  # noqa: B006 (Typer copies it)
    seed: Annotated[
        int | None,
        typer.Option(help="First seed, 0 if left out; a curve of n seeds takes the n - 1 after it, too."),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="Folder of FIGURE/CURVE.toml, such as settings/ of a run folder, to use instead."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to make, runs/selection-TIME if left out.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run of --out, with its settings.")
    ] = False,
) -> None:
    """Which experts, on which subcarriers: energy, optimality, search effort and run time of JESA and others.

    Gate scores and links are random; no model is run. Measured are the energy that a policy spends and how
    much of the gate's scores it keeps (after arXiv 2503.13421), how often schedules are optimal, how far
    above the optimum they may be, how many nodes the exact search visits, and how long a layer takes.

    The run folder holds figures/, tables.md, a CSV per figure with a row for every seed, and in settings/ a
    TOML per curve. To change something, copy settings/, edit it, and hand it to --settings. Finished curves
    are kept in OUT.partial, from where --resume goes on. Needs no PyTorch.
    """
    if not find_spec("matplotlib"):
        raise MissingExtraError("this command needs matplotlib; install with: pip install matplotlib")
    from airmoe.report.progress import ProgressBars
    from airmoe.studies.selection import run_study

    if quick and smoke:
        raise InvalidInputError("--quick --smoke", "both", "at most one of them")
    if resume and out is None:
        raise InvalidInputError("out", out, "the run folder that was to be made, to resume")
    out = out or Path("runs") / f"selection-{datetime.now():%Y%m%d-%H%M%S}"
    console, begin = Console(markup=False), time.monotonic()
    with ProgressBars(console) as say:
        try:
            lines = run_study(
                out,
                scale="quick" if quick else "smoke" if smoke else None,
                only=only,
                seed=seed,
                settings=settings,
                resume=resume,
                say=say,
            )
        except KeyboardInterrupt:
            if out.with_name(f"{out.name}.partial").exists():
                go_on = f"airmoe study selection --resume --out {out}"
                console.print(f"Interrupted. Go on with: {go_on}", soft_wrap=True)
            raise
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print(f"{time.monotonic() - begin:.0f} s. Read {out / 'tables.md'}", soft_wrap=True)
    console.print(f"Look at {out / 'figures'}", soft_wrap=True)
