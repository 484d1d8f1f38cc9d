"""What training on own photos refuses before it reads one of them."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.cli import app as cli
from airmoe.data import image_file
from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.networked.config import parse_config
from airmoe.newfolder import CONFIG
from airmoe.runs.settings import dump_config


@pytest.fixture(autouse=True)
def unread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Photos in the current folder; an attempt to read one fails the test."""

    def read(*_: object) -> None:
        raise AssertionError("an image was read")

    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (40, 40)).save(tmp_path / "photos" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_file, "_opened", read)


def refusal(*words: str) -> Exception:
    told = CliRunner().invoke(cli.app, ["train", "--data", "folder:photos", *words])
    assert isinstance(told.exception, Exception)
    return told.exception


@pytest.mark.parametrize("method", ["networked", "channel-aware"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "8"], "size is 8; expected 16 x 16 at least for lenet5"),
        (["--size", "28", "--backbone", "vit"], "size is 28; expected multiples of 8 for vit"),
        (["--backbone", "hf:./none"], "backbone is 'hf:./none'; expected an existing folder"),
    ],
)
def test_a_backbone_that_cannot_be_built(method: str, words: list[str], said: str) -> None:
    error = refusal("--method", method, *words)
    assert isinstance(error, InvalidInputError)
    assert str(error).startswith(said)


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        ("folder:moved", "lenet5", "folder:moved, but there is no such folder (looked for in "),
        ("folder:photos", "hf:./moved", "hf:./moved, but backbone is 'hf:./moved'; expected an existing "),
    ],
)
def test_a_run_that_is_resumed_in_another_folder(tmp_path: Path, data: str, model: str, said: str) -> None:
    begun = tmp_path / "run.partial"
    begun.mkdir()
    settings = parse_config(f'data.name = "{data}"\nmodel.backbone = "{model}"', "it")
    (begun / CONFIG).write_text(dump_config(settings), "utf-8")
    told = CliRunner().invoke(cli.app, ["train", "--resume", "--out", "run"])
    assert isinstance(told.exception, RunFolderError)
    assert str(told.exception).startswith(f"run.partial was trained with {said}")
    assert str(told.exception).endswith("; go to the folder where it was trained")


def test_experts_on_a_pretrained_backbone_have_a_width_without_being_told() -> None:
    pretrained = ChannelAwareConfig.model_validate({"model": {"backbone": "hf:some/vit"}})
    assert pretrained.model.expert_hidden == 256
    assert ChannelAwareConfig().model.expert_hidden is None
