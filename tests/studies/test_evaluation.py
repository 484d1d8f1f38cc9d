"""``airmoe evaluate``: a table on the screen, and a folder of tables and a figure."""

import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from airmoe.cli.app import app
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.report.drawing import Panel
from airmoe.runs import load_run
from airmoe.runs.comparison import Comparison, Impossible, Measured
from airmoe.studies.evaluation import (
    comparison_csv,
    comparison_drawing,
    comparison_on_screen,
    comparison_tables,
    remarks,
    write_comparison,
)


def measured(
    policy: str,
    seed: int,
    f1: float,
    energy_j: float | None = 2e-6,
    links: str = "run",
    own: float = 0.2,
    none: float = 0.0,
) -> Measured:
    return Measured(links, "ideal", policy, seed, f1, f1, energy_j, 1e-4, 1640.0, 1.5, 0.25, own, none)


FOUND = Comparison(
    (
        measured("topk:1", 0, 0.9),
        measured("topk:1", 1, 0.8),
        measured("local", 0, 0.5, energy_j=0.0),
        measured("local", 1, 0.5, energy_j=0.0),
        measured("topk:1", 0, 0.91, energy_j=None, links="perfect"),
    ),
    (Impossible("perfect", "jesa:0.3:2", "no links_to allocate"),),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "new" / "out"
    write_comparison(FOUND, out, "airmoe evaluate it", "0" * 16)
    return out


def test_the_csv_has_a_row_for_every_seed_and_all_digits() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(FOUND))))
    assert len(rows) == len(FOUND.rows)
    assert [float(row["macro_f1"]) for row in rows] == [0.9, 0.8, 0.5, 0.5, 0.91]
    assert rows[-1]["energy_j"] == ""


def test_seeds_that_differ_by_rounding_alone_have_no_deviation() -> None:
    same = [measured("all", seed, f1) for seed, f1 in enumerate((0.9, 0.9000000000000001))]
    (table,) = comparison_tables(Comparison(tuple(same), ()))
    assert table.rows[0][1] == pytest.approx((0.9, 0.0), abs=0, rel=1e-9)
    (panel,) = comparison_drawing(Comparison(tuple(same), ())).panels
    assert panel.curves[0].y_spread == [0.0]


def test_tables_show_means_and_deviations_over_seeds(written: Path) -> None:
    text = (written / "tables.md").read_text("utf-8")
    deviation = np.std([0.9, 0.8], ddof=1)
    assert f"| topk:1 | 0.850 ± {deviation:.3f} | 85.0 ± 7.1 | 2.00 | 0.100 | 1,640 | 1.50 | 25.0 |" in text
    assert "perfect links, ideal: means over 1 seed:" in text
    assert "| topk:1 | 0.910 | 91.0 |  |" in text
    assert "jesa:0.3:2 over perfect links: left out, no links_to allocate" in text
    assert "`airmoe evaluate it`" in text


def test_macro_f1_and_accuracy_have_one_name_everywhere(written: Path) -> None:
    screen = comparison_on_screen(FOUND)[0].header
    markdown = (written / "tables.md").read_text("utf-8")
    csv_header, tex = ((written / "tables" / f"1-run.{end}").read_text("utf-8") for end in ("csv", "tex"))
    assert list(screen)[1:3] == ["macro-F1", "accuracy, %"]
    assert "| policy | macro-F1 | accuracy, % |" in markdown
    assert csv_header.startswith('policy,macro-F1,macro-F1 (std),"accuracy, %"')
    assert r"policy & macro-F1 & accuracy, \% &" in tex
    (panel, _) = comparison_drawing(FOUND).panels
    assert isinstance(panel, Panel)
    assert panel.y_label == "macro-F1"


def test_each_links_has_a_table_as_csv_and_latex(written: Path) -> None:
    names = sorted(path.name for path in (written / "tables").iterdir())
    assert names == ["1-run.csv", "1-run.tex", "2-perfect.csv", "2-perfect.tex"]
    assert r"\toprule" in (written / "tables" / "1-run.tex").read_text("utf-8")


def test_the_figure_has_a_panel_for_each_links_and_a_name_for_each_policy(written: Path) -> None:
    names = {path.suffix for path in (written / "figures").glob("policies.*")}
    assert names == {".svg", ".pdf", ".pgf", ".csv", ".py"}
    drawing = comparison_drawing(FOUND)
    own, perfect = drawing.panels
    assert isinstance(own, Panel)
    assert isinstance(perfect, Panel)
    assert [own.title, perfect.title] == ["the run's links, ideal", "perfect links, ideal"]
    assert (own.x_label, perfect.x_label) == ("energy per query, µJ", "experts asked per query")
    assert [(line.label, *line.x, *line.y) for line in own.curves] == [
        ("topk:1", pytest.approx(2), pytest.approx(0.85)),
        ("local", 0, 0.5),
    ]
    assert own.curves[0].look == perfect.curves[0].look != own.curves[1].look


def test_panels_over_the_same_process_with_other_parameters_have_titles_of_their_own() -> None:
    rows = tuple(
        replace(FOUND.rows[0], links=links) for links in ("rayleigh:5", "rayleigh:10", "gauss-markov:10:0.9")
    )
    titles = [panel.title for panel in comparison_drawing(Comparison(rows, ())).panels]
    assert [title.partition(" links")[0] for title in titles] == [row.links for row in rows]


