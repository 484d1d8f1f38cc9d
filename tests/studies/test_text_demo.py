"""The demonstration of a language model, on two made-up languages."""

import json
from pathlib import Path

import pytest

from airmoe.errors import InvalidInputError
from airmoe.language import Texts, TransformerSettings
from airmoe.language.config import BranchSettings, DmoeConfig, MixSettings, StepSettings
from airmoe.runfolder import client_folders
from airmoe.studies.text_demo.results import TextDemoResults
from airmoe.studies.text_demo.run import run_text_demo
from tests.language.conftest import texts
from tests.system.commands import ended_in_fork, processes_about

__all__ = ["texts"]

CONFIG = DmoeConfig(
    model=TransformerSettings(width=16, layers=2, heads=2, expert_hidden=16, context=48),
    dense=StepSettings(steps=40, batch_size=8),
    branch=BranchSettings(steps=20, batch_size=8, learning_rate=3e-3),
    mix=MixSettings(steps=3, batch_size=4),
    replicas=2,
)


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory, texts: Texts) -> tuple[Path, TextDemoResults]:
    out = tmp_path_factory.mktemp("demonstrated") / "run"
    return out, run_text_demo(CONFIG, texts, out, prompt="abcd", length=20)


def test_what_it_tells_is_what_it_wrote(demonstrated: tuple[Path, TextDemoResults]) -> None:
    out, results = demonstrated
    told = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert told["prompt"] == results.prompt
    assert [each["text"] for each in told["written"]] == [each.text for each in results.written]
    assert len(client_folders(out)) == 4


def test_processes_write_the_text_of_one_process_whoever_is_missing(
    demonstrated: tuple[Path, TextDemoResults],
) -> None:
    _, results = demonstrated
    mesh, http, without, killed, alone = results.written
    assert len(mesh.text) == 20
    assert all(each.same for each in (mesh, http, without, killed))
    assert {each.degraded for each in (mesh, http, without)} == {0}
    assert killed.after_kill_ms is not None
    assert alone.after_kill_ms is not None
    assert alone.degraded > 0
    assert results.difference < 1e-4


def test_the_mixture_beats_the_seed_and_energy_is_told_over_links_alone(
    demonstrated: tuple[Path, TextDemoResults],
) -> None:
    _, results = demonstrated
    assert results.domains == ("one", "two")
    names = [each.model for each in results.predicted]
    assert names == [
        "dense seed",
        *(f"expert {expert} alone" for expert in range(4)),
        "mixture, top-2",
        "mixture, topk:2 over links",
        "mixture, jesa:0.7:2 over links",
    ]
    bits = {each.model: each.bits_per_byte[-1] for each in results.predicted}
    assert bits["mixture, top-2"] < bits["dense seed"]
    assert bits["mixture, top-2"] == pytest.approx(bits["mixture, topk:2 over links"], abs=1e-6)
    *here, topk, jesa = results.predicted
    assert all(each.energy_j is None for each in here)
    assert topk.energy_j is not None
    assert jesa.energy_j is not None
    assert 0 < jesa.energy_j < topk.energy_j


def test_no_process_is_left(demonstrated: tuple[Path, TextDemoResults]) -> None:
    assert processes_about(demonstrated[0]) == {}


@pytest.mark.parametrize("changes", [{"replicas": 1}, {"model": TransformerSettings(experts=2)}])
def test_who_is_to_be_killed_needs_another_that_holds_its_expert(
    tmp_path: Path, texts: Texts, changes: dict[str, object]
) -> None:
    config = CONFIG.model_copy(update=changes)
    with pytest.raises(InvalidInputError, match="3 experts or more, at 2 nodes or more each"):
        run_text_demo(config, texts, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value"), [("--size", "28"), ("--clients", "5"), ("--analog", None), ("--config", "a.toml")]
)
def test_options_about_images_are_refused(tmp_path: Path, option: str, value: str | None) -> None:
    told = ended_in_fork(
        "demo", "--text", option, *([] if value is None else [value]), "--out", tmp_path / "run"
    )
    assert told.returncode == 2
    assert "expected nothing beside --text" in told.stderr
    assert not list(tmp_path.iterdir())
