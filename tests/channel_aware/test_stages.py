"""The two stages of channel-aware training: what each does, how it is taken up again, and what stops it.

The settings are the published ones; what the default ones change is in test_overlap.py.
"""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airmoe.channel_aware import stages
from airmoe.channel_aware.config import ChannelAwareConfig, published
from airmoe.channel_aware.models import initial_model
from airmoe.channel_aware.stages import TrainingImages, pick_device, train_stage, unseen
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError, RunFolderError, TrainingDivergedError
from airmoe.links import LinkSnr, SpreadSnr
from airmoe.nn import (
    BiasGate,
    MixtureOfExperts,
    MlpExpert,
    MlpGate,
    MoeLayer,
    NoisyTopK,
    RadioCarrier,
)
from airmoe.progress import Progress, silent
from airmoe.radio import Analog
from airmoe.runs.checkpoint import Checkpoint, MetricsRow

STAGES = ("clean", "channel")
CPU = torch.device("cpu")


def config_of(**changes: dict[str, Any]) -> ChannelAwareConfig:
    """Three experts, 96 images, two epochs of three steps in each stage; with changes by section."""
    settings: dict[str, dict[str, Any]] = {
        "data": {"name": "digits", "train_images": 96, "flip": False},
        "model": {"experts": 3},
        "clean": {"epochs": 2, "batch_size": 32},
        "channel": {"epochs": 2, "batch_size": 32},
    }
    whole: dict[str, Any] = published().model_dump()
    for section, values in (*settings.items(), *changes.items()):
        whole[section] = whole[section] | values
    return ChannelAwareConfig.model_validate(whole)


class Training:
    """A model in training, and what it told."""

    def __init__(self, config: ChannelAwareConfig, images: ImageSet) -> None:
        self.config, self.rows = config, list[MetricsRow]()
        self.data = TrainingImages.drawn(config, images, CPU)
        self.model = initial_model(config, images)

    def train(self, *stages: str, **options: Any) -> "Training":
        for stage in stages or STAGES:
            self.rows += train_stage(stage, self.model, self.config, self.data, **options)
        return self

    @property
    def weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def trained(config: ChannelAwareConfig, images: ImageSet, *stages: str, **options: Any) -> Training:
    return Training(config, images).train(*stages, **options)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(few_digits: ImageSet) -> Training:
    """The tiny run, both stages at one go."""
    return trained(config_of(), few_digits)


def test_the_loss_falls_in_both_stages(few_digits: ImageSet) -> None:
    config = config_of(data={"train_images": None}, clean={"epochs": 5}, channel={"epochs": 4})
    rows = trained(config, few_digits).rows
    losses = {stage: [row["loss"] for row in rows if row["stage"] == stage] for stage in STAGES}
    assert losses["clean"][-1] < 0.8 * losses["clean"][0] < 0.8 * math.log(10) * 1.1
    assert losses["channel"][-1] < 0.95 * losses["channel"][0]


def test_there_is_a_row_for_every_epoch_of_every_stage(whole: Training) -> None:
    assert [(row["stage"], row["round"]) for row in whole.rows] == [
        (stage, epoch) for stage in STAGES for epoch in (1, 2)
    ]


def test_the_same_seed_ends_at_the_same_weights_and_another_does_not(
    few_digits: ImageSet, whole: Training
) -> None:
    torch.manual_seed(99)  # whatever was drawn before
    again = trained(config_of(), few_digits)
    assert same(again.weights, whole.weights)
    assert again.rows == whole.rows
    other = config_of().model_copy(update={"seed": 1})
    assert not same(trained(other, few_digits).weights, whole.weights)


def test_training_leaves_other_random_numbers_alone(few_digits: ImageSet) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(config_of(), few_digits)
    assert torch.equal(torch.rand(3), expected)


