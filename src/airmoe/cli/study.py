"""``airmoe study``: a command per study. Heavy packages are imported by the command that needs them."""

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airmoe.cli.bare import explain
from airmoe.cli.console import console, tell
from airmoe.cli.paths import expanded
from airmoe.cli.plugin_option import Plugins, load_plugins, tell_unused_plugins
from airmoe.errors import InvalidInputError, require
from airmoe.newfolder import PROVENANCE, partial_of, refuse_taken

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from airmoe.studies.curves import Study

study = typer.Typer(
    callback=explain,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Repeat a published study: figures, tables and every number behind them, by one command.",
)


Quick = Annotated[bool, typer.Option("--quick", help="Fewer seeds and smaller sizes: a few minutes.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Everything tiny: seconds.")]
Only = Annotated[
    list[str],
    typer.Option(
        metavar="FIGURE",
        help="One figure, by name; may be repeated. A wrong name is told which there are.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="First seed, 0 if left out; a curve of n seeds takes the n - 1 after it, too."),
]
Settings = Annotated[
    Path | None,
    typer.Option(
        callback=expanded, help="Folder of FIGURE.toml, such as settings/ of a run folder, to use instead."
    ),
]
Out = Annotated[
    Path | None, typer.Option(callback=expanded, help="Run folder to make, runs/STUDY-TIME if left out.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the interrupted run of --out, with its settings.")
]
Workers = Annotated[
    int,
    typer.Option(
        help="Processes that measure curves side by side, each with one thread; the rows are the same. "
        "Figures of run times are not run in parallel: they are measured alone, after all others. "
        "1 is this process."
    ),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Scheduler of a Dask cluster whose workers measure curves instead. They need this version of "
        "airmoe, and the folders of --out and of the data under the same paths.",
    ),
]


@study.command()
def selection(
    quick: Quick = False,
    smoke: Smoke = False,
    only: Only = [],  # noqa: B006 (Typer copies it)
    seed: Seed = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    workers: Workers = 1,
    dask: Dask = None,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Which experts, on which subcarriers: energy, optimality, search effort and run time of JESA and others.

    Gate scores and links are random; no model is run. Measured are the energy that a policy spends and how
    much of the gate's scores it keeps (after arXiv 2503.13421), how often schedules are optimal, how far
    above the optimum they may be, how many nodes the exact search visits, and how long a layer takes.

    The run folder holds figures/, tables.md, a CSV per figure with a row for every seed, and in settings/ a
    TOML per figure. To change something, copy settings/, edit it, and hand it to --settings. Finished curves
    are kept in OUT.partial, from where --resume goes on. Needs no PyTorch.
    """
    require("study", "matplotlib", "numba", "tensorboard")
    out = _free("selection", out, resume)
    load_plugins(plugin)
    from airmoe.studies.selection import SELECTION

    scale = _scale(quick=quick, smoke=smoke)
    _run(SELECTION, scale, only, seed, settings, out, resume, _executor(workers, dask))
    tell_unused_plugins([] if resume else plugin)


@study.command()
def gating(
    quick: Quick = False,
    smoke: Smoke = False,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="Instead: full ResNet-18 and ViT on CIFAR-10 and CIFAR-100, for a GPU."),
    ] = False,
    only: Only = [],  # noqa: B006 (Typer copies it)
    seed: Seed = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    workers: Workers = 1,
    dask: Dask = None,
    data_dir: Annotated[
        str | None,
        typer.Option(help="Folder of files of CIFAR and Fashion-MNIST. [$AIRMOE_DATA, then the cache]"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda. [cuda where PyTorch finds a GPU, else cpu]")
    ] = None,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Which expert, over which link: accuracy of channel-aware gating and of others over noisy links.

    A server extracts features, and its gate picks experts behind links of different quality (after arXiv
    2504.00819). Measured is accuracy on held-out images against SNR, spread, outdated and wrong channel
    knowledge, analog and digital, for gates that see the links, gates that do not, max-SNR routing, an oracle
    and single networks.

    In full, LeNet-5 and ResNet-18 of width 16 are trained on CIFAR-10 with three seeds, which takes hours on
    a processor; --quick trains LeNet-5 on digits. Models are trained once for all curves that share them, and
    kept in OUT.partial, from where --resume goes on. The run folder is that of the other studies.
    """
    require("train", "torch", "matplotlib", "tensorboard")
    out = _free("gating", out, resume)
    load_plugins(plugin)
    from airmoe.channel_aware.stages import pick_device
    from airmoe.studies.gating import GATING

    scale = _scale(quick=quick, smoke=smoke, gpu=gpu)
    if device is not None:
        pick_device(device)  # before anything is written
    options = {"data_dir": data_dir, "device": device}
    _run(GATING, scale, only, seed, settings, out, resume, _executor(workers, dask), options)
    tell_unused_plugins([] if resume else plugin)


@study.command()
def networked(
    quick: Quick = False,
    smoke: Smoke = False,
    cpu: Annotated[
        bool,
        typer.Option("--cpu", help="Instead: 5,000 training images and 2,000 held-out ones; an hour or two."),
    ] = False,
    niid_bench: Annotated[
        bool,
        typer.Option(
            "--niid-bench", help="Instead: the public yardstick of that name, 500 epochs of one network."
        ),
    ] = False,
    only: Only = [],  # noqa: B006 (Typer copies it)
    seed: Seed = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    workers: Workers = 1,
    dask: Dask = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            help="Folder of the official files of CIFAR and Fashion-MNIST. [$AIRMOE_DATA, then the cache]"
        ),
    ] = None,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """What clients learn together without sharing images: stages, divisions of the data, baselines.

    Clients train a feature extractor, an expert each, and a gate (after arXiv 2511.01743). Measured are
    macro-F1, how much a client's own expert answers, and the bytes of training: for ways to learn the gate,
    divisions of the images, rounds, numbers of clients, and beside local, averaged and central training.

    In full, LeNet-5 is trained on CIFAR-10 and Fashion-MNIST with three seeds, which takes most of a day on a
    processor; --cpu has a tenth of the images, and --quick trains on digits. Stages are trained once for all
    curves that share them, and kept in OUT.partial, from where --resume goes on. The run folder is that of
    the other studies.
    """
    require("train", "torch", "sklearn", "matplotlib", "tensorboard")
    out = _free("networked", out, resume)
    load_plugins(plugin)
    from airmoe.studies.networked import NETWORKED

    scale = _scale(quick=quick, smoke=smoke, cpu=cpu, niid_bench=niid_bench)
    _run(
        NETWORKED, scale, only, seed, settings, out, resume, _executor(workers, dask), {"data_dir": data_dir}
    )
    tell_unused_plugins([] if resume else plugin)


