"""The page "Your method in a study" works as it stands: its files and its commands."""

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from airmoe.cli.app import app
from airmoe.data import partition
from airmoe.plugins import load_plugins, unload_plugins
from airmoe.scheduling import Cost, Slot, make_policy
from tests.system.commands import ended
from tests.test_examples import lines_of_code

ROOT = Path(__file__).resolve().parents[1]
OWN = ROOT / "examples" / "own_method"
POLICY, PARTITION = OWN / "good_enough.py", OWN / "unequal.py"
PAGE = (ROOT / "docs" / "how-to" / "own-method.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    unload_plugins()


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("path", [POLICY, PARTITION], ids=lambda path: path.stem)
def test_the_files_are_short_and_on_the_page(path: Path) -> None:
    assert lines_of_code(path.read_text(encoding="utf-8")) < 20
    assert f'--8<-- "examples/own_method/{path.name}"' in PAGE


def test_the_policy_takes_the_cheapest_of_the_good_experts() -> None:
    load_plugins([POLICY])
    slot, cost = Slot(source_T=[0], placement=[0, 1, 2]), Cost([[3.0, 1.0, 2.0]])
    scores_TE = np.array([[0.6, 0.1, 0.3]])
    for share, expert in ((0.1, 1), (0.5, 2), (0.9, 0)):
        assert make_policy(f"good-enough:{share}").route(scores_TE, cost, slot).mask_TE[0].argmax() == expert


def test_the_partition_gives_each_client_as_many_times_the_images_of_the_one_before_as_its_ratio_says() -> (
    None
):
    load_plugins([PARTITION])
    parts = partition(np.arange(2000) % 10, 4, "unequal:3", seed=0)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(2000))
    sizes = [len(part) for part in parts]
    assert sizes == pytest.approx([2000 * 3**client / 40 for client in range(4)], abs=1)


def test_the_command_of_the_page_evaluates_the_policy(run_folder: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"^airmoe evaluate (.*)$", PAGE, flags=re.MULTILINE)
    places = {"runs/mine-evaluated": tmp_path / "out", "runs/mine": run_folder, "good_enough.py": POLICY}
    told = run("evaluate", *(places.get(word, word) for word in command.split()))
    assert told.exit_code == 0, told.output
    with (tmp_path / "out" / "evaluation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_mine = [row for row in rows if row["policy"] == "good-enough:0.3"]
    assert [row["links"] for row in of_mine] == ["run"] * 3 + ["rayleigh:5"] * 3
    spent = {
        name: sum(float(row["energy_j"]) for row in rows if row["policy"] == name)
        for name in ("good-enough:0.3", "topk:1")
    }
    assert 0 < spent["good-enough:0.3"] < spent["topk:1"]


def test_the_command_of_the_page_puts_it_into_a_study_also_with_workers(tmp_path: Path) -> None:
    (command,) = re.findall(r"^airmoe (study selection .*)$", PAGE, flags=re.MULTILINE)
    shutil.copy(OWN / "energy_by_importance.toml", (settings := tmp_path / "settings").mkdir() or settings)
    places = {"settings": settings, "good_enough.py": POLICY, "--quick": "--smoke"}
    told = ended(*(places.get(word, word) for word in command.split()), "--out", tmp_path / "workers")
    assert told.returncode == 0, told.stderr
    alone = run(
        "study", "selection", "--smoke", "--settings", settings, "--plugin", POLICY, "--out", tmp_path / "one"
    )
    assert alone.exit_code == 0, alone.output
    rows = (tmp_path / "workers" / "energy_by_importance.csv").read_text("utf-8")
    assert rows == (tmp_path / "one" / "energy_by_importance.csv").read_text("utf-8")
    assert rows.count("good_enough,") > 2
    kept = tmp_path / "one" / "plugins" / "good_enough.py"
    assert kept.read_text("utf-8") == POLICY.read_text("utf-8")


def test_a_study_without_the_plugin_says_what_it_knows(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    shutil.copy(OWN / "energy_by_importance.toml", settings)
    told = run("study", "selection", "--smoke", "--settings", settings, "--out", tmp_path / "out")
    assert "curves.good_enough" in str(told.exception)
    assert "policy is 'good-enough:{importance}'; expected one of des, wlr" in str(told.exception)
