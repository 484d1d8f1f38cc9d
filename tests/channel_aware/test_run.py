"""A channel-aware run, from images or the command line to a run folder, and its settings."""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from airmoe.channel_aware import ChannelAwareConfig, train_channel_aware
from airmoe.channel_aware import run as channel_aware_run
from airmoe.channel_aware.config import published
from airmoe.channel_aware.models import initial_model
from airmoe.channel_aware.stages import channel_aware_fingerprint
from airmoe.cli import app as cli
from airmoe.cli.settings import channel_aware_settings, method_of
from airmoe.data import ImageSet
from airmoe.errors import DataError, InvalidInputError, RunFolderError, TrainingDivergedError
from airmoe.nn import MoeLayer
from airmoe.progress import Progress
from airmoe.runs import load_run
from airmoe.runs.checkpoint import Checkpoint
from airmoe.runs.settings import dump_config, parse_section
from tests.machine import traces_of_a_machine
from tests.monitor.scalars import scalars
from tests.system.commands import all_under

TINY = """
method = "channel-aware"
seed = 3
[data]
name = "digits"
train_images = 96
flip = false
[model]
experts = 2
[clean]
epochs = 2
batch_size = 32
warmup = 0.9
[channel]
epochs = 2
batch_size = 32
warmup = 0.9
"""


def tiny(**channel: Any) -> ChannelAwareConfig:
    config = parse_section(ChannelAwareConfig, TINY, "tiny")
    return config.model_copy(update={"channel": config.channel.model_copy(update=channel)})


def without_channel(**channel: Any) -> ChannelAwareConfig:
    """The tiny run with stage 1 as published, over a perfect channel."""
    clean = published().clean.model_copy(update={"epochs": 2, "batch_size": 32})
    return tiny(**channel).model_copy(update={"clean": clean})


class Interrupted(Exception):
    """As if the process had ended."""


def at_step(stage: str, step: int) -> Progress:
    """Interrupt when so many steps of a stage are done; an epoch has three, and is kept at its end."""

    def progress(activity: str, done: int, total: int, note: str = "") -> None:
        if (activity, done) == (stage, step):
            raise Interrupted

    return progress


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_digits: ImageSet) -> Path:
    """The run folder of a tiny run."""
    out = tmp_path_factory.mktemp("channel_aware") / "run"
    torch.set_num_threads(2)
    train_channel_aware(tiny(), few_digits, out, device="cpu")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    return out


