"""The study's run folder: settings, rows, figures and tables; built beside its final name, then renamed.

    run.json  tables.md  FIGURE.csv  settings/FIGURE/CURVE.toml  figures/FIGURE.svg

While it is built, rows/FIGURE/CURVE.csv holds each curve that is done, so that a run can be taken up again.
"""

import json
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import replaced_file
from airmoe.studies.selection.effort import SEARCH_NODES
from airmoe.studies.selection.energy_figures import (
    ENERGY_BY_IMPORTANCE,
    ENERGY_BY_LAYER,
    ENERGY_BY_MAX_EXPERTS,
    ENERGY_OVER_THE_AIR,
)
from airmoe.studies.selection.figure import Curves, Figure
from airmoe.studies.selection.quality import PROVEN_GAP, SHARE_OPTIMAL, wanted_gaps
from airmoe.studies.selection.rows import Row, Rows, join_csv, write_csv
from airmoe.studies.selection.settings import Scale, dump_curve, read_curves
from airmoe.studies.selection.timing import RUN_TIME

FIGURES: dict[str, Figure] = {
    "energy_by_importance": ENERGY_BY_IMPORTANCE,
    "energy_over_the_air": ENERGY_OVER_THE_AIR,
    "energy_by_layer": ENERGY_BY_LAYER,
    "energy_by_max_experts": ENERGY_BY_MAX_EXPERTS,
    "share_optimal": SHARE_OPTIMAL,
    "proven_gap": PROVEN_GAP,
    "search_nodes": SEARCH_NODES,
    "run_time": RUN_TIME,
}
"""Every figure of the study, in the order in which they are measured."""

BUILT_IN = Path(__file__).parent
"""The folder with a folder of TOML files per figure."""

PACKAGES = ("airmoe", "numpy", "scipy", "numba", "matplotlib")
LARGEST_SEED = 2**62

Say = Callable[[str, int, int], None]
"""(what is being measured, steps done, steps in all)."""

Plan = dict[str, Curves]
"""Settings of every curve by figure and name."""


def run_study(
    out: Path,
    *,
    scale: Scale | None = None,
    only: Sequence[str] = (),
    seed: int | None = None,
    settings: Path | None = None,
    resume: bool = False,
    say: Say = lambda what, done, total: None,
) -> list[str]:
    """Measure the figures and write a run folder; return what to tell about it, line by line.

    Args:
        out: run folder to make; while it is made it is called ``out`` + ".partial".
        scale: how much to measure; left out, "full".
        only: names of figures; none: all.
        seed: the first seed, >= 0; a curve of n seeds takes it and the n - 1 after it. Left out, 0.
        settings: folder with a folder of TOML files per figure, such as the ``settings`` of a run folder;
            left out, those that are built in.
        resume: take up ``out``.partial where an interrupted run left it, with its settings; the other
            arguments must be left out or be the same. It ends with the same rows, but for times.
        say: told about progress.

    Raises:
        InvalidInputError: an argument or a setting is wrong, or ``out`` exists.
        RunFolderError: there is nothing to resume, or what there is is damaged or of other settings.
    """
    if out.exists():
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    partial = out.with_name(out.name + ".partial")
    given = scale is not None or bool(only) or seed is not None or settings is not None
    plan = _plan(settings, scale or "full", only) if given or not resume else None
    seed = _checked_seed(0 if seed is None and given else seed)
    if resume:
        plan, seed = _taken_up(partial, plan, seed)
    elif partial.exists():
        raise InvalidInputError("out", str(out), f"no unfinished run; resume {partial} or remove it")
    assert plan is not None
    seed = seed or 0
    if not resume:
        command = ["airmoe", "study", "selection", *([] if scale in {None, "full"} else [f"--{scale}"])]
        command += [word for figure in only for word in ("--only", figure)]
        command += [] if settings is None else ["--settings", str(settings)]
        _begin(partial, plan, seed, shlex.join([*command, "--seed", str(seed)]))
    seconds = _measure(partial, plan, seed, say)
    lines = _finish(partial, plan, {"resumed": resume, "seconds": seconds})
    partial.rename(out)
    return lines


def _plan(folder: Path | None, scale: Scale, only: Sequence[str]) -> Plan:
    if scale not in get_args(Scale):
        raise InvalidInputError("scale", scale, f"one of {', '.join(get_args(Scale))}")
    for name in only:
        if name not in FIGURES:
            raise InvalidInputError("only", name, f"one of {', '.join(FIGURES)}")
    present = set(FIGURES)
    if folder is not None:
        if not folder.is_dir():
            raise InvalidInputError(
                "settings", str(folder), "a folder with a folder of TOML files per figure"
            )
        present = {path.name for path in folder.iterdir() if path.is_dir()}
        unknown = sorted(present - FIGURES.keys())
        if unknown:
            raise InvalidInputError(f"{folder}: figure", unknown[0], f"one of {', '.join(FIGURES)}")
    wanted = [name for name in FIGURES if name in (only or present)]
    if not wanted:
        raise InvalidInputError("settings", str(folder), f"a folder of one of {', '.join(FIGURES)}")
    return {name: read_curves(FIGURES[name].settings, folder or BUILT_IN, name, scale) for name in wanted}


