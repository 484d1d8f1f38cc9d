"""The run folder of a study: settings, rows, figures, tables; built beside its final name, then renamed.

    run.json  tables.md  FIGURE.csv  settings/FIGURE/CURVE.toml  figures/FIGURE.svg

While it is built, rows/FIGURE/CURVE.csv holds each curve that is done and workspace/ what curves keep, so
that a run can be taken up again.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.files import replaced_file
from airmoe.studies.curves.figure import Curves, Say, Workspace
from airmoe.studies.curves.record import (
    Record,
    alone,
    command_of,
    new_record,
    options_of,
    read_record,
    versions,
    with_options,
    write_record,
)
from airmoe.studies.curves.rows import Row, Rows, join_csv, write_csv
from airmoe.studies.curves.settings import Scale, dump_curve, read_curves
from airmoe.studies.curves.study import Study

LARGEST_SEED = 2**62

Plan = dict[str, Curves]
"""Settings of every curve by figure and name."""


def run_study(
    study: Study,
    out: Path,
    *,
    scale: Scale | None = None,
    only: Sequence[str] = (),
    seed: int | None = None,
    settings: Path | None = None,
    options: Mapping[str, str] | None = None,
    resume: bool = False,
    say: Say = lambda what, done, total: None,
) -> list[str]:
    """Measure the figures and write a run folder; return what to tell about it, line by line.

    Args:
        study: what is measured.
        out: run folder to make; while it is made it is called ``out`` + ".partial".
        scale: how much to measure, one of the study's; left out, its first.
        only: names of figures; none: all that are measured at this scale.
        seed: the first seed, >= 0; a curve of n seeds takes it and the n - 1 after it. Left out, 0.
        settings: folder with a folder of TOML files per figure, such as the ``settings`` of a run folder;
            left out, those that are built in.
        options: the study's own options of the command by name ("data_dir" is ``--data-dir``), handed to
            what measures. They are recorded; a resumed run takes those that are recorded and not given.
        resume: take up ``out``.partial where an interrupted run left it, with its settings; the other
            arguments, but for ``options``, must be left out or be the same. It ends with the same rows, but
            for times.
        say: told about progress.

    Raises:
        InvalidInputError: an argument or a setting is wrong, or ``out`` exists.
        RunFolderError: there is nothing to resume, or what there is is damaged or of other settings.
    """
    if out.exists():
        raise InvalidInputError("out", str(out), "a folder that does not exist yet")
    partial = out.with_name(out.name + ".partial")
    given = scale is not None or bool(only) or seed is not None or settings is not None
    scale = study.scales[0] if scale is None else scale
    plan = _plan(study, settings, scale, only) if given or not resume else None
    seed = _checked_seed(0 if seed is None and given else seed)
    if resume:
        plan, record = _taken_up(study, partial, plan, seed)
        record = with_options(record, options or {})
        _refuse_other_inputs(partial, record.get("inputs", {}), study.inputs(plan, options_of(record)))
        write_record(partial, record)
    elif partial.exists():
        raise InvalidInputError("out", str(out), f"no unfinished run; resume {partial} or remove it")
    else:
        assert plan is not None
        command = command_of(study, scale, only, settings, seed or 0, options or {})
        record = new_record(study, command, seed or 0, options or {})
        if inputs := study.inputs(plan, options or {}):
            record["inputs"] = inputs
        for path, text in _settings_files(plan):
            _write(partial / "settings" / path, text)
        write_record(partial, record)
    workspace = Workspace(partial / "workspace", say, options_of(record))
    seconds = _measure(study, partial, plan, record["seed"], workspace)
    lines = _finish(study, partial, plan, record | {"resumed": resume, "seconds": seconds})
    partial.rename(out)
    return lines


def _plan(study: Study, folder: Path | None, scale: Scale | None, only: Sequence[str]) -> Plan:
    """Return what is measured; without a scale all there is, for whole curves are the same at any scale."""
    if scale is not None and scale not in study.scales:
        raise InvalidInputError("scale", scale, f"one of {', '.join(study.scales)}")
    measured = list(study.figures) if scale is None else study.figures_at(scale)
    for name in only:
        if name not in study.figures:
            raise InvalidInputError("only", name, f"one of {', '.join(study.figures)}")
        if name not in measured:
            others = f"{name} is of {', '.join(study.scales_of(name))}"
            raise InvalidInputError(
                "only", name, f"a figure of scale {scale} ({others}): {', '.join(measured)}"
            )
    present = set(study.figures) if folder is None else _figures_in(study, folder)
    wanted = [name for name in measured if name in (only or present)]
    if not wanted:
        raise InvalidInputError("settings", str(folder), f"a folder of one of {', '.join(measured)}")
    plan: Plan = {}
    for name in wanted:
        scales = study.scales_of(name)
        model = study.figures[name].settings
        plan[name] = read_curves(model, folder or study.folder, name, scale or scales[0], scales)
    return plan


def _figures_in(study: Study, folder: Path) -> set[str]:
    if not folder.is_dir():
        raise InvalidInputError("settings", str(folder), "a folder with a folder of TOML files per figure")
    present = {path.name for path in folder.iterdir() if path.is_dir()}
    unknown = sorted(present - study.figures.keys())
    if unknown:
        raise InvalidInputError(f"{folder}: figure", unknown[0], f"one of {', '.join(study.figures)}")
    return present


def _checked_seed(seed: int | None) -> int | None:
    if seed is not None and not 0 <= seed <= LARGEST_SEED:
        raise InvalidInputError("seed", seed, f"an integer from 0 to {LARGEST_SEED}")
    return seed


def _settings_files(plan: Plan) -> Iterator[tuple[Path, str]]:
    for figure, curves in plan.items():
        for name, curve in curves.items():
            yield Path(figure) / f"{name}.toml", dump_curve(curve)


def _taken_up(study: Study, partial: Path, plan: Plan | None, seed: int | None) -> tuple[Plan, Record]:
    """Return plan and record of an interrupted run; refuse if others are asked for, or by other software."""
    if not (partial / "run.json").exists():
        raise RunFolderError(f"{partial} does not exist or holds no run: there is nothing to resume")
    record = read_record(partial, study)
    if record["versions"] != versions(study):
        begun, now = _listed(record["versions"]), _listed(versions(study))
        raise RunFolderError(f"{partial} was begun with {begun}; this is {now}")
    begun_plan = _plan(study, partial / "settings", None, ())
    if plan is not None and dict(_settings_files(plan)) != dict(_settings_files(begun_plan)):
        raise RunFolderError(f"{partial} has other settings; resume it without options, or make another run")
    if seed is not None and seed != record["seed"]:
        raise RunFolderError(f"{partial} has seed {record['seed']}, not {seed}")
    return begun_plan, record


def _refuse_other_inputs(partial: Path, begun: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in begun.keys() | now.keys():
        if begun.get(name) != now.get(name):
            raise RunFolderError(f"{partial} was begun with another {name}; resume with the same one")


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _measure(study: Study, partial: Path, plan: Plan, seed: int, workspace: Workspace) -> dict[str, float]:
    """Measure every curve that is not there yet; return the seconds that each figure took now."""
    workspace.folder.mkdir(exist_ok=True)
    for name in study.keeps:
        if (partial / name).exists():  # the run was interrupted at its very end
            (partial / name).rename(workspace.folder / name)
    seconds: dict[str, float] = {}
    for name, curves in plan.items():
        begin = time.monotonic()
        figure = study.figures[name]
        for curve, settings in curves.items():
            path = partial / "rows" / name / f"{curve}.csv"
            if path.exists():
                continue
            total = settings.seeds * len(settings.x_values)
            rows: list[Row] = []
            for number in range(settings.seeds):
                for row in figure.measure(settings, seed + number, workspace):
                    rows.append(row)
                    workspace.say(f"{name}: {curve}", len(rows), total)
            _write(path, write_csv(curve, rows, figure.columns))
        seconds[name] = round(time.monotonic() - begin, 1)
    return seconds


def _finish(study: Study, partial: Path, plan: Plan, record: Record) -> list[str]:
    """Write what is made of the rows, and the record; return what to tell."""
    command = record["command"]
    pages = [f"# {study.title}\n\nMeans ± standard deviations over seeds. Made by `{command}`.\n"]
    all_rows: dict[str, Rows] = {}
    for name, curves in plan.items():
        figure = study.figures[name]
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
        pages.append(f"## {figure.title}\n\n`{alone(command, name)}`\n\n{figure.tables(curves, rows)}")
        all_rows[name] = rows
    told = study.told(plan, all_rows)
    _write(partial / "tables.md", "\n".join(pages))
    write_record(partial, record)
    for name in study.keeps:
        if (partial / "workspace" / name).exists():
            (partial / "workspace" / name).rename(partial / name)
    shutil.rmtree(partial / "workspace")
    shutil.rmtree(partial / "rows")
    return told


def _write(path: Path, text: str) -> None:
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); remove it to measure it anew") from None
