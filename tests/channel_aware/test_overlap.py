"""What the default settings do: stage 1 trains one network, and stage 2 copies of it that overlap."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from airmoe.channel_aware.config import ChannelAwareConfig, ChannelStageSettings, published
from airmoe.channel_aware.models import first_model, first_stage, second_model
from airmoe.channel_aware.run import train_channel_aware
from airmoe.channel_aware.stages import (
    TrainingImages,
    _some_alike,
    channel_aware_fingerprint,
    train_stage,
)
from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.runs.settings import parse_section

CPU = torch.device("cpu")


def config_of(more: str = "", *, experts: int = 3, **channel: object) -> ChannelAwareConfig:
    text = f"""
    [data]
    name = "digits"
    train_images = 96
    flip = false
    [model]
    experts = {experts}
    {more}
    [clean]
    epochs = 2
    batch_size = 32
    [channel]
    epochs = 1
    batch_size = 32
    """
    config = parse_section(ChannelAwareConfig, text, "tiny")
    return config.model_copy(update={"channel": config.channel.model_copy(update=channel)})


def test_stage_1_trains_one_network_and_each_expert_begins_as_its_copy(few_digits: ImageSet) -> None:
    config = config_of()
    first = first_model(config, few_digits)
    assert len(first.layer.experts) == 1
    train_stage("clean", first, first_stage(config), TrainingImages.drawn(config, few_digits, CPU))
    second = second_model(config, few_digits, first)
    trained = first.layer.experts[0].state_dict()
    assert len(second.layer.experts) == 3
    for expert in second.layer.experts:
        for name, weight in expert.state_dict().items():
            assert torch.equal(weight, trained[name])
            assert weight.data_ptr() != trained[name].data_ptr()
    for name, weight in second.extractor.state_dict().items():
        assert torch.equal(weight, first.extractor.state_dict()[name])


def test_experts_begin_as_copies_of_as_many_networks_as_stage_1_trains(few_digits: ImageSet) -> None:
    config = config_of(experts=5)
    config = config.model_copy(update={"clean": config.clean.model_copy(update={"networks": 2})})
    first = first_model(config, few_digits)
    assert len(first.layer.experts) == 2
    train_stage("clean", first, first_stage(config), TrainingImages.drawn(config, few_digits, CPU))
    second = second_model(config, few_digits, first)
    for number, expert in enumerate(second.layer.experts):
        trained = first.layer.experts[number % 2].state_dict()
        assert all(torch.equal(weight, trained[name]) for name, weight in expert.state_dict().items())
    assert not torch.equal(*(_layers(first.layer.experts[number])[0].weight for number in (0, 1)))
    features_TF, snr_db_TE = torch.rand(4, 400), torch.tensor([[3.0, 9.0, -5.0, 12.0, 0.0]] * 4)
    logits_TE = second.layer.gate.eval()(features_TF, snr_db_TE).logits_TE
    for number in range(5):
        of_first_TE = first.layer.gate.eval()(features_TF, snr_db_TE[:, [number] * 2]).logits_TE
        torch.testing.assert_close(logits_TE[:, number], of_first_TE[:, number % 2])
    assert (logits_TE[:, 0] - logits_TE[:, 2]).abs().max() > 0, "a link of its own"


def test_a_gate_that_is_bound_to_its_experts_cannot_be_that_of_their_copies(few_digits: ImageSet) -> None:
    config = config_of('gate = "concat"', experts=4)
    for networks in (1, 4):
        clean = config.clean.model_copy(update={"networks": networks})
        assert first_model(config.model_copy(update={"clean": clean}), few_digits)
    clean = config.clean.model_copy(update={"networks": 2})
    with pytest.raises(
        InvalidInputError, match=r"clean.networks is 2; expected 1, or 4 or more, since a gate "
    ):
        first_model(config.model_copy(update={"clean": clean}), few_digits)


SNR_DB_TE = np.random.default_rng(3).uniform(-5, 20, (4000, 3))


def some_alike_TE(alike: float, no_good_link: float) -> NDArray[np.float64]:
    settings = ChannelStageSettings(alike=alike, no_good_link=no_good_link)
    return _some_alike(SNR_DB_TE, settings, np.random.default_rng(4))


def test_for_a_share_of_the_images_all_links_are_alike_as_any_of_those_drawn() -> None:
    np.testing.assert_array_equal(some_alike_TE(0, 0), SNR_DB_TE)
    all_alike_TE = some_alike_TE(1, 0)
    assert (all_alike_TE == all_alike_TE[:, :1]).all()
    share_E = (all_alike_TE == SNR_DB_TE).mean(axis=0)
    np.testing.assert_allclose(share_E, 1 / 3, atol=4 * (2 / 9 / 4000) ** 0.5)
    half_TE = some_alike_TE(0.5, 0)
    alike_T = (half_TE == half_TE[:, :1]).all(axis=1)
    assert alike_T.mean() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    np.testing.assert_array_equal(half_TE[~alike_T], SNR_DB_TE[~alike_T])


def test_images_without_a_good_link_stay_so_where_links_are_made_alike() -> None:
    worst_T = SNR_DB_TE.min(axis=1)
    np.testing.assert_array_equal(some_alike_TE(1, 1), np.repeat(worst_T[:, None], 3, axis=1))
    both_TE = some_alike_TE(1, 0.5)
    assert (both_TE == both_TE[:, :1]).all()
    assert (both_TE[:, 0] == worst_T).mean() == pytest.approx(0.5 + 0.5 / 3, abs=0.04)


@pytest.mark.parametrize("transmission", ["analog", "digital:2:qpsk:conv"])
@pytest.mark.parametrize(("backbone", "width"), [("lenet5", None), ("resnet18", 2), ("vit", 12)])
def test_every_backbone_is_trained_with_overlap_over_both_kinds_of_links(
    backbone: str, width: int | None, transmission: str, few_digits: ImageSet
) -> None:
    config = config_of(f'k = 2\nbackbone = "{backbone}"', transmission=transmission)
    settings = {"model": {"width": width}, "data": {"train_images": 32}}
    parts = config.model_dump()
    for section, changes in settings.items():
        parts[section].update(changes)
    config = ChannelAwareConfig.model_validate(parts)
    data, first = TrainingImages.drawn(config, few_digits, CPU), first_model(config, few_digits)
    train_stage("clean", first, first_stage(config), data)
    second = second_model(config, few_digits, first)
    train_stage("channel", second, config, data)
    first_weights = [next(expert.parameters()) for expert in second.layer.experts]
    assert not torch.equal(first_weights[0], first_weights[1]), "each learns from what it received"
    assert not torch.equal(first_weights[1], first_weights[2])


def test_a_gate_that_is_blind_is_blind_in_stage_1_where_that_trains_one(few_digits: ImageSet) -> None:
    for networks, same in ((1, True), (2, False)):
        aware, blind = (
            config.model_copy(update={"clean": config.clean.model_copy(update={"networks": networks})})
            for config in (config_of(), config_of(gate_sees_snr=False))
        )
        assert (first_stage(aware) == first_stage(blind)) is same


def test_with_as_many_networks_as_experts_nothing_is_copied(few_digits: ImageSet) -> None:
    for networks in (3, 1000):
        config = config_of()
        config = config.model_copy(update={"clean": config.clean.model_copy(update={"networks": networks})})
        first = first_model(config, few_digits)
        assert len(first.layer.experts) == 3
        assert second_model(config, few_digits, first) is first


def test_in_stage_2_every_expert_learns_from_images_that_the_gate_gives_to_others(
    few_digits: ImageSet,
) -> None:
    config = config_of(common=1.0, gate_rate=0.0)
    second = second_model(config, few_digits, first_model(config, few_digits))
    before = [expert.state_dict()["0.weight"].clone() for expert in map(_layers, second.layer.experts)]
    train_stage("channel", second, config, TrainingImages.drawn(config, few_digits, CPU))
    for weight, expert in zip(before, map(_layers, second.layer.experts), strict=True):
        assert not torch.equal(weight, expert.state_dict()["0.weight"])


def _layers(expert: torch.nn.Module) -> torch.nn.Sequential:
    (layers,) = (part for part in expert.modules() if isinstance(part, torch.nn.Sequential))
    return layers


def test_stage_1_goes_over_links_unless_it_is_told_not_to(few_digits: ImageSet) -> None:
    losses = []
    for over_links in (True, False):
        config = config_of(snr="fixed:-40")
        clean = config.clean.model_copy(update={"over_links": over_links})
        config = config.model_copy(update={"clean": clean})
        data = TrainingImages.drawn(config, few_digits, CPU)
        rows = train_stage("clean", first_model(config, few_digits), first_stage(config), data)
        losses.append(float(rows[-1]["loss"]))
    assert losses[0] > losses[1] + 0.05, "nothing is to be learnt at -40 dB"


def test_the_one_network_of_stage_1_meets_the_law_as_it_is(few_digits: ImageSet) -> None:
    some, none = (config_of(no_good_link=share) for share in (0.9, 0.0))
    assert first_stage(some) == first_stage(none)
    of_both = []
    for config in (some, none):
        data = TrainingImages.drawn(config, few_digits, CPU)
        of_both.append(train_stage("clean", first_model(config, few_digits), config, data))
    assert of_both[0] == of_both[1]


def test_runs_that_share_stage_1_have_the_same_first_stage(few_digits: ImageSet) -> None:
    def first(config: ChannelAwareConfig) -> str:
        return channel_aware_fingerprint(first_stage(config), few_digits)

    aware, blind = config_of(), config_of(gate_sees_snr=False, common=0.1, epochs=9)
    assert first(aware) == first(blind)
    assert first(aware) != first(config_of(snr="uniform:0:1")), "it is over links"
    over_none = published()
    other_law = over_none.channel.model_copy(update={"snr": "uniform:0:1"})
    assert first(over_none) == first(over_none.model_copy(update={"channel": other_law}))


@pytest.mark.parametrize(("snr", "experts"), [("fixed:1,2", 2), ("one-bad:-10:20", 3)])
def test_a_law_for_a_number_of_links_is_one_for_the_network_of_stage_1(
    snr: str, experts: int, few_digits: ImageSet
) -> None:
    config = config_of(experts=experts, snr=snr)
    data = TrainingImages.drawn(config, few_digits, CPU)
    assert train_stage("clean", first_model(config, few_digits), first_stage(config), data)


def test_images_go_to_as_many_experts_at_random_as_there_are() -> None:
    for k, explored, experts, expected in (
        (1, 3, 4, 3),
        (2, 3, 4, 2),
        (1, 3, 16, 3),
        (1, 0, 4, 0),
        (1, 3, 1, 0),
    ):
        section = f"[model]\nexperts = {experts}\nk = {k}\nexplored = {explored}"
        assert parse_section(ChannelAwareConfig, section, "my.toml").model.training_explored == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model]\nexplored = -1", "explored"),
        ("[model]\nexplored = 1.5", "explored"),
        ("[channel]\ncommon = 1.1", "common"),
        ("[channel]\ncommon = -0.1", "common"),
        ("[channel]\ncommon = nan", "common"),
        ('[channel]\nobjective = "best"', "objective"),
        ("[clean]\nnetworks = 0", "networks"),
    ],
)
def test_overlap_and_exploration_that_are_out_of_range_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        parse_section(ChannelAwareConfig, text, "my.toml")


def test_a_run_ends_with_as_many_experts_as_it_was_told_even_without_stage_2(
    tmp_path: Path, few_digits: ImageSet
) -> None:
    trained = train_channel_aware(config_of(epochs=0), few_digits, tmp_path / "run", device="cpu")
    assert len(trained.model.layer.experts) == 3