@pytest.fixture
def unexported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without the export, which takes longer than all else."""
    monkeypatch.setattr(channel_aware_run, "export_run", lambda folder, *args, **options: None)


def test_the_run_folder_holds_what_a_server_and_expert_nodes_run_from(run: Path) -> None:
    files = {name for name, content in all_under(run).items() if content is not None}
    events = {name for name in files if name.startswith("tensorboard/")}
    assert len(events) == 1
    assert files - events == {
        *("config.toml", "run.json", "metrics.jsonl"),
        *(f"shared/{part}.{kind}" for part in ("extractor", "gate") for kind in ("safetensors", "onnx")),
        *(
            f"clients/0{client}/{name}"
            for client in (0, 1)
            for name in (f"expert-{client}.safetensors", f"expert-{client}.onnx", "manifest.json")
        ),
        *(f"clients/server/{name}" for name in ("extractor.onnx", "gate.onnx", "manifest.json")),
    }
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_the_settings_of_a_run_folder_are_those_of_the_run(run: Path) -> None:
    text = (run / "config.toml").read_text(encoding="utf-8")
    assert parse_section(ChannelAwareConfig, text, "config.toml") == tiny()
    assert channel_aware_settings(None, run / "config.toml", None, None) == tiny()


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_metrics_are_those_of_every_epoch_and_of_held_out_images(run: Path) -> None:
    rows = rows_of(run)
    assert [(row["stage"], row["round"]) for row in rows] == [
        *((stage, epoch) for stage in ("clean", "channel") for epoch in (1, 2)),
        ("held out", 1),
    ]
    for accuracy in (rows[-1]["accuracy_perfect"], rows[-1]["accuracy"]):
        assert 0 <= accuracy <= 1
        assert (60 * accuracy) == pytest.approx(round(60 * accuracy))  # of 60 images


def test_the_record_names_seed_versions_and_host(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["seed"] == 3
    assert record["versions"]["torch"] == torch.__version__
    assert record["host"].keys() == {"system", "machine", "cores"}
    assert record["threads"] == 1  # though two were set outside


def test_the_exported_weights_are_the_trained_ones(run: Path, few_digits: ImageSet) -> None:
    model = initial_model(tiny(), few_digits)
    gate, untrained = load_file(run / "shared" / "gate.safetensors"), model.layer.gate.gate.state_dict()
    assert {name: tensor.shape for name, tensor in gate.items()} == {
        name: tensor.shape for name, tensor in untrained.items()
    }
    assert not torch.equal(gate["link_worth.weight_S"], untrained["link_worth.weight_S"])


def test_small_experts_and_a_small_gate_are_read_back_as_they_were_trained(
    tmp_path: Path, few_digits: ImageSet
) -> None:
    config = tiny(epochs=1)
    small = config.model.model_copy(update={"expert_hidden": 3, "gate_hidden": 5})
    train_channel_aware(config.model_copy(update={"model": small}), few_digits, tmp_path / "run")
    layer = load_run(tmp_path / "run").model.layer
    assert layer.gate.content.last.in_features == 5
    assert [type(part) for part in layer.experts[0].layers[:2]] == [nn.LayerNorm, nn.Linear]
    kept = load_file(tmp_path / "run/clients/00/expert-0.safetensors")
    for name, weight in layer.experts[0].state_dict().items():
        assert torch.equal(weight, kept[name])


def test_no_file_tells_of_this_machine_not_even_by_its_name(run: Path) -> None:
    assert traces_of_a_machine(run, str(run.parent)) == []


def test_progress_can_be_looked_at_with_tensorboard(run: Path) -> None:
    held_out = ["accuracy_perfect", "accuracy", "energy_j"]
    told = scalars(run / "tensorboard")
    assert list(told) == ["clean/loss", "channel/loss", *(f"held out/{name}" for name in held_out)]
    for stage, names in (("clean", ["loss"]), ("channel", ["loss"]), ("held out", held_out)):
        rows = [row for row in rows_of(run) if row["stage"] == stage]
        for name in names:
            assert told[f"{stage}/{name}"] == [
                (row["round"], pytest.approx(row[name], rel=1e-6)) for row in rows
            ]


def test_the_energy_of_held_out_images_is_that_of_the_experts_asked(run: Path) -> None:
    uses = 400 / 2 + 32  # of 400 features, analog, and of their norm, which takes more over a bad link
    least_j = tiny().model.k * uses * 1e-2 / 1e6
    assert least_j <= rows_of(run)[-1]["energy_j"] < 1.2 * least_j


def copied(model: MoeLayer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.usefixtures("unexported")
@pytest.mark.parametrize("stop", [("clean", 3), ("channel", 3), ("held out", 60)], ids=str)
def test_an_interrupted_run_ends_at_the_same_weights_rows_and_events(
    tmp_path: Path, run: Path, few_digits: ImageSet, stop: tuple[str, int]
) -> None:
    with pytest.raises(Interrupted):
        train_channel_aware(tiny(), few_digits, tmp_path / "run", device="cpu", progress=at_step(*stop))
    assert [path.name for path in tmp_path.iterdir()] == ["run.partial"]
    resumed = train_channel_aware(tiny(), few_digits, tmp_path / "run", device="cpu", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert rows_of(tmp_path / "run") == rows_of(run) == resumed.rows
    weights = copied(resumed.model)
    for name, tensor in load_file(run / "shared" / "extractor.safetensors").items():
        assert torch.equal(weights[f"extractor.{name}"], tensor)
    for expert in (0, 1):
        for name, tensor in load_file(
            run / "clients" / f"0{expert}" / f"expert-{expert}.safetensors"
        ).items():
            assert torch.equal(weights[f"layer.experts.{expert}.{name}"], tensor)
    assert scalars(tmp_path / "run" / "tensorboard") == scalars(run / "tensorboard")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({"config": tiny(extractor_rate=0.5)}, "belongs to another configuration"),
        ({"images": "others"}, "belongs to another configuration"),
        ({"resume": False}, "no unfinished run; resume"),
    ],
    ids=["settings", "images", "not to be resumed"],
)
def test_what_cannot_be_taken_up_is_refused(
    tmp_path: Path, few_digits: ImageSet, harm: dict[str, Any], said: str
) -> None:
    with pytest.raises(Interrupted):
        train_channel_aware(tiny(), few_digits, tmp_path / "run", device="cpu", progress=at_step("clean", 3))
    before = all_under(tmp_path)
    others = {"config": tiny(), "images": few_digits, "resume": True} | harm
    if others["images"] == "others":
        others["images"] = ImageSet(
            *("digits", 255 - few_digits.train_images, few_digits.train_labels),
            *(few_digits.test_images, few_digits.test_labels, few_digits.class_names),
        )
    with pytest.raises((RunFolderError, InvalidInputError), match=said):
        train_channel_aware(out=tmp_path / "run", device="cpu", **others)
    kept = {name: raw for name, raw in all_under(tmp_path).items() if "tensorboard/" not in name}
    assert kept == {name: raw for name, raw in before.items() if "tensorboard/" not in name}


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"data": {"train_images": 201}}, {}, "data.train_images is 201; expected at most 200"),
        ({"model": {"norm": "batch"}}, {}, "norm is 'batch'"),
        ({"channel": {"snr": "one-bad:0:9:3"}}, {}, "bad_link is 3; expected a link from 0 to 1"),
        ({}, {"device": "tpu"}, "device is 'tpu'; expected auto, cpu, or cuda"),
        ({}, {"resume": True}, "there is nothing to resume"),
    ],
    ids=["images", "norm", "law", "device", "resume"],
)
def test_a_run_that_cannot_be_is_refused_before_it_begins(
    tmp_path: Path, few_digits: ImageSet, changes: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    sections = tomllib.loads(TINY)
    for section, values in changes.items():
        sections[section] |= values
    config = ChannelAwareConfig.model_validate(sections)
    with pytest.raises((InvalidInputError, RunFolderError), match=said):
        train_channel_aware(config, few_digits, tmp_path / "run", **{"device": "cpu"} | options)
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverges_keeps_what_was_good(tmp_path: Path, few_digits: ImageSet) -> None:
    with pytest.raises(TrainingDivergedError, match="channel: "):
        train_channel_aware(tiny(learning_rate=1e30), few_digits, tmp_path / "run", device="cpu")
    assert [path.stem for path in tmp_path.rglob("*.safetensors")] == ["clean"]
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unexported")
@pytest.mark.usefixtures("unexported")
def test_a_mixture_that_learned_nothing_is_told_so(
    tmp_path: Path, digits: ImageSet, caplog: pytest.LogCaptureFixture
) -> None:
    for rate in (1e-3, 0.3):  # at the second no hidden value fires any more
        text = TINY.replace("warmup = 0.9", f"learning_rate = {rate}")
        config = parse_section(ChannelAwareConfig, text, "tiny")
        accuracy = train_channel_aware(config, digits, tmp_path / f"{rate}").rows[-1]["accuracy_perfect"]
        told = [record.getMessage() for record in caplog.records if "learned nothing" in record.message]
        assert len(told) == (rate == 0.3)
    assert f"is right about {100 * float(accuracy):.1f} % of the held-out images" in told[0]
    assert "always answers '1' about 10.2 %" in told[0]


def test_a_perfect_channel_is_as_good_as_none(tmp_path: Path, few_digits: ImageSet) -> None:
    trained = train_channel_aware(
        without_channel(snr="fixed:20", epochs=0), few_digits, tmp_path / "quiet", device="cpu"
    )
    row = trained.rows[-1]
    assert row["accuracy_perfect"] == pytest.approx(float(row["accuracy"]), abs=0.1)
    drowned = train_channel_aware(
        without_channel(snr="fixed:-60", epochs=0), few_digits, tmp_path / "noisy", device="cpu"
    )
    assert drowned.rows[-1]["accuracy_perfect"] == row["accuracy_perfect"]
    assert float(drowned.rows[-1]["accuracy"]) < 0.3


def test_a_gate_that_never_saw_links_is_served_and_judged_blind(
    tmp_path: Path, few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = without_channel(epochs=0)
    config = config.model_copy(update={"model": config.model.model_copy(update={"gate": "concat"})})
    shown = list[Tensor]()
    answer = MoeLayer.forward

    def watched(layer: MoeLayer, payload_T: Tensor, *args: Any, snr: Any = None, **options: Any) -> Any:
        if snr is not None:
            shown.append(torch.from_numpy(snr.observed_db_TE))
        return answer(layer, payload_T, *args, snr=snr, **options)

    monkeypatch.setattr(MoeLayer, "forward", watched)
    train_channel_aware(config, few_digits, tmp_path / "run", device="cpu")
    assert torch.cat(shown).unique().tolist() == [20.0]
    manifest = json.loads((tmp_path / "run" / "clients" / "server" / "manifest.json").read_text("utf-8"))
    assert manifest["asks"]["gates"] == [{"layer": 1, "file": "gate.onnx", "sees_snr": False}]


def test_a_gate_that_saw_links_in_stage_1_is_served_and_judged_so(
    tmp_path: Path, few_digits: ImageSet
) -> None:
    config = tiny(epochs=0)
    clean = config.clean.model_copy(update={"networks": 2})
    model = config.model.model_copy(update={"experts": 4, "gate": "bias"})
    config = config.model_copy(update={"clean": clean, "model": model})
    train_channel_aware(config, few_digits, tmp_path / "run", device="cpu")
    manifest = json.loads((tmp_path / "run" / "clients" / "server" / "manifest.json").read_text("utf-8"))
    assert manifest["asks"]["gates"] == [{"layer": 1, "file": "gate.onnx", "sees_snr": True}]


@pytest.mark.usefixtures("unexported")
def test_an_interrupted_command_says_how_to_go_on_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")

    def command(out: str, *options: str) -> Result:
        settings = ["--config", str(tmp_path / "tiny.toml"), "--device", "cpu"]
        words = ["train", *settings, "--out", str(tmp_path / out), *options]
        monkeypatch.setattr(sys, "argv", ["airmoe", *words])
        return CliRunner().invoke(cli.app, words)

    save = Checkpoint.save

    def save_and_stop(checkpoint: Checkpoint, stage: str, *args: Any) -> None:
        save(checkpoint, stage, *args)
        if stage == "channel":
            raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(Checkpoint, "save", save_and_stop)
        stopped = command("run")
    assert stopped.exit_code != 0
    settings = f"--config {tmp_path / 'tiny.toml'} --device cpu"
    told = f"airmoe train {settings} --out {tmp_path / 'run'} --resume"
    assert told in stopped.output
    assert not (tmp_path / "run").exists()
    other = command("run", "--seed", "7", "--resume")
    assert "resume with the options it was begun with" in str(other.exception)
    for out, *options in (("run", "--resume"), ("whole",)):
        finished = command(out, *options)
        assert finished.exit_code == 0, finished.exception
        said = " ".join(finished.output.split())
        assert "accuracy on held-out images: " in said
        assert "over analog links, SNR uniform:-5:20" in said
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "tiny.toml", "whole"]


# Settings.


def test_the_defaults_are_built_in_settings_for_digits_and_for_cifar() -> None:
    digits = channel_aware_settings(None, None, None, None)
    assert (digits.data.name, digits.data.flip, digits.data.shift) == ("digits", False, 2)
    assert (digits.clean.epochs, digits.channel.epochs) == (20, 20)
    cifar = channel_aware_settings("cifar100", None, None, None)
    assert (cifar.data.name, cifar.data.flip) == ("cifar100", True)
    assert (cifar.clean.epochs, cifar.channel.epochs) == (10, 10)


def test_options_say_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    settings = channel_aware_settings("cifar10", path, 5, 8)
    assert settings == tiny().model_copy(
        update={
            "seed": 8,
            "data": tiny().data.model_copy(update={"name": "cifar10"}),
            "model": tiny().model.model_copy(update={"experts": 5}),
        }
    )


@pytest.mark.parametrize(
    "config",
    [
        ChannelAwareConfig(),
        tiny(),
        tiny(snr="gauss-markov:5:0.9", transmission="digital:4:qpsk:conv", gate_sees_snr=False),
        without_channel(epochs=0),
        channel_aware_settings(None, None, None, None),
    ],
)
def test_settings_that_are_written_down_are_read_back_the_same(config: ChannelAwareConfig) -> None:
    assert parse_section(ChannelAwareConfig, dump_config(config), "config.toml") == config


def test_all_of_the_settings_are_written_down() -> None:
    written = tomllib.loads(dump_config(ChannelAwareConfig()))
    assert written == ChannelAwareConfig().model_dump(exclude_none=True)


def test_what_is_none_is_not_written_down_and_read_back_as_none() -> None:
    text = dump_config(ChannelAwareConfig())
    assert [name for name in ("train_images", "norm", "width", "expert_hidden") if name in text] == []
    read = parse_section(ChannelAwareConfig, text, "config.toml")
    model = read.model
    assert (read.data.train_images, model.norm, model.width, model.expert_hidden) == (None,) * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("surprise = 1", "surprise is 1; expected a known key"),
        ("[clean]\nrounds = 5", "clean.rounds is 5; expected a known key"),
        ("[clean]\nsnr = 'uniform:-5:20'", "clean.snr is 'uniform:-5:20'; expected a known key"),
        ("[clean]\nepochs = 0", "clean.epochs is 0; expected at least 1"),
        ("[channel]\nepochs = -1", "channel.epochs is -1; expected at least 0"),
        ("[channel]\nextractor_rate = 1.5", "channel.extractor_rate is 1.5; expected at most"),
        ("[channel]\nsnr = 'fair'", "channel.snr is 'fair'; expected fixed:SNR_DB"),
        ("[channel]\nsnr = 'rayleigh:500'", "expected mean_db to be a number from -300 to 300"),
        ("[channel]\ntransmission = 'am'", "channel.transmission is 'am'; expected analog"),
        ("[channel]\ntransmission = 'digital:9:qpsk:none'", "expected bits to be "),
        ("[model]\nk = 5", "model.k is 5; expected at most 4, the number of experts"),
        ("[model]\nexperts = 2\nk = 3", "model.k is 3; expected at most 2, the number of experts"),
        ("[model]\nexperts = 0\nk = 3", "model.experts is 0; expected at least 1"),
        ("[model]\ngate = 'linear'", "model.gate is 'linear'; expected one of mlp, concat, bias"),
        ("precision = 'float16'", "precision is 'float16'; expected 'auto', 'float32' or 'bfloat16'"),
        ("[data]\nshift = 17", "data.shift is 17; expected at most 16"),
        ("[data]\ntrain_images = 0", "data.train_images is 0; expected at least 1"),
        ("[model]\nbackbone = 'patches'", "model.backbone is 'patches'; expected a backbone that gradients"),
        ("[channel]\nepochs = 0", "channel.epochs is 0; expected at least 1 where clean.networks is 1"),
        ("[model]\nwidth = 0", "model.width is 0; expected at least 1"),
        ("[model]\nnorm = ''", "model.norm is ''; expected 'batch', 'group' or 'none'"),
        ("method = 'x'", "method is 'x'; expected 'channel-aware'"),
        ("data = 3", "data is 3"),
        ("seed = ", "valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_section(ChannelAwareConfig, text, "my.toml")
    assert str(refused.value).startswith("my.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[channel]\ngate_rate = 0", "channel.gate_rate is 0.0; expected above 0 where clean.networks is 1"),
        (
            "[channel]\ngate_rate = 0\n[clean]\ngate_rate = 0\nnetworks = 2",
            "channel.gate_rate is 0.0; expected above 0 where clean.networks is 1 or clean.gate_rate is 0",
        ),
        (
            "[channel]\nepochs = 0\n[clean]\ngate_rate = 0\nnetworks = 2",
            "clean.gate_rate is 0.0; expected above 0 where channel.epochs is 0",
        ),
    ],
)
def test_a_rate_that_leaves_the_gate_as_it_began_in_both_stages_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        parse_section(ChannelAwareConfig, text, "my.toml")


@pytest.mark.parametrize(
    "text",
    [
        "[channel]\ngate_rate = 0\n[clean]\nnetworks = 2",
        "[clean]\ngate_rate = 0",
        "[channel]\ngate_rate = 0\n[model]\nexperts = 1",
    ],
)
def test_a_gate_may_rest_in_one_stage_and_where_it_has_no_choice(text: str) -> None:
    config = parse_section(ChannelAwareConfig, text, "my.toml")
    assert 0 in (config.clean.gate_rate, config.channel.gate_rate)


@pytest.mark.parametrize("text", ["[clean]\nnetworks = 2", "[model]\nexperts = 1"])
def test_stage_2_may_be_left_out_where_no_gate_has_to_learn_in_it(text: str) -> None:
    whole = f"[channel]\nepochs = 0\n{text}"
    assert parse_section(ChannelAwareConfig, whole, "my.toml").channel.epochs == 0


def test_a_trace_that_is_not_there_is_told_before_anything_is_trained() -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        parse_section(ChannelAwareConfig, "[channel]\nsnr = 'trace:nowhere.csv'", "my.toml")


def test_a_run_over_other_traces_is_another_run(tmp_path: Path, few_digits: ImageSet) -> None:
    fingerprints = []
    for cells in ("1\n2\n3", "1\n2\n4", "1\n-\n2\n3\n4\n5", "1\n2\n3"):
        (tmp_path / "log.csv").write_text(f"SNR\n{cells}\n", encoding="utf-8")
        fingerprints.append(channel_aware_fingerprint(tiny(snr=f"trace:{tmp_path / 'log.csv'}"), few_digits))
    assert fingerprints[0] == fingerprints[3]
    assert len(set(fingerprints)) == 3


def test_experts_per_image_in_training_are_no_more_than_there_are() -> None:
    for k, compared, expected in ((1, 0, 1), (1, 1, 2), (2, 1, 3), (2, 5, 4)):
        section = f"[model]\nk = {k}\ncompared = {compared}"
        assert parse_section(ChannelAwareConfig, section, "my.toml").model.training_k == expected


# The choice of the method.


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("", "networked"),
        ('method = "networked"', "networked"),
        ('method = "channel-aware"', "channel-aware"),
        ('\ufeffmethod = "channel-aware"', "channel-aware"),
        ("[channel]\nepochs = 1", "channel-aware"),
        ("[features]\nrounds = 1", "networked"),
    ],
)
def test_the_file_says_which_method_it_is_for(tmp_path: Path, text: str, method: str) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    assert method_of(path) == method
    assert method_of(None) == "networked"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ('method = "x"', [], "my.toml: method is 'x'; expected one of networked, channel-aware"),
        ("method = 3", [], "my.toml: method is 3; expected "),
        ('method = "x"', ["--method", "channel-aware"], "my.toml: method is 'x'; expected one of"),
        ("method = ", [], "expected valid TOML"),
        (
            TINY,
            ["--method", "networked"],
            "method is 'networked'; expected channel-aware: that is what my.toml",
        ),
        (
            "[features]\nrounds = 3",
            ["--method", "channel-aware"],
            "method is 'channel-aware'; expected networked: that is what my.toml has settings for",
        ),
        ("[data]\nclients = 3", ["--method", "channel-aware"], "data.clients is 3; expected a known key"),
        ("[data]\nclients = 3", ["--device", "cpu"], "device is 'cpu'; expected none: only --method channel"),
        (TINY, ["--device", "tpu"], "device is 'tpu'; expected auto, cpu, or cuda"),
        (TINY, ["--clients", "0"], "clients is 0; expected at least 1"),
        (
            TINY.replace("[model]", "[model]\nk = 2"),
            ["--clients", "1"],
            "model.k is 2; expected at most 1, the",
        ),
        (TINY, ["--seed", "-1"], "seed is -1; expected at least 0"),
        (TINY, ["--data-dir", "."], "data-dir is '.'; expected no folder: digits reads none"),
    ],
)
def test_what_does_not_go_with_the_method_is_told(
    tmp_path: Path, text: str, options: list[str], said: str
) -> None:
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    arguments = ["train", "--config", str(tmp_path / "my.toml"), "--out", str(tmp_path / "run"), *options]
    outcome = CliRunner().invoke(cli.app, arguments)
    assert isinstance(outcome.exception, InvalidInputError)
    assert said in str(outcome.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["my.toml"]


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as refused:
        method_of(tmp_path / "no.toml")
    assert str(refused.value).startswith(f"config is '{tmp_path / 'no.toml'}'; expected a readable TOML file")


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    outcome = CliRunner().invoke(cli.app, ["train", "--method", "fly"])
    assert outcome.exit_code == 2
    assert "'networked', 'channel-aware'" in outcome.output


def test_numbers_of_the_held_out_images_come_from_the_seed_alone(run: Path, few_digits: ImageSet) -> None:
    model = initial_model(tiny(), few_digits).eval()
    first, again = (channel_aware_run.held_out_accuracy(model, tiny(), few_digits) for _ in range(2))
    assert first == again
    assert np.isfinite(list(first.values())).all()


def test_a_radio_that_is_changed_in_part_stays_analog() -> None:
    config = parse_section(ChannelAwareConfig, "[links]\nmean_snr_db = 3.0", "my.toml")
    assert (config.links.mean_snr_db, config.links.transmission) == (3.0, "analog")
