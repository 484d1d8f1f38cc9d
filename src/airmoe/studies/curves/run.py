"""The run folder of a study: settings, rows, figures, tables; built beside its final name, then renamed.

    run.json  tables.md  FIGURE.csv  settings/FIGURE.toml  figures/  tables/ (see `airmoe.report.writing`)
    tensorboard/FIGURE/CURVE/

While it is built, rows/FIGURE/CURVE.csv holds each curve that is done, and workspace/ what curves keep. So a
run can be resumed.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError, RunFolderError, one_of
from airmoe.files import AnyPath, as_path, replaced_file, with_short_home
from airmoe.monitor import EVENTS, write_events
from airmoe.newfolder import PROVENANCE, resumable_folder
from airmoe.plugins import keep_plugins, refuse_other_plugins
from airmoe.progress import Progress, silent
from airmoe.report.writing import write_figures, write_tables
from airmoe.studies.curves.figure import Curves, Figure, Workspace
from airmoe.studies.curves.figure_file import dump_figure
from airmoe.studies.curves.measuring import Measured, Piece, measure_elsewhere, measure_here
from airmoe.studies.curves.record import (
    Record,
    alone,
    command_of,
    finished,
    new_record,
    options_of,
    read_record,
    versions,
    with_options,
    write_record,
)
from airmoe.studies.curves.rows import Row, Rows, join_csv, write_csv
from airmoe.studies.curves.settings import Scale
from airmoe.studies.curves.study import Study

LARGEST_SEED = 2**62

Figures = dict[str, Figure]
"""The figures that a run measures, by name, in order."""


def run_study(
    study: Study,
    out: AnyPath,
    *,
    scale: Scale | None = None,
    only: Sequence[str] = (),
    seed: int | None = None,
    settings: AnyPath | None = None,
    options: Mapping[str, str] | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> list[str]:
    """Measure the figures and write a run folder; return what to tell about it, line by line.

    Args:
        study: what is measured.
        out: run folder to make; while it is made it is called ``out`` + ".partial".
        scale: how much to measure, one of the study's; left out, its first.
        only: names of figures; empty for all that are measured at this scale.
        seed: the first seed, >= 0; a curve of n seeds takes it and the n - 1 after it. Left out, 0.
        settings: folder with a TOML file per figure, such as the ``settings`` of a run folder; left out,
            those that are built in.
        options: the study's own options of the command by name ("data_dir" is ``--data-dir``), handed to
            what measures. They are recorded; a resumed run keeps recorded ones that are not given again.
        resume: take up ``out``.partial where an interrupted run left it, with its settings. Then ``scale``,
            ``only``, ``seed`` and ``settings`` must be left out or be the same. It ends with the same rows,
            but for times.
        executor: measures curves, a seed at a time. Timed ones are measured here, alone, after all others.
            The rows are the same whatever runs them. Workers have to reach ``out`` and what the options name.
            Left out, all is measured in this process.
        progress: told about progress.

    Raises:
        InvalidInputError: an argument or a setting is wrong, or ``out`` exists.
        RunFolderError: there is nothing to resume, or it is damaged or has other settings.
        AirmoeError: measuring fails; it names figure, curve and seed.
    """
    out, settings = as_path(out), None if settings is None else as_path(settings)
    with resumable_folder(out, resume=resume) as partial:
        if resume:
            refuse_other_plugins(partial)
        given = scale is not None or bool(only) or seed is not None or settings is not None
        given_scale, scale = scale, study.scales[0] if scale is None else scale
        figures = _figures(study, settings, scale, only) if given or not resume else None
        seed = _checked_seed(0 if seed is None and given else seed)
        if resume:
            figures, record = _taken_up(study, partial, figures, seed)
            record = with_options(record, options or {})
            inputs = _inputs(study, figures, record)
            _refuse_other_inputs(partial, record.get("inputs", {}), inputs)
            write_record(partial, record)
        else:
            assert figures is not None
            if given_scale is not None and settings is not None:
                _tell_scale_without_effect(study, figures, given_scale, settings)
            command = command_of(study, scale, only, settings, seed or 0, options or {})
            record = new_record(study, command, seed or 0, options or {})
            if inputs := _inputs(study, figures, record):
                record["inputs"] = inputs
            keep_plugins(partial)
            for name, figure in figures.items():
                _write(partial / "settings" / f"{name}.toml", _text_of(figure))
            write_record(partial, record)
        workspace = Workspace(partial / "workspace", progress, options_of(record))
        seconds = _measure(study, partial, figures, record["seed"], workspace, executor)
        lines = _finish(study, partial, figures, record | {"resumed": resume, "seconds": seconds})
        partial.rename(out)
        return lines


def _figures(study: Study, folder: Path | None, scale: Scale | None, only: Sequence[str]) -> Figures:
    """Return the figures to measure; without a scale, all whose files are there."""
    if scale is not None and scale not in study.scales:
        raise InvalidInputError("scale", scale, one_of(scale, study.scales))
    for name in only:
        if name not in study.figures:
            raise InvalidInputError("only", name, one_of(name, study.figures))
    present = study.figures if folder is None else study.figures_in(folder)
    measured = [name for name, heading in present.items() if scale is None or scale in heading.scales]
    for name in only:
        if name not in present:
            raise InvalidInputError("only", name, f"a figure of {folder}: {', '.join(present)}")
        if name not in measured:
            of_scales = f"{name} is of {', '.join(present[name].scales)}"
            raise InvalidInputError(
                "only", name, f"a figure of scale {scale} ({of_scales}): {', '.join(measured)}"
            )
    if not measured:
        built_in = [name for name, heading in study.figures.items() if scale in heading.scales]
        raise InvalidInputError("settings", str(folder), f"a folder with one of {', '.join(built_in)}")
    return {name: study.read(name, scale, folder) for name in measured if not only or name in only}


def _tell_scale_without_effect(study: Study, figures: Figures, scale: Scale, folder: Path) -> None:
    sized = [name for name in figures if study.is_of_one_size(name, folder)]
    if sized:
        logging.getLogger("airmoe").warning(
            "%s decides alone how much of %s is measured: %s changes nothing there",
            folder,
            ", ".join(sized),
            scale,
        )


def _text_of(figure: Figure) -> str:
    return with_short_home(dump_figure(figure))


def _texts(figures: Figures) -> dict[str, str]:
    return {name: _text_of(figure) for name, figure in figures.items()}


def _inputs(study: Study, figures: Figures, record: Record) -> dict[str, str]:
    """Return the digests of what the curves read, by name."""
    digests = study.inputs(_curves(figures), options_of(record))
    return {with_short_home(name): digest for name, digest in digests.items()}


def _curves(figures: Figures) -> dict[str, Curves]:
    return {name: figure.curves for name, figure in figures.items()}


def _checked_seed(seed: int | None) -> int | None:
    if seed is None:
        return None
    try:
        number = integer_at_least("seed", seed, 0)
    except InvalidInputError:
        number = LARGEST_SEED + 1
    if number > LARGEST_SEED:
        raise InvalidInputError("seed", seed, f"an integer from 0 to {LARGEST_SEED}")
    return number


def _taken_up(
    study: Study, partial: Path, figures: Figures | None, seed: int | None
) -> tuple[Figures, Record]:
    """Return figures and record of an interrupted run; refuse other settings and other software."""
    if not (partial / PROVENANCE).exists():
        raise RunFolderError(f"{partial} holds no run: there is nothing to resume")
    record = read_record(partial, study)
    if record["versions"] != versions(study):
        begun, now = _listed(record["versions"]), _listed(versions(study))
        raise RunFolderError(f"{partial} was begun with {begun}; this is {now}")
    begun_figures = _figures(study, partial / "settings", None, ())
    if figures is not None and _texts(figures) != _texts(begun_figures):
        raise RunFolderError(f"{partial} has other settings; resume it without options, or make another run")
    if seed is not None and seed != record["seed"]:
        raise RunFolderError(f"{partial} has seed {record['seed']}, not {seed}")
    return begun_figures, record


def _refuse_other_inputs(partial: Path, begun: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in begun.keys() | now.keys():
        if begun.get(name) != now.get(name):
            raise RunFolderError(f"{partial} was begun with another {name}; resume with the same one")


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _measure(
    study: Study, partial: Path, figures: Figures, seed: int, work: Workspace, executor: Executor | None
) -> dict[str, float]:
    """Measure every curve that is not there yet; return the seconds that each figure took now."""
    work.folder.mkdir(exist_ok=True)
    for name in study.keeps:
        if (partial / name).exists():  # the run was interrupted at its very end
            (partial / name).rename(work.folder / name)
    seconds = dict.fromkeys(figures, 0.0)
    of_curve: dict[Path, dict[int, list[Row]]] = {}
    for piece, measured in _measured(_pieces(study, partial, figures, seed), work, executor):
        seconds[piece.figure] += measured.seconds
        path = _rows_file(partial, piece.figure, piece.curve)
        by_seed = of_curve.setdefault(path, {})
        by_seed[piece.seed] = measured.rows
        if len(by_seed) == piece.settings.seeds:
            rows = [row for _, rows in sorted(of_curve.pop(path).items()) for row in rows]
            _write_events(
                partial / EVENTS / piece.figure / piece.curve, piece.figure, rows, piece.kind.columns
            )
            _write(path, write_csv(piece.curve, rows, piece.kind.columns))
    return {name: round(spent, 1) for name, spent in seconds.items()}


def _write_events(folder: Path, figure: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write the means over seeds as TensorBoard events: a step for each x, ascending, and x as a scalar."""
    shutil.rmtree(folder, ignore_errors=True)  # a run that ended here measures the curve again
    by_curve = Rows({figure: rows})
    spreads = {name: by_curve.spread(figure, name) for name in columns}
    events: list[dict[str, str | int | float]] = []
    for place, x in enumerate(next(iter(spreads.values())).x):
        means = {name: spread.mean[place] for name, spread in spreads.items()}
        events.append({"stage": figure, "round": place, "x": x, **means})
    write_events(folder, events)