def test_each_part_has_its_rate_and_all_decay(few_digits: ImageSet) -> None:
    config = config_of(channel={"learning_rate": 0.01, "gate_rate": 3.0, "weight_decay": 0.02})
    training = Training(config, few_digits)
    stage = stages._Stage("channel", training.model, config, training.data, silent)
    groups = [(group["lr"], group["weight_decay"]) for group in stage.optimiser.param_groups]
    assert groups == [(0.01, 0.02), (pytest.approx(0.03), 0.02), (pytest.approx(0.001), 0.02)]


def test_a_model_is_left_in_evaluation(whole: Training) -> None:
    assert not whole.model.training


class Interrupted(Exception):
    """As if the process had ended."""


def at_step(stage: str, step: int) -> Progress:
    """Interrupt when so many steps of a stage are done; an epoch has three, and is kept at its end."""

    def progress(activity: str, done: int, total: int, note: str = "") -> None:
        if (activity, done) == (stage, step):
            raise Interrupted

    return progress


INTERRUPTIONS = {
    "after the first epoch": at_step("clean", 3),
    "in the second, before it is kept": at_step("clean", 5),
    "at the end of stage 1": at_step("clean", 6),
    "in the first epoch of stage 2": at_step("channel", 2),
    "after the first epoch of stage 2": at_step("channel", 3),
    "at the very end": at_step("channel", 6),
}


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_interrupted_training_ends_at_the_same_weights_and_rows(
    tmp_path: Path,
    few_digits: ImageSet,
    whole: Training,
    interruption: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "CHECK_EVERY", 1)
    checkpoint = Checkpoint(tmp_path, "x")
    with pytest.raises(Interrupted):
        trained(config_of(), few_digits, checkpoint=checkpoint, progress=INTERRUPTIONS[interruption])
    resumed = trained(config_of(), few_digits, checkpoint=checkpoint)
    assert same(resumed.weights, whole.weights)
    assert resumed.rows == whole.rows


def test_what_is_done_is_not_done_again(tmp_path: Path, few_digits: ImageSet, whole: Training) -> None:
    checkpoint, told = Checkpoint(tmp_path, "x"), list[tuple[str, int, int]]()

    def progress(activity: str, done: int, total: int, note: str = "") -> None:
        told.append((activity, done, total))

    with pytest.raises(Interrupted):
        trained(config_of(), few_digits, checkpoint=checkpoint, progress=at_step("channel", 3))
    trained(config_of(), few_digits, checkpoint=checkpoint, progress=progress)
    assert told == [("channel", 6, 6)]
    told.clear()
    again = trained(config_of(), few_digits, checkpoint=checkpoint, progress=progress)
    assert told == []
    assert same(again.weights, whole.weights)


def test_a_checkpoint_of_other_experts_is_refused_by_weight_and_shapes(
    tmp_path: Path, few_digits: ImageSet
) -> None:
    checkpoint = Checkpoint(tmp_path, "x")
    trained(config_of(model={"gate": "concat"}), few_digits, "clean", checkpoint=checkpoint)
    other = Training(config_of(model={"gate": "concat", "experts": 2}), few_digits)
    with pytest.raises(RunFolderError) as refused:
        other.train("clean", checkpoint=checkpoint)
    said = "checkpoint of stage clean: layer.experts.2.layers.0.bias is unknown to this network"
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("transmission", ["analog", "digital:4:qpsk:conv"])
@pytest.mark.parametrize("stage", STAGES)
def test_what_diverges_is_told_with_stage_and_step(
    few_digits: ImageSet, stage: str, transmission: str
) -> None:
    config = config_of(
        clean={"learning_rate": 1e30 if stage == "clean" else 1e-3},
        channel={"learning_rate": 1e30, "transmission": transmission},
    )
    said = rf"{stage}: (the loss is (nan|inf) at|a weight is not finite after) step \d of 6"
    with pytest.raises(TrainingDivergedError, match=said):
        trained(config, few_digits)


