"""A run that was interrupted ends at the same weights; what cannot be taken up is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError, TrainingDivergedError
from airmoe.networked import split_among_clients, train_run
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.stages import train_stages
from airmoe.progress import Progress
from airmoe.runs.checkpoint import Checkpoint
from tests.killed import killed_while_writing
from tests.monitor.scalars import scalars
from tests.system.commands import all_under

Config = Callable[..., NetworkedConfig]


class Interrupted(Exception):
    """As if the process had ended."""


def stop_after(stage: str, round_: int) -> Progress:
    def progress(activity: str, done: int, total: int, note: str = "", /) -> None:
        if (activity, done) == (stage, round_):
            raise Interrupted

    return progress


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.relative_to(out)}: {name}": tensor
        for path in sorted(out.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, few_digits: ImageSet, tiny_config: Config
) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    train_run(tiny_config(), few_digits, out)
    return out


@pytest.fixture
def interrupted(tmp_path: Path, few_digits: ImageSet, tiny_config: Config) -> Path:
    """Where a run would lie that was stopped in stage 1."""
    with pytest.raises(Interrupted):
        train_run(tiny_config(), few_digits, tmp_path / "run", progress=stop_after("features", 2))
    return tmp_path / "run"


def same(one: Path, other: Path) -> bool:
    mine, theirs = weights_of(one), weights_of(other)
    assert len(mine) == 12 + 2 * 4  # 8 of the extractor, 4 of the gate, 4 of each expert
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_an_interrupted_run_leaves_no_run_folder_but_what_can_be_taken_up(interrupted: Path) -> None:
    assert not interrupted.exists()
    assert [p.name for p in interrupted.parent.iterdir()] == ["run.partial"]
    partial = interrupted.with_name("run.partial")
    assert {p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()} == {
        *("config.toml", "run.json", "metrics.jsonl"),
        "checkpoint/features.safetensors",
        "checkpoint/seconds.json",
        "tensorboard/events.out.tfevents.0.airmoe",
    }


def test_interrupted_again_and_again_it_ends_at_the_same_weights_bit_for_bit(
    tmp_path: Path, uninterrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    out, resume = tmp_path / "run", False
    for stage, round_ in [
        ("features", 1),
        ("features", 3),
        ("experts", 1),
        ("experts", 2),
        ("gate", 1),
        ("gate", 2),
        ("gate", 3),
    ]:
        torch.manual_seed(round_)  # nothing hangs on the global generator
        with pytest.raises(Interrupted):
            train_run(tiny_config(), few_digits, out, resume=resume, progress=stop_after(stage, round_))
        resume = True
    train_run(tiny_config(), few_digits, out, resume=True)
    assert same(uninterrupted, out)
    assert (out / "metrics.jsonl").read_bytes() == (uninterrupted / "metrics.jsonl").read_bytes()
    assert scalars(out / "tensorboard") == scalars(uninterrupted / "tensorboard")
    assert not out.with_name("run.partial").exists()


@pytest.mark.parametrize("channel_aware", [False, True])
@pytest.mark.parametrize(("stage", "round_"), [("features", 2), ("experts", 1), ("gate", 2)])
def test_interrupted_once_in_any_stage_it_ends_at_the_same_weights(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config, stage: str, round_: int, channel_aware: bool
) -> None:
    config = tiny_config(data={"clients": 3}, gate={"channel_aware": channel_aware}, seed=5)
    data = split_among_clients(config, few_digits)
    whole = train_stages(config, data)
    checkpoint = Checkpoint(tmp_path, "x")
    with pytest.raises(Interrupted):
        train_stages(config, data, checkpoint=checkpoint, progress=stop_after(stage, round_))
    resumed = train_stages(config, data, checkpoint=checkpoint)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    assert resumed.rows == whole.rows


def test_resuming_does_not_train_again_what_was_trained(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    config, checkpoint, told = tiny_config(), Checkpoint(tmp_path, "x"), list[tuple[object, ...]]()
    data = split_among_clients(config, few_digits)
    with pytest.raises(Interrupted):
        train_stages(config, data, checkpoint=checkpoint, progress=stop_after("features", 2))
    train_stages(config, data, checkpoint=checkpoint, progress=lambda *args: told.append(args))
    rounds = [("features", 3, 3), *(("experts", done, 2) for done in (1, 2))]
    assert [args[:3] for args in told] == [*rounds, *(("gate", done, 3) for done in (1, 2, 3))]
    told.clear()
    train_stages(config, data, checkpoint=checkpoint, progress=lambda *args: told.append(args))
    assert told == []


def test_metrics_are_written_as_they_grow(
    interrupted: Path, uninterrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    growing = interrupted.with_name("run.partial") / "metrics.jsonl"
    whole = (uninterrupted / "metrics.jsonl").read_text("utf-8").splitlines()
    assert growing.read_text("utf-8").splitlines() == whole[:2]
    with pytest.raises(Interrupted):
        train_run(tiny_config(), few_digits, interrupted, resume=True, progress=stop_after("gate", 1))
    features, experts, statistics, gate = 3, 1, 1, 1
    assert growing.read_text("utf-8").splitlines() == whole[: features + experts + statistics + gate]


def test_what_a_kill_left_torn_is_mended(
    interrupted: Path, uninterrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    partial = interrupted.with_name("run.partial")
    for growing in (partial / "metrics.jsonl", *(partial / "tensorboard").iterdir()):
        growing.write_bytes(growing.read_bytes()[:-7])
    with pytest.raises(Interrupted):
        train_run(tiny_config(), few_digits, interrupted, resume=True, progress=stop_after("features", 3))
    whole = (uninterrupted / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    assert (partial / "metrics.jsonl").read_bytes() == b"".join(whole[:3])
    told = scalars(uninterrupted / "tensorboard")
    assert scalars(partial / "tensorboard") == {
        tag: steps for tag, steps in told.items() if tag.startswith("features/")
    }


def test_what_a_kill_left_half_written_is_no_part_of_the_run(
    interrupted: Path, uninterrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    partial = interrupted.with_name("run.partial")
    killed_while_writing(partial / "metrics.jsonl")
    killed_while_writing(partial / "checkpoint" / "features.safetensors")
    train_run(tiny_config(), few_digits, interrupted, resume=True)
    assert all_under(interrupted).keys() == all_under(uninterrupted).keys()


def test_tensorboard_shows_every_number_of_every_stage(uninterrupted: Path) -> None:
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in (uninterrupted / "metrics.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        stage, round_ = row.pop("stage"), row.pop("round")
        for name, value in row.items():
            expected.setdefault(f"{stage}/{name}", []).append((round_, pytest.approx(value, rel=1e-6)))
    assert {"features/macro_f1", "features/bytes", "gate/macro_f1", "gate/loss"} <= expected.keys()
    assert scalars(uninterrupted / "tensorboard") == expected


def test_another_seed_gives_other_weights(few_digits: ImageSet, tiny_config: Config) -> None:
    first, other = (
        train_stages(config, split_among_clients(config, few_digits)).model.state_dict()
        for config in (tiny_config(seed=0), tiny_config(seed=1))
    )
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda raw: raw[: len(raw) // 2], id="cut off"),
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: raw[:5], id="cut off in its length"),
        pytest.param(lambda raw: b"\xff" * 16 + raw[16:], id="header overwritten"),
        pytest.param(lambda raw: raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:], id="one bit flipped"),
        pytest.param(lambda raw: b"something else altogether", id="another file"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(
    interrupted: Path, few_digits: ImageSet, tiny_config: Config, harm: Callable[[bytes], bytes]
) -> None:
    path = interrupted.with_name("run.partial") / "checkpoint" / "features.safetensors"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(RunFolderError, match=r"features\.safetensors is damaged \(.*\); remove it") as raised:
        train_run(tiny_config(), few_digits, interrupted, resume=True)
    assert "\n" not in str(raised.value)
    assert not interrupted.exists()


def test_a_checkpoint_of_another_configuration_is_refused(
    interrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    with pytest.raises(RunFolderError, match="belongs to another configuration"):
        train_run(tiny_config(gate={"balance": 0.5}), few_digits, interrupted, resume=True)


def test_a_checkpoint_of_other_images_is_refused(
    interrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    others = replace(few_digits, train_images=255 - few_digits.train_images)
    with pytest.raises(RunFolderError, match="belongs to another configuration"):
        train_run(tiny_config(), others, interrupted, resume=True)


def test_without_resume_an_unfinished_run_is_left_alone(
    interrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    with pytest.raises(InvalidInputError, match="no unfinished run; resume"):
        train_run(tiny_config(), few_digits, interrupted)


def test_there_must_be_something_to_resume(tmp_path: Path, few_digits: ImageSet, tiny_config: Config) -> None:
    with pytest.raises(RunFolderError, match="there is nothing to resume"):
        train_run(tiny_config(), few_digits, tmp_path / "run", resume=True)
    assert not list(tmp_path.iterdir())


def test_a_finished_run_says_so_where_it_is_to_be_resumed(
    uninterrupted: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    with pytest.raises(InvalidInputError, match="this one is finished"):
        train_run(tiny_config(), few_digits, uninterrupted, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_folder_that_exists_is_left_alone(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config, resume: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"out is '.*run'; expected a folder that does not exist yet"):
        train_run(tiny_config(), few_digits, tmp_path / "run", resume=resume)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["run", "run/notes.txt"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"data": {"clients": 500}}, "clients is 500"),
        ({"model": {"width": 5}}, "width is 5; expected it left out: lenet5 offers no choice of it"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_it_begins(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config, changes: dict[str, object], key: str
) -> None:
    with pytest.raises(InvalidInputError, match=key):
        train_run(tiny_config(**changes), few_digits, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "said", "kept"),
    [
        ("features", "features: no reply was of use in round 1 of 3; 0: the loss is", []),
        ("experts", "experts: a weight of client 0's expert is not finite", ["features"]),
        ("gate", "gate: ", ["experts", "features", "gate statistics"]),
    ],
)
def test_a_run_that_diverges_says_where_and_keeps_what_was_good(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config, section: str, said: str, kept: list[str]
) -> None:
    with pytest.raises(TrainingDivergedError, match=said):
        train_run(tiny_config(**{section: {"learning_rate": 1e30}}), few_digits, tmp_path / "run")
    checkpoints = tmp_path.rglob("*.safetensors")
    assert sorted(path.stem for path in checkpoints) == kept
    assert not (tmp_path / "run").exists()


def test_training_leaves_the_number_of_threads_as_it_was(
    tmp_path: Path, few_digits: ImageSet, tiny_config: Config
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(Interrupted):
            train_run(tiny_config(), few_digits, tmp_path / "run", progress=stop_after("gate", 1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
