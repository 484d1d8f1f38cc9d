"""A run folder of a language model: written, resumed, read, and asked by the command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from airmoe.cli.app import app
from airmoe.errors import AirmoeError, InvalidInputError, RunFolderError
from airmoe.language import Texts, TransformerSettings
from airmoe.language.config import BranchSettings, DmoeConfig, MixSettings, StepSettings
from airmoe.language.run import load_dmoe, train_dmoe_run
from airmoe.language.stages import DmoeModel
from airmoe.runs import load_run
from tests.language.test_stages import Stopped

CONFIG = DmoeConfig(
    model=TransformerSettings(width=16, layers=2, heads=2, expert_hidden=16, context=48),
    dense=StepSettings(steps=6, batch_size=4),
    branch=BranchSettings(steps=3, batch_size=4),
    mix=MixSettings(steps=3, batch_size=4),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, texts: Texts) -> tuple[Path, DmoeModel]:
    out = tmp_path_factory.mktemp("language") / "run"
    return out, train_dmoe_run(CONFIG, texts, out)


def test_a_run_is_read_back_as_it_was_trained(run: tuple[Path, DmoeModel], texts: Texts) -> None:
    out, trained = run
    loaded = load_dmoe(out)
    assert loaded.config == CONFIG
    for read, made in ((loaded.model, trained.model), (loaded.seed, trained.seed)):
        assert not read.training
        assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in read.state_dict().items())
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["texts"] == texts.digest
    assert set(record["seconds"]) == {"dense", *(f"expert {e}" for e in range(4)), "mix"}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == trained.rows
    assert set(rows[-1]) == {"stage", "round", "bits_per_byte_one", "bits_per_byte_two"}
    assert not (out / "checkpoint").exists()


def test_an_interrupted_run_goes_on_with_the_same_settings_and_texts_alone(
    run: tuple[Path, DmoeModel],
    texts: Texts,
    tmp_path: Path,
) -> None:
    def stop(stage: str, done: int, total: int, note: str = "", /) -> None:
        if stage == "expert 2":
            raise Stopped

    with pytest.raises(Stopped):
        train_dmoe_run(CONFIG, texts, tmp_path / "run", progress=stop)
    with pytest.raises(RunFolderError, match="another configuration, data set or version"):
        train_dmoe_run(CONFIG.model_copy(update={"seed": 1}), texts, tmp_path / "run", resume=True)
    other = Texts(texts.name, texts.domains[::-1])
    with pytest.raises(RunFolderError, match="another configuration, data set or version"):
        train_dmoe_run(CONFIG, other, tmp_path / "run", resume=True)
    train_dmoe_run(CONFIG, texts, tmp_path / "run", resume=True)
    for name in ("model", "seed"):
        whole, resumed = (folder / "shared" / f"{name}.safetensors" for folder in (run[0], tmp_path / "run"))
        assert whole.read_bytes() == resumed.read_bytes()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda out: (out / "shared" / "model.safetensors").unlink(), "No such file"),
        (lambda out: (out / "shared" / "model.safetensors").write_bytes(b"short"), "damaged"),
        (lambda out: (out / "config.toml").write_text('method = "networked"'), "a run of method 'networked'"),
        (lambda out: (out / "config.toml").write_text("method = "), "damaged"),
        (lambda out: (out / "config.toml").write_text('method = "dmoe"\nseeed = 1'), "seeed"),
        (lambda out: (out / "run.json").write_text("{"), "damaged"),
    ],
)
def test_a_folder_that_is_none_is_refused(
    run: tuple[Path, DmoeModel], tmp_path: Path, spoil: object, named: str
) -> None:
    for path in run[0].rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(run[0])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(RunFolderError, match=named):
        load_dmoe(tmp_path)


def told(*words: str) -> str:
    result = CliRunner().invoke(app, ["generate", *words])
    if result.exception is not None and isinstance(result.exception, AirmoeError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return re.sub(r", [\d.]+ ms a byte \(.*?\)", "", result.output)


def test_the_command_writes_on_from_a_prompt_and_says_what_it_takes(run: tuple[Path, DmoeModel]) -> None:
    here = told(str(run[0]), "abc", "--length", "12")
    assert here.startswith("abc")
    assert "12 bytes, 2.00 experts per byte and layer" in here
    over_links = told(str(run[0]), "abc", "--length", "12", "--snr-db", "10")
    assert over_links.partition("\n12 bytes")[0] == here.partition("\n12 bytes")[0]
    assert "µJ on simulated links in all, prompt included" in over_links
    assert told(str(run[0]), "abc", "--length", "12", "--snr-db", "10") == over_links
    assert told(str(run[0]), "abc", "--length", "12", "--snr-db", "10", "--seed", "1") != over_links
    cheap = told(str(run[0]), "abc", "--length", "12", "--snr-db", "10", "--policy", "jesa:0.3:2")
    joules = [float(text.rpartition("layer; ")[2].partition(" µJ")[0]) for text in (cheap, over_links)]
    assert 0 < joules[0] < joules[1]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["", "--length", "3"], "prompt is ''; expected at least one character"),
        (["abc", "--length", "0"], "length is 0"),
        (
            ["abc", "--length", "100"],
            "length is 100; expected at most 46: the context is 48, the longest prompt 3 bytes",
        ),
        (["abc", "--snr-db", "nan"], "snr-db is nan"),
        (
            ["abc", "--policy", "jesa:0.5:2"],
            "policy is 'jesa:0.5:2'; expected one that is not joint, or --snr-db",
        ),
        (["abc", "--policy", "best"], "policy is 'best'"),
        (["abc", "--temperature", "-1"], "temperature is -1.0"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    run: tuple[Path, DmoeModel], words: list[str], named: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        told(str(run[0]), *words)
    assert named in str(refused.value)


def test_a_prompt_that_is_no_utf_8_is_refused(run: tuple[Path, DmoeModel]) -> None:
    command = [sys.executable, "-m", "airmoe.cli", "generate", str(run[0]), b"ab\xff"]
    ended = subprocess.run(command, capture_output=True, timeout=500, check=False)
    assert ended.returncode == 2
    assert b"expected text in UTF-8" in ended.stderr


def test_commands_for_images_say_what_the_folder_is(run: tuple[Path, DmoeModel]) -> None:
    with pytest.raises(RunFolderError, match="is the run of a language model, which airmoe generate takes"):
        load_run(run[0])