@pytest.mark.parametrize("stage", STAGES)
def test_after_a_divergence_the_last_good_checkpoint_can_be_taken_up(
    tmp_path: Path, few_digits: ImageSet, whole: Training, stage: str
) -> None:
    checkpoint, training = Checkpoint(tmp_path, "x"), Training(config_of(), few_digits)

    def poison(activity: str, done: int, total: int, note: str = "") -> None:
        if (activity, done) == (stage, 3):
            nn.init.constant_(training.model.layer.experts[0].layers[0].weight, math.nan)

    with pytest.raises(TrainingDivergedError, match=rf"{stage}: the loss is nan at step 4 of 6"):
        training.train(checkpoint=checkpoint, progress=poison)
    saved = checkpoint.load(stage)
    assert saved is not None
    assert len(saved.rows) == 1
    assert saved.groups.keys() == {"model", "optimiser"}
    assert all(bool(tensor.isfinite().all()) for tensor in saved.groups["model"].values())
    assert same(trained(config_of(), few_digits, checkpoint=checkpoint).weights, whole.weights)


def seen_by_the_gate(config: ChannelAwareConfig, images: ImageSet, stage: str) -> Tensor | None:
    """What SNR the gate was shown over a stage, of all items one after another; None if none at all."""
    training, shown = Training(config, images), list[Tensor | None]()
    training.model.layer.gate.register_forward_pre_hook(lambda gate, args: shown.append(args[1]))
    training.train(stage)
    assert len(shown) == 6
    return (
        None if shown[0] is None else torch.cat([snr_db_TE for snr_db_TE in shown if snr_db_TE is not None])
    )


def test_in_stage_1_nobody_sees_a_channel(few_digits: ImageSet) -> None:
    assert seen_by_the_gate(config_of(), few_digits, "clean") is None


def shown_in_stage_2(images: ImageSet, **channel: Any) -> Tensor:
    shown_TE = seen_by_the_gate(config_of(channel=channel), images, "channel")
    assert shown_TE is not None
    return shown_TE


def test_in_stage_2_every_image_meets_links_of_its_own_drawn_anew_each_time(few_digits: ImageSet) -> None:
    shown_TE = shown_in_stage_2(few_digits, no_good_link=0.0)
    assert shown_TE.shape == (2 * 96, 3)
    assert len(shown_TE.unique()) == shown_TE.numel()
    assert shown_TE.min() >= -5
    assert shown_TE.max() <= 20
    assert float(shown_TE.mean()) == pytest.approx(7.5, abs=4 * 25 / 12**0.5 / shown_TE.numel() ** 0.5)


@pytest.mark.parametrize("stage", STAGES)
def test_noise_is_drawn_anew_in_every_epoch(few_digits: ImageSet, stage: str) -> None:
    training, states = Training(config_of(), few_digits), list[bytes]()
    training.model.layer.gate.register_forward_pre_hook(
        lambda gate, args: states.append(torch.get_rng_state().numpy().tobytes())
    )
    training.train(stage)
    assert len(set(states)) == len(states) == 6


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_for_a_share_of_the_images_all_links_are_as_bad_as_the_worst(
    few_digits: ImageSet, share: float
) -> None:
    drawn_TE, shown_TE = (shown_in_stage_2(few_digits, no_good_link=part) for part in (0.0, share))
    bad_T = (shown_TE == shown_TE[:, :1]).all(dim=1)
    deviation = (share * (1 - share) / len(bad_T)) ** 0.5
    assert float(bad_T.float().mean()) == pytest.approx(share, abs=4 * deviation)
    assert torch.equal(shown_TE[~bad_T], drawn_TE[~bad_T])
    assert torch.equal(shown_TE[bad_T, 0], drawn_TE[bad_T].amin(dim=1))


LEARNT_ALIKE = {
    "blind": {"channel": {"gate_sees_snr": False, "no_good_link": 0.0}},
    "blind, no good link": {"channel": {"gate_sees_snr": False}},
    "no good link for all": {"channel": {"no_good_link": 1.0}},
    "one network": {"model": {"experts": 1}},
    "concat": {"model": {"gate": "concat"}},
    "other law": {"channel": {"snr": "rayleigh:5"}},
    "digital": {"channel": {"transmission": "digital:2:qpsk:none"}},
}