@study.command()
def dmoe(
    quick: Quick = False,
    smoke: Smoke = False,
    only: Only = [],  # noqa: B006 (Typer copies it)
    seed: Seed = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    workers: Workers = 1,
    dask: Dask = None,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """A language model whose experts sit on several nodes: bits per byte against joules per byte.

    A small transformer of bytes is trained by branch, train, mix (after arXiv 2403.07816): a dense seed,
    experts of each domain, routers. Its held-out texts are asked over fading links, with JESA, DES,
    homogeneous requirements, top-k and others choosing experts in every layer (after arXiv 2503.13421).
    Measured are bits per byte, energy, control traffic and time on the air, which layers tolerate less, and
    what subcarriers bring.

    The texts are Python's own sources, docstrings and reference. In full, three models are trained, which
    takes an hour or two of a core; --quick trains one for a few minutes. Models are trained once for all
    curves that share them, and kept in OUT.partial, from where --resume goes on. The run folder is that of
    the other studies.
    """
    require("train", "torch", "matplotlib", "numba", "tensorboard")
    out = _free("dmoe", out, resume)
    load_plugins(plugin)
    from airmoe.studies.dmoe import DMOE

    scale = _scale(quick=quick, smoke=smoke)
    _run(DMOE, scale, only, seed, settings, out, resume, _executor(workers, dask))
    tell_unused_plugins([] if resume else plugin)


def _free(study_name: str, out: Path | None, resume: bool) -> Path:
    """Return the run folder to make; refuse one that cannot be."""
    if resume and out is None:
        raise InvalidInputError("out", out, "the run folder that was to be made, to resume")
    out = out or Path("runs") / f"{study_name}-{datetime.now():%Y%m%d-%H%M%S}"
    refuse_taken(out, resume=resume)
    return out


def _scale(**asked: bool) -> str | None:
    """Return the one scale that is asked for, None if none is."""
    scales = [scale.replace("_", "-") for scale, wanted in asked.items() if wanted]
    if len(scales) > 1:
        value = "both" if len(scales) == 2 else "all"
        raise InvalidInputError(" ".join(f"--{scale}" for scale in scales), value, "at most one of them")
    return scales[0] if scales else None


def _executor(workers: int, dask: str | None) -> "AbstractContextManager[Executor | None]":
    """Return a context of the executor that measures curves; it yields None for this process."""
    from airmoe.studies.workers import dask_workers, worker_processes

    if dask is None:
        return nullcontext() if workers == 1 else worker_processes(workers)
    if workers != 1:
        raise InvalidInputError("--workers --dask", "both", "at most one of them")
    return dask_workers(dask)


def _run(
    made: "Study",
    scale: str | None,
    only: Sequence[str],
    seed: int | None,
    settings: Path | None,
    out: Path,
    resume: bool,
    executor: "AbstractContextManager[Executor | None]",
    options: Mapping[str, str | None] | None = None,
) -> None:
    """Run a study and print what it tells; the study's own options that are None are left out."""
    from airmoe.monitor import EVENTS
    from airmoe.plugins import loaded_plugins
    from airmoe.report.progress import ProgressBars
    from airmoe.studies.curves import run_study

    begin = time.monotonic()
    with ProgressBars(console()) as progress:
        try:
            with executor as elsewhere:
                lines = run_study(
                    made,
                    out,
                    scale=scale,
                    only=only,
                    seed=seed,
                    settings=settings,
                    options={name: value for name, value in (options or {}).items() if value is not None},
                    resume=resume,
                    executor=elsewhere,
                    progress=progress,
                )
        except KeyboardInterrupt:
            if (partial_of(out) / PROVENANCE).exists():
                plugins = [word for each in loaded_plugins() for word in ("--plugin", str(each.path))]
                go_on = shlex.join(["airmoe", "study", made.name, *plugins, "--resume", "--out", str(out)])
                tell(f"Interrupted. Go on with: {go_on}")
            raise
    for line in lines:
        tell(line)
    tell(f"{time.monotonic() - begin:.0f} s. Read {out / 'tables.md'}")
    tell(f"Look at {out / 'figures'}")
    tell(f"Or with: {shlex.join(['tensorboard', '--logdir', str(out / EVENTS)])}")