def test_the_screen_fits_80_columns_with_every_figure() -> None:
    from rich.console import Console

    console = Console(width=80, file=io.StringIO(), record=True)
    for table in comparison_on_screen(FOUND):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"topk:1 +0\.850 ± 0\.071 +85\.0 +2\.00 +1,640 +1\.50 +25\.0", text)
    assert remarks(FOUND) == ["jesa:0.3:2 over perfect links: left out, no links_to allocate"]


def test_a_policy_that_asks_nobody_else_is_told(tmp_path: Path) -> None:
    rows = tuple(
        measured(policy, seed, 0.5, own=own)
        for policy, own in (("local", 1.0), ("best-link:1", 1.0), ("best-link:2", 0.5))
        for seed in (0, 1)
    )
    found = Comparison(rows, ())
    (told,) = remarks(found)
    assert told.startswith("best-link:1 over run links: every client asks its own expert only, as in local")
    write_comparison(found, tmp_path / "out", "it", "0" * 16)
    assert told in (tmp_path / "out" / "tables.md").read_text("utf-8")


def test_a_policy_that_chooses_nobody_is_told_and_is_not_said_to_ask_its_own_expert(tmp_path: Path) -> None:
    rows = (
        *(measured("shy", seed, 0.5, own=1.0, none=1.0) for seed in (0, 1)),
        *(measured("coy", seed, 0.5, none=seed / 8) for seed in (0, 1)),
        measured("topk:1", 0, 0.5),
    )
    found = Comparison(rows, ())
    assert remarks(found) == [
        "shy over run links: chose no expert for 100 % of the queries; the asker's own answered",
        "coy over run links: chose no expert for 6.25 % of the queries; the asker's own answered",
    ]
    write_comparison(found, tmp_path / "out", "it", "0" * 16)
    assert remarks(found)[0] in (tmp_path / "out" / "tables.md").read_text("utf-8")


def test_a_policy_that_asks_all_experts_is_told() -> None:
    rows = tuple(
        replace(measured(policy, seed, 0.5), experts=experts)
        for policy, experts in (("all", 3.0), ("topk:9", 3.0), ("topk:2", 2.0), ("ensemble", 3.0))
        for seed in (0, 1)
    )
    told = remarks(Comparison(rows, ()))
    assert told == ["topk:9 over run links: every query asks all experts, as in all"]


def test_a_folder_that_exists_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="a folder that does not exist yet"):
        write_comparison(FOUND, tmp_path, "it", "0" * 16)
    assert list(tmp_path.iterdir()) == []


def evaluate(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def test_the_command_prints_the_table_and_writes_the_folder(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = evaluate(run_folder, "--policy", "topk:2", "--links", "perfect", "--seeds", 1, "--out", out)
    assert ended.exit_code == 0, ended.output
    assert re.search(r"topk:2 +0\.\d{3} +\d\d\.\d +\d", ended.output)
    assert "450 held-out images of digits" in ended.output
    names = sorted(path.name for path in out.iterdir())
    assert names == ["evaluation.csv", "figures", "run.json", "tables", "tables.md"]


NOBODY = """
import numpy as np
from airmoe.plugins import register
from airmoe.scheduling import routing_of

@register("policy", "nobody")
class Nobody:
    def route(self, scores_TE, cost, slot):
        return routing_of(np.zeros(scores_TE.shape, bool), cost)
"""


def test_an_evaluation_by_a_plugin_keeps_it_and_says_what_made_it(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, out = tmp_path / "nobody.py", tmp_path / "out"
    plugin.write_text(NOBODY, encoding="utf-8")
    words = ["evaluate", run_folder, "--plugin", plugin, "--policy", "nobody", "--seeds", 1, "--out", out]
    monkeypatch.setattr("sys.argv", ["airmoe", *map(str, words)])
    ended = evaluate(*words[1:])
    assert "nobody over run links: chose no expert for 100 % of the queries" in ended.output
    record = json.loads((out / "run.json").read_text("utf-8"))
    (kept,) = record["plugins"]
    assert kept["sha256"] == hashlib.sha256((out / "plugins" / "nobody.py").read_bytes()).hexdigest()
    assert (kept["file"], kept["parts"]) == ("nobody.py", ["policy nobody"])
    assert record["model_hash"] == load_run(run_folder).manifest.model_hash
    assert set(record) >= {"versions", "host", "threads", "command"}
    assert str(tmp_path) not in (out / "run.json").read_text("utf-8") + (out / "tables.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "topk"], "policy is 'topk'; expected topk:K"),
        (["--links", "pigeon"], "links is 'pigeon'; expected run, perfect"),
        (["--seeds", "0"], "seeds is 0"),
        (["--out", "."], "out is '.'; expected a folder that does not exist yet"),
        (["--data-dir", "nowhere"], "data_dir is 'nowhere'; expected no folder: digits reads none"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(run_folder: Path, words: list[str], said: str) -> None:
    ended = evaluate(run_folder, *words)
    assert isinstance(ended.exception, InvalidInputError)
    assert str(ended.exception).startswith(said)


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    assert isinstance(evaluate(tmp_path).exception, RunFolderError)