def images_of_stage_2(images: ImageSet, **changes: dict[str, Any]) -> Tensor:
    """The images as the network saw them, one batch after another."""
    data = {"flip": True, "shift": 2}
    training, seen = Training(config_of(data=data, **changes), images), list[Tensor]()
    training.model.extractor.register_forward_pre_hook(lambda extractor, args: seen.append(args[0].clone()))
    training.train("channel")
    return torch.cat(seen)


@pytest.fixture(scope="module")
def seen_by_channel_aware(few_digits: ImageSet) -> Tensor:
    return images_of_stage_2(few_digits)


@pytest.mark.parametrize("changes", LEARNT_ALIKE.values(), ids=LEARNT_ALIKE)
def test_whatever_the_method_stage_2_sees_the_same_images_mirrored_and_moved_alike(
    few_digits: ImageSet, seen_by_channel_aware: Tensor, changes: dict[str, dict[str, Any]]
) -> None:
    assert torch.equal(images_of_stage_2(few_digits, **changes), seen_by_channel_aware)


def test_images_are_mirrored_and_moved_anew_in_every_epoch(seen_by_channel_aware: Tensor) -> None:
    first, second = (sorted(part.flatten(1).tolist()) for part in seen_by_channel_aware.chunk(2))
    assert first != second


def test_experts_of_a_blind_gate_meet_no_better_links_if_told_so(few_digits: ImageSet) -> None:
    law, worst = (
        trained(config_of(channel=BLIND | {"no_good_link": share}), few_digits).rows[-1]["loss"]
        for share in (0.0, 1.0)
    )
    assert law < worst


def test_the_law_of_stage_2_can_be_chosen(few_digits: ImageSet) -> None:
    shown_TE = shown_in_stage_2(few_digits, snr="one-bad:-7:13:1", no_good_link=0.0)
    assert shown_TE.unique(dim=0).tolist() == [[13.0, -7.0, 13.0]]


BLIND = {"gate_sees_snr": False}


def test_a_gate_that_is_trained_blind_is_told_20_db_of_every_link(few_digits: ImageSet) -> None:
    assert shown_in_stage_2(few_digits, **BLIND).unique().tolist() == [20.0]


def test_the_links_that_a_blind_gate_does_not_see_are_as_noisy(few_digits: ImageSet) -> None:
    noisy, quiet = (
        trained(config_of(channel=BLIND | {"snr": law}), few_digits) for law in ("uniform:-5:20", "fixed:300")
    )
    assert noisy.rows[:2] == quiet.rows[:2]  # stage 1 is the same
    assert not same(noisy.weights, quiet.weights)
    assert noisy.rows[2]["loss"] > quiet.rows[2]["loss"]


