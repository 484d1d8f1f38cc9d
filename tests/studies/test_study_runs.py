"""The run folder of any study: its rows and tables, scales, workspace and options, and how it is resumed."""

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airmoe.errors import AirmoeError, InvalidInputError, RunFolderError
from airmoe.files import replaced_file
from airmoe.plugins import load_plugins
from airmoe.progress import Progress
from airmoe.report.table import with_spread
from airmoe.studies.curves import (
    Rows,
    Study,
    run_study,
)
from airmoe.studies.curves.rows import sweep_table, write_csv
from tests.finishing import another_finishes_first
from tests.killed import killed_while_writing
from tests.monitor.scalars import scalars
from tests.studies.lines import FIGURES, LineSettings, study_of_lines, write_figures
from tests.system.commands import all_under


@pytest.fixture
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study_of_lines(tmp_path_factory.mktemp("built_in"))


def record_of(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return read


class Stopped(Exception):
    """Raised in the middle of a study."""


def told_to(said: list[str]) -> Progress:
    """Progress that goes into a list, activity by activity."""
    return lambda activity, done, total, note="", /: said.append(activity)


def interrupted(study: Study, out: Path, **options: Any) -> Path:
    """A study that was stopped in its last curve but before anything of it was written."""

    def stop(activity: str, done: int, total: int, note: str = "", /) -> None:
        if activity == "modelled: b":
            raise Stopped

    with pytest.raises(Stopped):
        run_study(study, out, progress=stop, **options)
    return out.with_name(f"{out.name}.partial")


def test_the_folder_holds_settings_rows_drawings_tables_and_the_record(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out", only=["lines"], seed=3)
    files = sorted(path.relative_to(tmp_path / "out") for path in tmp_path.rglob("*") if path.is_file())
    assert [path.as_posix() for path in files] == [
        *(f"figures/drawing/{part}.py" for part in ("__init__", "axes", "files", "layout", "parts")),
        *(f"figures/lines.{suffix}" for suffix in ("csv", "pdf", "pgf", "py", "svg")),
        "lines.csv",
        "run.json",
        "settings/lines.toml",
        *(f"tables/lines_y.{suffix}" for suffix in ("csv", "tex")),
        "tables.md",
        "tensorboard/lines/a/events.out.tfevents.0.airmoe",
        "tensorboard/lines/b/events.out.tfevents.0.airmoe",
    ]
    rows = (tmp_path / "out" / "lines.csv").read_text(encoding="utf-8").splitlines()
    assert rows[:4] == ["curve,x,seed,y", "a,1.0,3,4.0", "a,2.0,3,5.0", "a,1.0,4,5.0"]
    assert len(rows) == 1 + 2 * 2 * 2
    tables_md = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert tables_md.startswith("# Study of lines\n")
    assert "## Lines\n\n`airmoe study lines --seed 3 --only lines`\n" in tables_md
    record = record_of(tmp_path / "out")
    assert record["format"] == "airmoe lines study 1"
    assert record["command"] == "airmoe study lines --only lines --seed 3"
    assert record["versions"].keys() == {"python", "airmoe", "numpy"}
    assert record["threads"] == record["host"]["cores"] >= 1
    assert "options" not in record
    assert record["plugins"] == []


def test_the_record_names_each_plugin_by_its_digest_and_the_folder_keeps_it(
    study: Study, tmp_path: Path
) -> None:
    own = tmp_path / "own.py"
    own.write_text("from airmoe.plugins import register\nregister('partition', 'own')(print)\n", "utf-8")
    load_plugins([own])
    run_study(study, tmp_path / "out", only=["lines"])
    digest = hashlib.sha256((tmp_path / "out" / "plugins" / "own.py").read_bytes()).hexdigest()
    assert record_of(tmp_path / "out")["plugins"] == [
        {"file": "own.py", "sha256": digest, "parts": ["partition own"]}
    ]


OVER = {
    "": "Means ± standard deviations over 2 seeds.",
    "seeds = 1\n": "One seed, so there are no deviations.",
    "[curves.b]\nseeds = 1\nlabel = 'B'\n": "Means ± standard deviations over 2 seeds, but 1 of B.",
}


@pytest.mark.parametrize("seeds", OVER)
def test_tables_say_over_how_many_seeds_a_figure_is(study: Study, tmp_path: Path, seeds: str) -> None:
    settings = write_figures(tmp_path / "settings", lines=f"{HEAD}{seeds}[curves.a]\n")
    run_study(study, tmp_path / "out", settings=settings)
    tables_md = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert f"--only lines`\n\n{OVER[seeds]}\n\n" in tables_md
    assert ("±" in tables_md) == ("±" in OVER[seeds])


def test_what_the_study_says_of_its_figures_is_told(study: Study, tmp_path: Path) -> None:
    lines = run_study(study, tmp_path / "out", only=["lines"])
    assert lines == ["lines a [1.5, 2.5]", "lines b [2.5, 4.5]"]


@pytest.mark.parametrize(
    ("scale", "figures"),
    [
        (None, {"lines", "modelled"}),
        ("full", {"lines", "modelled"}),
        ("quick", {"lines"}),
        ("smoke", {"lines", "modelled"}),
        ("gpu", {"lines", "modelled", "large"}),
    ],
)
def test_the_figures_of_a_scale_are_measured(
    study: Study, tmp_path: Path, scale: str | None, figures: set[str]
) -> None:
    run_study(study, tmp_path / "out", scale=scale)
    assert {path.stem for path in (tmp_path / "out").glob("*.csv")} == figures
    flag = "" if scale in {None, "full"} else f" --{scale}"
    assert record_of(tmp_path / "out")["command"] == f"airmoe study lines{flag} --seed 0"


def test_a_file_has_a_table_for_each_scale_of_its_figure_alone(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out", scale="gpu", only=["large"])
    rows = (tmp_path / "out" / "large.csv").read_text(encoding="utf-8").splitlines()
    assert [line for line in rows if line.startswith("a")] == ["a,100,0,100.0", "a,100,1,101.0"]
    of_lines = FIGURES["lines"] + "[curves.a.gpu]\nseeds = 1\n"
    run_study(study, tmp_path / "lines", scale="gpu", settings=write_figures(tmp_path / "a", lines=of_lines))
    of_model = FIGURES["modelled"] + "[curves.a.quick]\nseeds = 1\n"
    with pytest.raises(InvalidInputError, match=r"modelled\.toml: curves\.a: quick .*a known key"):
        run_study(study, tmp_path / "wrong", settings=write_figures(tmp_path / "b", modelled=of_model))


HEAD = 'title = "Lines"\nkind = "line"\nnumber = 1\n'

SAYS = {
    # what is written above the curves, in curve a, and below: slope and seeds of a and b at scale smoke
    ("", "", ""): {"a": (1.0, 1), "b": (1.0, 1)},
    ("slope = 3.0\n", "", ""): {"a": (3.0, 1), "b": (3.0, 1)},
    ("slope = 3.0\n", "slope = 4.0\n", ""): {"a": (4.0, 1), "b": (3.0, 1)},
    ("seeds = 3\n", "", ""): {"a": (1.0, 3), "b": (1.0, 3)},
    ("seeds = 3\n", "", "[smoke]\nseeds = 4\n"): {"a": (1.0, 4), "b": (1.0, 4)},
    ("", "seeds = 5\n", "[smoke]\nseeds = 4\n"): {"a": (1.0, 5), "b": (1.0, 4)},
    ("", "seeds = 5\n[curves.a.smoke]\nseeds = 6\n", ""): {"a": (1.0, 6), "b": (1.0, 1)},
    ("", "", "[full]\nseeds = 4\n"): {"a": (1.0, 1), "b": (1.0, 1)},
}


@pytest.mark.parametrize(("above", "inside", "below"), SAYS)
def test_a_curve_says_more_than_its_figure_a_figure_more_than_a_scale(
    study: Study, tmp_path: Path, above: str, inside: str, below: str
) -> None:
    write_figures(tmp_path, lines=f"{HEAD}{above}[curves.a]\n{inside}[curves.b]\n{below}")
    curves = study.read("lines", "smoke", tmp_path).curves
    said = {name: (curve.slope, curve.seeds) for name, curve in curves.items()}
    assert said == SAYS[above, inside, below]


WRONG = {
    # a file: what is said of it
    "": ["lines.toml: title is None", "a value"],
    'title = "Lines"\nnumber = 1': ["lines.toml: kind is None", "a value"],
    'title = "Lines"\nkind = "circle"\nnumber = 1': ["kind is 'circle'", "one of line, process, time, model"],
    'title = ""\nkind = "line"\nnumber = 1': ["lines.toml: title is ''", "at least 1 character"],
    'title = "Lines"\nkind = "line"\nnumber = "x"': ["lines.toml: number is 'x'", "an integer"],
    HEAD: ["lines.toml: curves is None", "a table [curves.NAME] for each curve"],
    f"{HEAD}[curves]": ["lines.toml: curves is {}", "a table [curves.NAME] for each curve"],
    f"{HEAD}curves = 3": ["lines.toml: curves is 3", "a table [curves.NAME] for each curve"],
    f"{HEAD}[curves]\na = 3": ["lines.toml: curves.a is 3", "a table of settings"],
    f"{HEAD}[curves.'../a']": ["lines.toml: curve is '../a'", "letters, digits, _ and -"],
    f"{HEAD}slop = 3\n[curves.a]": ["lines.toml: slop is 3", "a known key"],
    f"{HEAD}[smoke]\nslop = 3\n[curves.a]": ["lines.toml: slop is 3", "a known key"],
    f"{HEAD}[gpu]\nslope = 3.0\n[curves.a]": ["lines.toml: gpu is ", "a known key"],
    f"{HEAD}[curves.a]\nslop = 3": ["lines.toml: curves.a: slop is 3", "a known key"],
    f"{HEAD}[curves.a.smoke]\nslop = 3": ["lines.toml: curves.a: slop is 3", "a known key"],
    f"{HEAD}[curves.a]\nsmoke = 3": ["lines.toml: curves.a: smoke is 3", "a table of settings"],
    f"{HEAD}smoke = 3\n[curves.a]": ["lines.toml: smoke is 3", "a table of settings"],
    f"{HEAD}seeds = 0\n[curves.a]": ["lines.toml: seeds is 0", "at least 1"],
    f"{HEAD}[curves.a]\nseeds = 0": ["lines.toml: curves.a: seeds is 0", "at least 1"],
    f'{HEAD}[curves.a]\nswept = "y"': ["lines.toml: ", "y is 1.0", "a known key"],
    f'{HEAD}scales = ["full", "tiny"]\n[curves.a]': ["scales is 'tiny'", "some of full, quick, smoke, gpu"],
    f"{HEAD}scales = []\n[curves.a]": ["lines.toml: scales is []", "at least 1"],
    f"{HEAD}x_axis = 3\n[curves.a]": ["lines.toml: x_axis is 3", "a table"],
    f"{HEAD}x_axis = {{ colour = 3 }}\n[curves.a]": ["lines.toml: x_axis.colour is 3", "a known key"],
    f"{HEAD}x_axis = {{ range = [1.0, 1.0] }}\n[curves.a]": ["lines.toml: x_axis is ", "[least, most]"],
    f"{HEAD}y_axis = {{ log = true, range = [0.0, 1.0] }}\n[curves.a]": ["y_axis is ", "a range above 0"],
    f"{HEAD}x_axis = {{ label = '$x_{{1$' }}\n[curves.a]": ["lines.toml: x_axis.label is ", "between dollar"],
    f"{HEAD}[curves.a]\nlabel = '$\\surprise$'": [
        "curves.a: label is ",
        "that Matplotlib reads (",
        "surprise",
    ],
    "title =": ["lines.toml is", "valid TOML"],
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_a_file_is_named_with_file_curve_and_key(
    study: Study, tmp_path: Path, text: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        run_study(study, tmp_path / "out", settings=write_figures(tmp_path / "settings", lines=text))
    for words in WRONG[text]:
        assert words in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]


ENCODED = {"UTF-16": FIGURES["lines"].encode("utf-16"), "Latin-1": FIGURES["lines"].encode() + b"# \xe9"}


@pytest.mark.parametrize("content", [b"\xff", *ENCODED.values(), None], ids=["no text", *ENCODED, "a folder"])
def test_a_file_that_cannot_be_read_is_named(study: Study, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "settings" / "lines.toml"
    path.parent.mkdir()
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"lines.toml'; expected a readable TOML file \(") as refused:
        run_study(study, tmp_path / "out", settings=path.parent)
    assert "\n" not in str(refused.value)
    assert [found.name for found in tmp_path.iterdir()] == ["settings"]


def test_a_file_that_may_not_be_read_is_named(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_figures(tmp_path / "settings", lines=FIGURES["lines"])

    def refused(path: Path, **_: object) -> str:  # root may read whatever its mode is
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    assert study.figures  # those that are built in
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(InvalidInputError, match=r"lines.toml'; expected .* \(.*Permission denied"):
        study.figures_in(folder)


def test_a_file_that_windows_wrote_is_read(study: Study, tmp_path: Path) -> None:
    text = FIGURES["lines"].replace("\n", "\r\n")
    (tmp_path / "lines.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert study.read("lines", "smoke", tmp_path).curves == study.read("lines", "smoke").curves


@pytest.mark.parametrize("place", ["no-folder", "file.toml", "empty"])
def test_settings_that_are_no_folder_of_figures_are_refused(study: Study, tmp_path: Path, place: str) -> None:
    (tmp_path / "file.toml").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match=rf"{place}'; expected a folder with a TOML file per figure$"):
        run_study(study, tmp_path / "out", settings=tmp_path / place)


def test_figures_are_measured_in_the_order_of_their_numbers(study: Study, tmp_path: Path) -> None:
    first = FIGURES["modelled"].replace("number = 2", "number = 0")
    folder = write_figures(tmp_path / "settings", **FIGURES | {"modelled": first})
    run_study(study, tmp_path / "out", settings=folder)
    tables_md = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", tables_md, re.MULTILINE) == ["Models", "Lines"]


def test_the_heading_of_a_figure_is_the_settings_to_edit(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out", only=["lines"])
    settings = tmp_path / "out" / "settings"
    text = (settings / "lines.toml").read_text(encoding="utf-8")
    write_figures(settings, lines=text.replace('"Lines"', '"My lines"').replace("slope = 2.0", "slope = 3.0"))
    run_study(study, tmp_path / "mine", settings=settings)
    assert "## My lines\n" in (tmp_path / "mine" / "tables.md").read_text(encoding="utf-8")
    rows = {name: (tmp_path / name / "lines.csv").read_text(encoding="utf-8") for name in ("out", "mine")}
    assert [line for line in rows["mine"].splitlines() if line[0] == "a"] == [
        line for line in rows["out"].splitlines() if line[0] == "a"
    ]
    assert "b,2.0,1,7.0" in rows["mine"].splitlines()


def test_a_scale_that_changes_nothing_beside_settings_is_told(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_study(study, tmp_path / "out", scale="smoke", only=["modelled"])
    settings = tmp_path / "out" / "settings"
    write_figures(settings, lines=f"{HEAD}[curves.a]\n")
    run_study(study, tmp_path / "as it is", settings=settings)
    assert caplog.messages == []
    run_study(study, tmp_path / "full", scale="full", settings=settings)
    assert caplog.messages == [
        f"{settings} decides alone how much of modelled is measured: full changes nothing there"
    ]


def test_a_figure_that_a_scale_lacks_is_refused_by_name(study: Study, tmp_path: Path) -> None:
    said = r"only is 'large'; expected a figure of scale full \(large is of gpu\): lines, modelled"
    with pytest.raises(InvalidInputError, match=said):
        run_study(study, tmp_path / "out", only=["lines", "large"])
    with pytest.raises(
        InvalidInputError,
        match=r"only is 'larger'; expected one of lines, modelled, large.*; did you mean large\?",
    ):
        run_study(study, tmp_path / "out", only=["larger"])
    with pytest.raises(InvalidInputError, match="scale is 'tpu'; expected one of full, quick, smoke, gpu"):
        run_study(study, tmp_path / "out", scale="tpu")
    folder = write_figures(tmp_path / "settings", large=FIGURES["large"])
    with pytest.raises(InvalidInputError, match="a folder with one of lines, modelled"):
        run_study(study, tmp_path / "out", settings=folder)
    with pytest.raises(InvalidInputError, match=r"only is 'lines'; expected a figure of .*settings: large"):
        run_study(study, tmp_path / "out", settings=folder, only=["lines"])
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]


def test_a_run_of_a_scale_is_taken_up_with_all_its_figures(study: Study, tmp_path: Path) -> None:
    interrupted(study, tmp_path / "out", scale="gpu")
    run_study(study, tmp_path / "out", resume=True)
    run_study(study, tmp_path / "whole", scale="gpu")
    for figure in study.figures:
        rows = [(tmp_path / name / f"{figure}.csv").read_bytes() for name in ("out", "whole")]
        assert rows[0] == rows[1]


def test_what_a_curve_keeps_is_there_for_later_curves_and_figures(study: Study, tmp_path: Path) -> None:
    said: list[str] = []
    run_study(study, tmp_path / "out", scale="gpu", progress=told_to(said))
    trained = [what for what in said if what.startswith("training")]
    assert trained == ["training 0 on nothing", "training 1 on nothing"]


def test_what_a_curve_keeps_is_there_for_a_resumed_run(study: Study, tmp_path: Path) -> None:
    interrupted(study, tmp_path / "out")
    said: list[str] = []
    run_study(study, tmp_path / "out", resume=True, progress=told_to(said))
    assert set(said) == {"modelled: b"}


def test_tensorboard_shows_the_mean_over_seeds_of_every_curve(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out", only=["lines"], seed=3)
    for curve in ("a", "b"):
        rows = Rows.read_csv((tmp_path / "out" / "lines.csv").read_text(encoding="utf-8"), ["y"])
        x, mean, _, _ = rows.spread(curve, "y")
        told = scalars(tmp_path / "out" / "tensorboard" / "lines" / curve)
        assert told == {"lines/x": list(enumerate(x)), "lines/y": list(enumerate(mean))}
        assert len(x) == 2


def test_what_a_kill_left_half_written_is_no_part_of_a_study(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "whole")
    partial = interrupted(study, tmp_path / "out")
    killed_while_writing(partial / "run.json")
    killed_while_writing(partial / "settings" / "lines.toml")
    run_study(study, tmp_path / "out", resume=True)
    assert all_under(tmp_path / "out").keys() == all_under(tmp_path / "whole").keys()


def test_a_resumed_study_shows_in_tensorboard_what_a_whole_one_does(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "whole")
    interrupted(study, tmp_path / "out")
    run_study(study, tmp_path / "out", resume=True)
    whole = sorted((tmp_path / "whole" / "tensorboard").glob("*/*"))
    assert whole
    for folder in whole:
        again = tmp_path / "out" / folder.relative_to(tmp_path / "whole")
        assert scalars(again) == scalars(folder)


def test_of_the_workspace_only_what_the_study_keeps_stays(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {
        "settings",
        "figures",
        "tables",
        "models",
        "tensorboard",
    }
    assert sorted(path.name for path in (tmp_path / "out" / "models").iterdir()) == ["0.txt", "1.txt"]


def test_a_run_that_was_interrupted_at_its_very_end_is_completed(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "out.partial")
    said: list[str] = []
    run_study(study, tmp_path / "out", resume=True, progress=told_to(said))
    assert not [what for what in said if what.startswith("training")]
    assert sorted(path.name for path in (tmp_path / "out" / "models").iterdir()) == ["0.txt", "1.txt"]
    assert not (tmp_path / "out" / "workspace").exists()


def test_a_study_that_another_process_finishes_before_the_lock_is_had_is_not_begun_again(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = interrupted(study, tmp_path / "out")
    another_finishes_first(monkeypatch, lambda: partial.rename(tmp_path / "out"))
    with pytest.raises(InvalidInputError, match="expected an unfinished run: this one is finished"):
        run_study(study, tmp_path / "out", resume=True)


def test_what_a_killed_process_was_writing_is_not_in_the_finished_folder(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = interrupted(study, tmp_path / "out")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # as if the process were gone
    with pytest.raises(Stopped), replaced_file(partial / "settings" / "lines.toml"):
        raise Stopped
    monkeypatch.undo()
    run_study(study, tmp_path / "out", resume=True)
    assert [path.name for path in (tmp_path / "out" / "settings").iterdir() if path.suffix != ".toml"] == []


def test_the_studys_own_options_are_recorded_and_part_of_the_command(study: Study, tmp_path: Path) -> None:
    run_study(study, tmp_path / "out", scale="smoke", options={"data_dir": "my data", "device": "cpu"})
    record = record_of(tmp_path / "out")
    assert record["options"] == {"data_dir": "my data", "device": "cpu"}
    command = "airmoe study lines --smoke --data-dir 'my data' --device cpu --seed 0"
    assert record["command"] == command
    assert f"`{command} --only modelled`" in (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "taken", "words"),
    [
        ({}, "here", "--data-dir here --device cpu --seed 0"),
        ({"data_dir": "here"}, "here", "--data-dir here --device cpu --seed 0"),
        ({"data_dir": "there"}, "there", "--device cpu --seed 0 --data-dir there"),
    ],
)
def test_recorded_options_hold_unless_they_are_given_anew(
    study: Study, tmp_path: Path, given: dict[str, str], taken: str, words: str
) -> None:
    partial = interrupted(study, tmp_path / "out", options={"data_dir": "here", "device": "cpu"})
    shutil.rmtree(partial / "workspace" / "models")
    said: list[str] = []
    run_study(
        study,
        tmp_path / "out",
        resume=True,
        options=given,
        progress=told_to(said),
    )
    assert f"training 0 on {taken}" in said
    record = record_of(tmp_path / "out")
    assert record["options"] == {"data_dir": taken, "device": "cpu"}
    assert record["command"] == f"airmoe study lines {words}"


def test_an_option_that_is_given_anew_is_what_the_next_resumption_takes(study: Study, tmp_path: Path) -> None:
    partial = interrupted(study, tmp_path / "out", options={"data_dir": "here"})
    interrupted(study, tmp_path / "out", resume=True, options={"data_dir": "there"})
    assert record_of(partial)["options"] == {"data_dir": "there"}


def test_a_run_of_another_study_is_not_taken_up(study: Study, tmp_path: Path) -> None:
    partial = interrupted(study, tmp_path / "out")
    text = (partial / "run.json").read_text(encoding="utf-8")
    (partial / "run.json").write_text(text.replace("airmoe lines", "airmoe curves"), encoding="utf-8")
    with pytest.raises(RunFolderError, match="'airmoe curves study 1', not a 'airmoe lines study 1'"):
        run_study(study, tmp_path / "out", resume=True)


def test_an_interrupted_study_goes_on_where_it_stopped_and_ends_the_same(
    study: Study, tmp_path: Path
) -> None:
    run_study(study, tmp_path / "whole", seed=4)
    partial = interrupted(study, tmp_path / "halves", seed=4)
    assert [path.name for path in (partial / "rows" / "modelled").iterdir()] == ["a.csv"]
    measured: list[str] = []
    run_study(study, tmp_path / "halves", resume=True, progress=told_to(measured))
    assert set(measured) == {"modelled: b"}
    for name in ("lines.csv", "modelled.csv", "figures/modelled.svg", "tables.md"):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halves", "whole"]


def test_another_seed_gives_other_rows(study: Study, tmp_path: Path) -> None:
    for seed in (0, 4):
        run_study(study, tmp_path / str(seed), seed=seed)
    rows = [(tmp_path / str(seed) / "lines.csv").read_text(encoding="utf-8") for seed in (0, 4)]
    assert set(rows[0].splitlines()[1:]).isdisjoint(rows[1].splitlines()[1:])


def test_a_study_is_not_taken_up_with_other_settings_or_another_seed(study: Study, tmp_path: Path) -> None:
    partial = interrupted(study, tmp_path / "out")
    with pytest.raises(RunFolderError, match="has seed 0, not 1"):
        run_study(study, tmp_path / "out", seed=1, resume=True)
    with pytest.raises(RunFolderError, match="has other settings"):
        run_study(study, tmp_path / "out", scale="smoke", resume=True)
    with pytest.raises(InvalidInputError, match="no unfinished run"):
        run_study(study, tmp_path / "out")
    assert partial.is_dir()
    run_study(study, tmp_path / "out", seed=0, resume=True)  # the same again is no mistake
    with pytest.raises(InvalidInputError, match="does not exist yet"):
        run_study(study, tmp_path / "out")


def test_a_study_is_not_taken_up_with_other_inputs(study: Study, tmp_path: Path) -> None:
    read = {"set of images": "one"}
    study = replace(study, inputs=lambda curves, options: dict(read))
    partial = interrupted(study, tmp_path / "out")
    assert record_of(partial)["inputs"] == read
    read["set of images"] = "another"
    with pytest.raises(RunFolderError, match="was begun with another set of images; resume with the same"):
        run_study(study, tmp_path / "out", resume=True)
    read["set of images"] = "one"
    run_study(study, tmp_path / "out", resume=True)


def test_curves_of_a_figure_sweep_its_abscissa(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LineSettings, "SWEPT_IS_X", True)
    text = f'{HEAD}[curves.a]\nswept = "x"\n[curves.b]\nswept = "slope"\n'
    write_figures(tmp_path, lines=text)
    with pytest.raises(InvalidInputError, match=r"lines.toml: curves.b: swept is 'slope'; expected x"):
        run_study(study, tmp_path / "out", settings=tmp_path)


def test_a_study_is_not_taken_up_by_other_software(study: Study, tmp_path: Path) -> None:
    partial = interrupted(study, tmp_path / "out")
    record = (partial / "run.json").read_text(encoding="utf-8")
    (partial / "run.json").write_text(record.replace(np.__version__, "1.0"), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"begun with .*numpy 1\.0"):
        run_study(study, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("damaged", "text", "said"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", '{"seed": "0"}', "run.json is damaged"),
        ("rows/lines/a.csv", "curve,x\n", "damaged"),
        ("rows/lines/a.csv", "", "damaged"),
        ("settings/lines.toml", f"{HEAD}a = 1\n[curves.a]", "a known key"),
    ],
)
def test_damage_is_told_in_a_line(damaged: str, text: str, said: str, study: Study, tmp_path: Path) -> None:
    partial = interrupted(study, tmp_path / "out")
    (partial / damaged).write_text(text, encoding="utf-8")
    with pytest.raises(AirmoeError, match=said):
        run_study(study, tmp_path / "out", resume=True)
    assert not (tmp_path / "out").exists()


def test_rows_that_are_missing_from_a_curve_are_damage(study: Study, tmp_path: Path) -> None:
    path = interrupted(study, tmp_path / "out") / "rows" / "lines" / "a.csv"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match="a has 3 rows"):
        run_study(study, tmp_path / "out", resume=True)


def test_a_file_of_an_unknown_figure_is_refused(study: Study, tmp_path: Path) -> None:
    folder = write_figures(tmp_path / "settings", lions=FIGURES["lines"])
    with pytest.raises(
        InvalidInputError, match=r"'lions'; expected one of lines, modelled, large.*; did you mean lines\?"
    ):
        run_study(study, tmp_path / "out", settings=folder)
    for folder in (write_figures(tmp_path / "empty"), tmp_path / "nowhere"):
        with pytest.raises(InvalidInputError, match="a folder with a TOML file per figure"):
            run_study(study, tmp_path / "out", settings=folder, only=["lines"])


def test_means_and_deviations_are_over_seeds() -> None:
    rows = Rows({"a": [{"x": x, "seed": seed, "v": x + seed} for seed in (0, 1, 3) for x in (2.0, 1.0)]})
    spread = rows.spread("a", "v")
    assert spread.x == [1.0, 2.0]
    assert spread.mean == pytest.approx([7 / 3, 10 / 3])
    assert spread.deviation == pytest.approx([np.std([0, 1, 3], ddof=1)] * 2)
    assert spread.seeds == 3


def test_seeds_that_differ_by_rounding_alone_have_no_deviation() -> None:
    rows = Rows({"a": [{"x": 1.0, "seed": seed, "v": 0.1 * 3 if seed else 0.3} for seed in (0, 1)]})
    assert rows.spread("a", "v").deviation == [0.0]


def test_rows_are_read_back_as_the_same_numbers() -> None:
    rows = [{"x": 0.1, "seed": 0, "v": 1 / 3}, {"x": 0.7, "seed": 1, "v": 2e-300}]
    assert list(Rows.read_csv(write_csv("a,b", rows, ("v",)), ("v",)).of("a,b")) == rows
    with pytest.raises(ValueError, match="columns"):
        Rows.read_csv(write_csv("a", rows, ("v",)), ("w",))


def test_tables_give_means_with_as_many_decimals_as_their_deviations() -> None:
    assert with_spread(0.4456, 0.1462) == "0.446 ± 0.146"
    assert with_spread(1234.5, 20) == "1,234 ± 20"
    assert with_spread(2.5e-6, 1e-7) == "2.5e-06 ± 1.0e-07"
    assert with_spread(0.5, 0.0) == "0.500"
    rows = Rows({"a": [{"x": x, "seed": 0, "v": 1.0} for x in (1, 2)], "b": [{"x": 2, "seed": 0, "v": 3.0}]})
    table = sweep_table("v", "V", "M", {name: rows.spread(name, "v") for name in ("a", "b")})
    assert table.markdown().splitlines()[4:] == ["| 1 | 1.00 |  |", "| 2 | 1.00 | 3.00 |"]