def _checked_seed(seed: int | None) -> int | None:
    if seed is not None and not 0 <= seed <= LARGEST_SEED:
        raise InvalidInputError("seed", seed, f"an integer from 0 to {LARGEST_SEED}")
    return seed


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _settings_files(plan: Plan) -> Iterator[tuple[Path, str]]:
    for figure, curves in plan.items():
        for name, curve in curves.items():
            yield Path(figure) / f"{name}.toml", dump_curve(curve)


def _begin(partial: Path, plan: Plan, seed: int, command: str) -> None:
    for path, text in _settings_files(plan):
        _write(partial / "settings" / path, text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    record = {
        "format": "airmoe selection study 1",
        "command": command,
        "seed": seed,
        "versions": _versions(),
        "host": {"machine": platform.machine(), "system": platform.system(), "cores": cores},
    }
    _write(partial / "run.json", json.dumps(record, indent=1) + "\n")


def _taken_up(partial: Path, plan: Plan | None, seed: int | None) -> tuple[Plan, int]:
    """Return plan and seed of an interrupted run; refuse if others are asked for, or by other software."""
    if not (partial / "run.json").exists():
        raise RunFolderError(f"{partial} does not exist or holds no run: there is nothing to resume")
    record = _record(partial)
    if record["versions"] != _versions():
        raise RunFolderError(
            f"{partial} was begun with {_listed(record['versions'])}; this is {_listed(_versions())}"
        )
    begun = _plan(partial / "settings", "full", ())
    if plan is not None and dict(_settings_files(plan)) != dict(_settings_files(begun)):
        raise RunFolderError(f"{partial} has other settings; resume it without options, or make another run")
    if seed is not None and seed != record["seed"]:
        raise RunFolderError(f"{partial} has seed {record['seed']}, not {seed}")
    return begun, int(record["seed"])


def _record(partial: Path) -> dict[str, Any]:
    path = partial / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        wanted = {"command": str, "seed": int, "versions": dict, "host": dict}
        if not all(isinstance(record[key], kind) for key, kind in wanted.items()):
            raise ValueError("a key has a value of another type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); remove {partial} to begin anew") from None
    return cast(dict[str, Any], record)


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _measure(partial: Path, plan: Plan, seed: int, say: Say) -> dict[str, float]:
    """Measure every curve that is not there yet; return the seconds that each figure took now."""
    seconds: dict[str, float] = {}
    for figure, curves in plan.items():
        begin = time.monotonic()
        for name, curve in curves.items():
            path = partial / "rows" / figure / f"{name}.csv"
            if path.exists():
                continue
            total = curve.seeds * len(curve.x_values)
            rows: list[Row] = []
            for number in range(curve.seeds):
                for row in FIGURES[figure].measure(curve, seed + number):
                    rows.append(row)
                    say(f"{figure}: {name}", len(rows), total)
            _write(path, write_csv(name, rows, FIGURES[figure].columns))
        seconds[figure] = round(time.monotonic() - begin, 1)
    return seconds


def _finish(partial: Path, plan: Plan, ended: dict[str, Any]) -> list[str]:
    """Write what is made of the rows; return what to tell."""
    record = _record(partial)
    command = record["command"]
    pages = [f"# Study of expert selection\n\nMeans ± standard deviations over seeds. Made by `{command}`.\n"]
    told: list[str] = []
    for name, curves in plan.items():
        figure = FIGURES[name]
        text = join_csv([_read(partial / "rows" / name / f"{curve}.csv") for curve in curves])
        try:
            rows = Rows.read_csv(text, figure.columns)
            for curve, settings in curves.items():
                if len(rows.of(curve)) != settings.seeds * len(settings.x_values):
                    raise ValueError(f"{curve} has {len(rows.of(curve))} rows")
        except ValueError as error:
            raise RunFolderError(f"{partial / 'rows' / name} is damaged ({error}); remove it") from None
        _write(partial / f"{name}.csv", text)
        for suffix, svg in figure.draw(curves, rows).items():
            _write(partial / "figures" / f"{'_'.join(filter(None, (name, suffix)))}.svg", svg)
        pages.append(f"## {figure.title}\n\n`{_alone(command, name)}`\n\n{figure.tables(curves, rows)}")
        if figure is PROVEN_GAP:
            told = [
                f"{label}, M = {subcarriers}: mean gap {100 * gap:.2g} % over {seeds} seeds, "
                f"wanted at most {100 * most:g} %: {verdict}"
                for label, subcarriers, seeds, gap, most, verdict in wanted_gaps(curves, rows)
            ]
    _write(partial / "tables.md", "\n".join(pages))
    _write(partial / "run.json", json.dumps(record | ended, indent=1) + "\n")
    shutil.rmtree(partial / "rows")
    return told


def _alone(command: str, figure: str) -> str:
    """Return the command that makes one figure of those that a command makes."""
    words = iter(shlex.split(command))
    kept = [word for word in words if word != "--only" or not next(words)]
    return shlex.join([*kept, "--only", figure])


def _write(path: Path, text: str) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); remove it to measure it anew") from None