@pytest.mark.parametrize(
    ("rates", "part"), [({"extractor_rate": 0.0}, "extractor"), ({"gate_rate": 0.0}, "gate")]
)
def test_a_part_with_rate_zero_stays_as_it_was(
    few_digits: ImageSet, rates: dict[str, float], part: str
) -> None:
    training = Training(config_of(channel=rates), few_digits).train("clean")
    before = training.weights
    after = training.train("channel").weights
    moved = {
        name.removeprefix("layer.").partition(".")[0]
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert moved == {"extractor", "gate", "experts"} - {part}


def test_an_extractor_that_stays_still_keeps_its_batch_statistics_too(few_digits: ImageSet) -> None:
    model = {"backbone": "resnet18", "width": 2, "experts": 2}
    epoch = {"epochs": 1, "batch_size": 32}
    config = config_of(
        data={"train_images": 32}, model=model, clean=epoch, channel=epoch | {"extractor_rate": 0.0}
    )
    training = Training(config, few_digits).train("clean")
    before = training.weights
    after = training.train("channel").weights
    of_extractor = [name for name in before if name.startswith("extractor")]
    assert any("running_mean" in name for name in of_extractor)
    assert all(torch.equal(before[name], after[name]) for name in of_extractor)


def rates_taken(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The rates of experts, gate and extractor, to be filled step by step."""
    rates: list[list[float]] = []
    step = torch.optim.AdamW.step

    def recorded(optimiser: torch.optim.AdamW, *args: Any) -> None:
        rates.append([group["lr"] for group in optimiser.param_groups])
        step(optimiser, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    return rates


def test_rates_fall_along_a_cosine_and_gate_and_extractor_have_their_own(
    few_digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = rates_taken(monkeypatch)
    config = config_of(channel={"learning_rate": 0.004, "gate_rate": 3.0, "extractor_rate": 0.5})
    trained(config, few_digits)
    fall = np.array([(1 + math.cos(math.pi * done / 6)) / 2 for done in range(6)])
    np.testing.assert_allclose(rates[:6], 1e-3 * np.outer(fall, [1.0, 5.0, 1.0]))
    np.testing.assert_allclose(rates[6:], 4e-3 * np.outer(fall, [1.0, 3.0, 0.5]))


def test_a_warmup_lets_the_rate_rise_to_the_cosine(
    monkeypatch: pytest.MonkeyPatch, few_digits: ImageSet
) -> None:
    rates = rates_taken(monkeypatch)
    trained(config_of(clean={"warmup": 0.5}, channel={"warmup": 1.0}), few_digits)
    fall = np.array([(1 + math.cos(math.pi * done / 6)) / 2 for done in range(6)])
    first, second = fall * [1 / 3, 2 / 3, 1, 1, 1, 1], fall * np.arange(1, 7) / 6
    np.testing.assert_allclose(rates[:6], 1e-3 * np.outer(first, [1.0, 5.0, 1.0]))
    np.testing.assert_allclose(rates[6:], 1e-3 * np.outer(second, [1.0, 5.0, 0.1]))


def test_no_epochs_in_stage_2_leave_the_weights_of_stage_1(few_digits: ImageSet) -> None:
    config = config_of(channel={"epochs": 0})
    first, both = trained(config, few_digits, "clean"), trained(config, few_digits)
    assert same(first.weights, both.weights)
    assert first.rows == both.rows


def test_half_precision_trains_to_finite_losses_and_leaves_weights_in_full(few_digits: ImageSet) -> None:
    epoch = {"epochs": 1}
    config = config_of(clean=epoch, channel=epoch).model_copy(update={"precision": "bfloat16"})
    training = trained(config, few_digits)
    assert all(math.isfinite(float(row["loss"])) for row in training.rows)
    assert {tensor.dtype for tensor in training.weights.values()} == {torch.float32}
    full = trained(config_of(clean=epoch, channel=epoch), few_digits)
    assert not same(training.weights, full.weights)
    assert training.rows[0]["loss"] == pytest.approx(full.rows[0]["loss"], rel=0.02)


def test_training_images_are_a_seeded_draw(few_digits: ImageSet) -> None:
    drawn = TrainingImages.drawn(config_of(), few_digits, CPU)
    again = TrainingImages.drawn(config_of(), few_digits, CPU)
    other = TrainingImages.drawn(config_of().model_copy(update={"seed": 1}), few_digits, CPU)
    assert drawn.images_TCHW.shape == (96, 1, 32, 32)
    assert torch.equal(drawn.images_TCHW, again.images_TCHW)
    assert not torch.equal(drawn.images_TCHW, other.images_TCHW)
    labels = few_digits.train_labels.tolist()
    whole = {image.tobytes(): label for image, label in zip(few_digits.train_images, labels, strict=True)}
    for image, label in zip(drawn.images_TCHW, drawn.labels_T, strict=True):
        assert whole[image.numpy().tobytes()] == int(label)


def test_no_number_of_training_images_means_all(few_digits: ImageSet) -> None:
    drawn = TrainingImages.drawn(config_of(data={"train_images": None}), few_digits, CPU)
    assert np.array_equal(drawn.images_TCHW.numpy(), few_digits.train_images)
    assert np.array_equal(drawn.labels_T.numpy(), few_digits.train_labels)


def test_more_training_images_than_there_are_are_refused(few_digits: ImageSet) -> None:
    with pytest.raises(InvalidInputError) as refused:
        TrainingImages.drawn(config_of(data={"train_images": 201}), few_digits, CPU)
    assert str(refused.value) == "data.train_images is 201; expected at most 200, or left out for all"


def test_a_law_for_another_number_of_experts_is_refused_before_anything_is_trained(
    few_digits: ImageSet,
) -> None:
    with pytest.raises(InvalidInputError, match="links is 3; expected 2"):
        initial_model(config_of(channel={"snr": "fixed:1,2"}), few_digits)


@pytest.mark.parametrize("name", ["tpu", "meta", "", "cpu:x", "gpu"])
def test_another_device_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        pick_device(name)
    assert str(refused.value) == f"device is {name!r}; expected auto, cpu, or cuda where PyTorch finds a GPU"


def test_the_device_that_is_picked_is_there() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


# What it is all about: over links of different quality a gate that sees them is right more often.


class Corners(nn.Module):
    """Images of two pixels as points around the corners of a square: a class at each."""

    def forward(self, images_TCHW: Tensor) -> Tensor:
        return 4 * images_TCHW.flatten(1) - 2


def corners(items: int, seed: int) -> TrainingImages:
    random = np.random.default_rng(seed)
    label_T = random.integers(0, 4, items)
    corner_TF = 2 * np.stack([label_T % 2, label_T // 2], axis=1) - 1
    pixels_TF = np.clip(127.5 + 60 * corner_TF + 12 * random.standard_normal((items, 2)), 0, 255)
    images_TCHW = torch.from_numpy(pixels_TF.astype(np.uint8)).reshape(items, 1, 1, 2)
    return TrainingImages(images_TCHW, torch.from_numpy(label_T))


def right_T(model: MixtureOfExperts, spread_db: float, sees: bool) -> np.ndarray:
    """Whether a trained mixture is right about 4000 points, over links of -5 dB plus and minus the spread."""
    data = corners(4000, 99)
    snr = LinkSnr.drawn(SpreadSnr(-5.0, spread_db), 4000, 4, np.random.default_rng(0))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        told = snr if sees else unseen(snr.true_db_TE)
        answer = model(data.images_TCHW.float() / 255, snr=told, carrier=RadioCarrier(Analog()))
    return np.asarray(answer.y_TC.argmax(dim=1) == data.labels_T, dtype=float)


@pytest.mark.parametrize(("compared", "gain"), [(1, 0.1), (0, 0.25)])
def test_channel_aware_gating_beats_the_same_training_blind_where_links_differ(
    compared: int, gain: float
) -> None:
    torch.manual_seed(0)
    k = 1 + compared
    gate = NoisyTopK(BiasGate(MlpGate(2, 4)), 2, 4, k)
    layer = MoeLayer(gate, [MlpExpert(2, 4, 16) for _ in range(4)], training_k=k, source=4)
    first = MixtureOfExperts(Corners(), layer)
    stage = {"batch_size": 64, "learning_rate": 5e-3}
    aware, blind = (
        config_of(
            model={"experts": 4},
            clean=stage | {"epochs": 2},
            channel=stage | {"epochs": 8, "gate_sees_snr": sees},
        )
        for sees in (True, False)
    )
    data = corners(2000, 0)
    train_stage("clean", first, aware, data)
    second = copy.deepcopy(first)
    train_stage("channel", first, aware, data)
    train_stage("channel", second, blind, data)
    alike_T, differing_T = (
        right_T(first, spread_db, True) - right_T(second, spread_db, False) for spread_db in (0.0, 10.0)
    )
    error = differing_T.std(ddof=1) / len(differing_T) ** 0.5
    assert differing_T.mean() > gain > 8 * error
    assert abs(alike_T.mean()) < 0.05