def _pieces(study: Study, partial: Path, figures: Figures, seed: int) -> list[Piece]:
    """Return all seeds of all curves that are not there yet."""
    return [
        Piece(name, curve, study.kind_of(figure), settings, seed + number)
        for name, figure in figures.items()
        for curve, settings in figure.curves.items()
        if not _rows_file(partial, name, curve).exists()
        for number in range(settings.seeds)
    ]


def _measured(
    pieces: Sequence[Piece], work: Workspace, executor: Executor | None
) -> Iterator[tuple[Piece, Measured]]:
    if executor is None:
        yield from measure_here(pieces, work)
        return
    yield from measure_elsewhere([piece for piece in pieces if not piece.kind.timed], work, executor)
    timed = [piece for piece in pieces if piece.kind.timed]
    yield from measure_here(timed, work, note="timed: measured alone, in this process")


def _rows_file(partial: Path, figure: str, curve: str) -> Path:
    return partial / "rows" / figure / f"{curve}.csv"


def _finish(study: Study, partial: Path, figures: Figures, record: Record) -> list[str]:
    """Write the record, and figures and tables of the rows; return what to tell."""
    command = record["command"]
    pages = [f"# {study.title}\n\nMade by `{command}`.\n"]
    all_rows: dict[str, Rows] = {}
    for name, figure in figures.items():
        kind = study.kind_of(figure)
        text = join_csv([_read(_rows_file(partial, name, curve)) for curve in figure.curves])
        try:
            rows = Rows.read_csv(text, kind.columns)
            for curve, settings in figure.curves.items():
                if len(rows.of(curve)) != settings.seeds * len(settings.x_values):
                    raise ValueError(f"{curve} has {len(rows.of(curve))} rows")
        except ValueError as error:
            raise RunFolderError(f"{partial / 'rows' / name} is damaged ({error}); remove it") from None
        _write(partial / f"{name}.csv", text)
        drawings = kind.draw(figure, rows)
        write_figures({"_".join(filter(None, (name, part))): drawings[part] for part in drawings}, partial)
        tables = kind.tables(figure, rows)
        write_tables([replace(table, name=f"{name}_{table.name}") for table in tables], partial)
        of_figure = "\n".join(table.markdown() for table in tables)
        head = f"## {figure.heading.title}\n\n`{alone(command, name)}`\n\n{figure.over_seeds()}"
        pages.append(f"{head}\n\n{of_figure}")
        all_rows[name] = rows
    told = study.told(_curves(figures), all_rows)
    _write(partial / "tables.md", "\n".join(pages))
    write_record(partial, finished(record))
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
