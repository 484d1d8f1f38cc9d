"""The study of channel-aware gating: its settings, what each method does, and what is told of it."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from airmoe.channel_aware.config import ChannelAwareConfig
from airmoe.cli.study import study as study_command
from airmoe.data import load_images
from airmoe.errors import InvalidInputError
from airmoe.nn import BiasGate, MixtureOfExperts, MlpExpert, MlpGate, MoeLayer
from airmoe.progress import silent
from airmoe.scheduling import BestLink, Policy, RandomK, TopK
from airmoe.studies.curves.figure import Figure, Heading, Workspace
from airmoe.studies.curves.figure_file import dump_figure
from airmoe.studies.curves.rows import Rows
from airmoe.studies.curves.run import run_study
from airmoe.studies.gating import GATING, accuracy, shares
from airmoe.studies.gating.accuracy import LeNetSettings
from airmoe.studies.gating.asking import Answers, ask_over_links
from airmoe.studies.gating.claims import claims
from airmoe.studies.gating.methods import METHODS as METHODS_OF_STUDY
from airmoe.studies.gating.models import Asked, inputs_of, trained_model
from airmoe.studies.gating.settings import GatingSettings
from airmoe.studies.gating.shares import ExpertShareSettings

FIGURES, BUILT_IN = GATING.figures, GATING.folder
GPU_FIGURES = ["gpu_resnet18_cifar10", "gpu_resnet18_cifar100", "gpu_vit_cifar10", "gpu_vit_cifar100"]
USUAL = ("full", "quick", "smoke")
METHODS = (
    *("channel-aware", "naive", "naive-noise", "best-link", "random", "oracle", "channel-off"),
    *("one-network", "one-network-best-link"),
)
SINGLE = ("one-network", "one-network-best-link")

TINY = {
    **{"data": "digits", "flip": False, "train_images": 200, "batch_size": 32, "seeds": 1},
    **{"clean_epochs": 2, "channel_epochs": 2, "values": (0, 10)},
}


# Settings.


@pytest.mark.parametrize("figure", FIGURES)
def test_settings_that_are_written_down_are_read_back_the_same(figure: str, tmp_path: Path) -> None:
    for scale in FIGURES[figure].scales:
        read = GATING.read(figure, scale)
        assert len(read.curves) >= 2
        (tmp_path / f"{figure}.toml").write_text(dump_figure(read), encoding="utf-8")
        for read_at in FIGURES[figure].scales:
            assert GATING.read(figure, read_at, tmp_path) == read


def test_all_images_and_the_backbones_own_width_are_words_in_a_file(tmp_path: Path) -> None:
    figure = "resnet18_spread_0"  # its defaults are numbers, other ones at every scale
    read = GATING.read(figure, "full")
    curves = {
        name: curve.model_copy(update={"train_images": None, "test_images": None, "width": None})
        for name, curve in read.curves.items()
    }
    text = dump_figure(replace(read, curves=curves))
    for line in ('train_images = "all"', 'test_images = "all"', 'width = "own"'):
        assert line in text
    (tmp_path / f"{figure}.toml").write_text(text, encoding="utf-8")
    for scale in USUAL:
        assert GATING.read(figure, scale, tmp_path).curves == curves
    config = next(iter(curves.values())).training(0)
    assert (config.data.train_images, config.model.width) == (None, None)


SIZES = {
    "digits": 1347,
    "validation:cifar10": 40_000,
    "fashion-mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "cifar10+fashion-mnist": 110_000,
    "validation:cifar10+fashion-mnist": 88_000,
}
"""Images to train on."""


@pytest.mark.parametrize("figure", FIGURES)
def test_all_curves_of_a_figure_are_comparable(figure: str) -> None:
    for scale in FIGURES[figure].scales:
        curves = GATING.read(figure, scale).curves.values()
        same = ("seeds", "swept", "values", "data", "train_images", "test_images", "backbone", "experts")
        for name in same:
            assert len({getattr(curve, name) for curve in curves}) == 1, name
        assert len({curve.clean_epochs + curve.channel_epochs for curve in curves}) == 1
        assert all((curve.train_images or 0) <= SIZES[curve.data] for curve in curves)
        assert len({curve.label for curve in curves}) == len(curves)
        assert all(curve.label for curve in curves)


def test_all_figures_but_those_for_a_gpu_are_measured_at_every_usual_scale() -> None:
    for name, heading in FIGURES.items():
        assert heading.scales == (("gpu",) if name in GPU_FIGURES else USUAL)
    assert set(GPU_FIGURES) < set(FIGURES)


def test_a_smaller_scale_trains_less() -> None:
    def images_seen(figure: str, scale: str) -> int:
        curves = GATING.read(figure, scale).curves.values()
        return sum(
            curve.seeds
            * (curve.train_images or SIZES[curve.data])
            * (curve.clean_epochs + curve.channel_epochs)
            for curve in curves
        )

    for figure in [name for name in FIGURES if name not in GPU_FIGURES]:
        assert images_seen(figure, "smoke") < images_seen(figure, "quick") < images_seen(figure, "full")


WRONG = {
    # what the file holds: what is said of it
    'method = "best"': [
        "curves.x: method is 'best'",
        "one of channel-aware, naive,",
        "one-network-best-link",
    ],
    'method = "naive + noise"': ["method is 'naive + noise'", "one of channel-aware, naive, naive-noise"],
    'law = "rayleigh:{mean}"': [
        "curves.x: law is 'rayleigh:{mean}'",
        "names of settings in braces",
        "'mean'",
    ],
    'law = "rayleigh:{}"': ["curves.x: law is 'rayleigh:{}'", "names of settings in braces"],
    'law = "rayleigh:{mean_snr_db"': ["curves.x: law is ", "names of settings in braces"],
    'law = "rayleigh:{method:g}"': ["curves.x: law is ", "names of settings in braces"],
    'law = "rain:{mean_snr_db:g}"': ["curves.x: law is 'rain:{mean_snr_db:g}'", "rayleigh:MEAN_DB"],
    'law = "spread:0:{mean_snr_db:g}"': ["curves.x: law is ", "spread_db to be a number from 0 to 300"],
    'law = "fixed:1,2"': ["curves.x: law is 'fixed:1,2'", "links to be 2"],
    "networks = 5": ["curves.x: networks is 5", "at most 4, the number of experts"],
    "channel_epochs = 0": ["curves.x: channel_epochs is 0", "at least 1: the published form"],
    'method = "copied"\npolicy = "topk:2"': [
        "curves.x: policy is 'topk:2'",
        "nothing: copies of one network",
    ],
    'method = "copied"\ntrain_snr = "fixed:1,2,3,4"': ["curves.x: train_snr is ", "links to be 4"],
    "k = 5": ["curves.x: k is 5", "at most 4, the number of experts"],
    "experts = 2\nk = 3": ["curves.x: k is 3", "at most 2, the number of experts"],
    "k = 5\n[curves.x.quick]\nk = 1": ["curves.x: k is 5"],
    "[curves.x.smoke]\nk = 5": ["curves.x: k is 5"],
    "experts = 0": ["curves.x: experts is 0", "at least 1"],
    'train_snr = "fair"': ["curves.x: train_snr is 'fair'", "uniform:LOW_DB:HIGH_DB"],
    'transmission = "am"': ["curves.x: transmission is 'am'", "analog[:REPEATS]"],
    'train_transmission = "digital:9:qpsk:none"': [
        "curves.x: train_transmission is ",
        "bits to be at most 8",
    ],
    'swept = "k"': ["curves.x: swept is 'k'", "'mean_snr_db', 'spread_db'"],
    "values = [500]": ["curves.x: mean_snr_db is 500", "at most 100"],
    'swept = "spread_db"\nvalues = [-1]': ["curves.x: spread_db is -1", "at least 0"],
    'swept = "delay_slots"\nvalues = [0.5]': ["curves.x: delay_slots is 0.5", "an integer"],
    "no_good_link = 1.5": ["curves.x: no_good_link is 1.5", "at most 1"],
    "train_images = 0": ["curves.x: train_images is 0", "at least 1"],
    'test_images = "own"': ["curves.x: test_images is 'own'", 'an integer of at least 1, or "all"'],
    "width = 0": ["curves.x: width is 0", "at least 1"],
    "shift = 17": ["curves.x: shift is 17", "at most 16"],
    'gate = "mlp"': ["curves.x: gate is 'mlp'", "one of concat, bias"],
    "epochs = 3": ["curves.x: epochs is 3", "a known key"],
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_setting_is_named_with_its_file_and_curve(text: str, tmp_path: Path) -> None:
    file, head = tmp_path / "codes.toml", 'title = "T"\nkind = "accuracy"\nnumber = 1\n[curves.x]\n'
    file.write_text(head + text, encoding="utf-8")
    with pytest.raises(InvalidInputError) as refused:
        run_study(GATING, tmp_path / "out", settings=tmp_path)
    for words in ("codes.toml: ", *WRONG[text]):
        assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == [file]


def test_the_law_follows_what_is_swept() -> None:
    curve = GatingSettings(law="spread:{mean_snr_db:g}:{spread_db:g}", spread_db=2.5)
    assert curve.at(-3).process().name == "spread:-3:2.5"
    swept = GatingSettings(law="one-bad:{bad_db:g}:20", swept="bad_db")
    assert swept.at(7).process().name == "one-bad:7:20"


# What is trained for which method, and who chooses.


def config_of(method: str, **settings: Any) -> ChannelAwareConfig:
    return GatingSettings(method=method, **settings).training(3)


def test_methods_that_can_share_a_model_do() -> None:
    for method in ("best-link", "oracle", "channel-off"):
        assert config_of(method) == config_of("channel-aware")
    assert config_of("random") == config_of("naive-noise")
    assert config_of(SINGLE[0]) == config_of(SINGLE[1])
    different = ("channel-aware", "naive", "naive-noise", "one-network")
    assert len({repr(config_of(method)) for method in different}) == 4


def test_each_method_is_trained_as_it_says() -> None:
    aware = config_of("channel-aware")
    assert (aware.seed, aware.channel.epochs, aware.channel.gate_sees_snr) == (3, 6, True)
    assert config_of("naive").channel.epochs == 0
    as_bad = aware.channel.model_copy(update={"gate_sees_snr": False})
    as_drawn = as_bad.model_copy(update={"no_good_link": 0.0})
    assert aware.channel.no_good_link == 0.25
    assert config_of("naive-noise") == aware.model_copy(update={"channel": as_drawn})
    assert config_of("naive-noise-no-good-link") == aware.model_copy(update={"channel": as_bad})
    single = config_of("one-network", experts=6, k=2)
    assert (single.model.experts, single.model.k, single.channel.epochs) == (1, 1, 6)


def test_what_a_curve_is_tested_over_is_nothing_that_it_is_trained_for() -> None:
    tested = {"law": "rayleigh:3", "transmission": "digital:4:qpsk:ldpc", "delay_slots": 5, "error_db": 3.0}
    assert config_of("channel-aware", **tested, mean_snr_db=1.0, spread_db=2.0) == config_of("channel-aware")


@pytest.mark.parametrize(
    ("method", "policy"),
    [
        ("channel-aware", TopK(2)),
        ("best-link", BestLink(2)),
        ("random", RandomK(2, 3)),
        ("one-network", TopK(1)),
        ("one-network-best-link", TopK(1)),
    ],
)
def test_each_method_chooses_as_it_says(method: str, policy: Policy) -> None:
    assert GatingSettings(method=method, k=2).policy_of(3) == policy


def test_the_guide_describes_every_method() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results" / "gating-study.md").read_text(encoding="utf-8")
    table = page.partition("## Settings")[0]
    assert re.findall(r"^\| [^|]+ \| `([a-z-]+)` \| ", table, flags=re.MULTILINE) == list(METHODS_OF_STUDY)


@pytest.mark.parametrize("method", ["oracle", "overlap-oracle"])
def test_an_oracle_of_two_experts_is_refused(method: str) -> None:
    with pytest.raises(InvalidInputError, match="an oracle chooses one expert"):
        GatingSettings(method=method, k=2)


def test_only_training_with_overlap_has_networks_to_copy_and_a_common_share() -> None:
    few = {"networks": 2, "common": 0.1}
    of_overlap = config_of("overlap", **few)
    assert (of_overlap.clean.networks, of_overlap.clean.common, of_overlap.channel.common) == (2, 0.1, 0.1)
    assert config_of("channel-aware", **few) == config_of("channel-aware")
    for same in ("overlap-best-link", "overlap-oracle"):
        assert config_of(same) == config_of("overlap")
    blind = config_of("overlap").channel.model_copy(update={"gate_sees_snr": False})
    assert config_of("overlap-blind") == config_of("overlap").model_copy(update={"channel": blind})


@pytest.mark.parametrize("swept", ["networks", "expert_hidden"])
def test_where_training_is_swept_every_point_has_a_model_of_its_own(swept: str, tmp_path: Path) -> None:
    tiny = LeNetSettings(**TINY | {"method": "overlap", "swept": swept, "values": (1, 4, 4)})
    work = Workspace(tmp_path, silent, {"device": "cpu"})
    rows = list(accuracy.measure(tiny, 0, work))
    assert [row["x"] for row in rows] == [1, 4, 4]
    assert rows[1] == rows[2], "over the same links"
    assert len(list((tmp_path / "models").iterdir())) == 4, "two stages of each, and 4 is trained once"


def test_some_stage_has_to_train_the_gate() -> None:
    with pytest.raises(
        InvalidInputError, match="channel_epochs is 0; expected at least 1 where networks is 1"
    ):
        GatingSettings(method="overlap", channel_epochs=0)
    assert GatingSettings(method="overlap", channel_epochs=0, networks=2).channel_epochs == 0
    assert GatingSettings(method="copied", channel_epochs=0).channel_epochs == 0
    with pytest.raises(InvalidInputError, match="gate_rate is 0; expected a number above 0"):
        GatingSettings(gate_rate=0)


def test_the_sizes_of_experts_and_of_the_gate_are_those_of_the_curve() -> None:
    model = config_of("overlap", expert_hidden=6, gate_hidden=8).model
    assert (model.expert_hidden, model.gate_hidden) == (6, 8)
    assert (config_of("overlap").model.expert_hidden, config_of("overlap").model.gate_hidden) == (None, None)


def test_the_rates_are_those_of_the_curve_in_both_stages() -> None:
    for method in ("overlap", "channel-aware", "copied"):
        config = config_of(method, learning_rate=0.02, warmup=0.1, gate_rate=0.5)
        for stage in (config.clean, config.channel):
            assert (stage.learning_rate, stage.warmup, stage.gate_rate) == (0.02, 0.1, 0.5)


# Asking over links: of a model that is made up.

FEATURES, CLASSES, ITEMS = 8, 3, 600


def asked_of(experts: int = 4, items: int = ITEMS) -> Any:
    """A mixture with random weights, whose gate likes good links, and payloads with the labels it gives."""
    torch.manual_seed(0)
    gate = BiasGate(MlpGate(FEATURES, experts))
    with torch.no_grad():
        nn.init.normal_(gate.content.last.weight)
        nn.init.uniform_(gate.link_worth.weight_S, 0.5, 1.5)
    modules = [MlpExpert(FEATURES, CLASSES, 16) for _ in range(experts)]
    model = MixtureOfExperts(nn.Identity(), MoeLayer(gate, modules, source=experts)).eval()
    payload_TF = torch.randn(items, FEATURES)
    with torch.no_grad():
        label_T = model(payload_TF).y_TC.argmax(dim=1)
    return SimpleNamespace(model=model, payload_T=payload_TF, labels_T=label_T)


def outcome_of(method: str, *, seed: int = 5, point: int = 1, items: int = ITEMS, **settings: Any) -> Answers:
    curve = GatingSettings(method=method, **settings)
    return ask_over_links(asked_of(1 if method in SINGLE else 4, items), curve, seed, point)


LAWS = ("spread:{mean_snr_db:g}:{spread_db:g}", "rayleigh:{mean_snr_db:g}", "gauss-markov:5:{correlation:g}")


@pytest.mark.parametrize("law", LAWS)
def test_all_methods_meet_the_same_links_at_the_same_point(law: str) -> None:
    links_TE = outcome_of("channel-aware", law=law).snr_db_TE
    assert links_TE.shape == (ITEMS, 4)
    assert links_TE.std() > 1
    for method in METHODS:
        of_single = {
            "one-network": links_TE[:, :1],
            "one-network-best-link": links_TE.max(axis=1, keepdims=True),
        }
        np.testing.assert_array_equal(outcome_of(method, law=law).snr_db_TE, of_single.get(method, links_TE))


AT = ((5, 1), (5, 2), (6, 1))
"""Seeds and points."""


def test_another_point_or_seed_has_other_links() -> None:
    links = [outcome_of("naive", law="rayleigh:5", seed=seed, point=point).snr_db_TE for seed, point in AT]
    assert not np.array_equal(links[0], links[1])
    assert not np.array_equal(links[0], links[2])


def test_noise_is_drawn_anew_at_every_point_and_for_every_seed() -> None:
    right = [outcome_of("naive", law="fixed:0", seed=seed, point=point).right_T for seed, point in AT]
    assert not np.array_equal(right[0], right[1])
    assert not np.array_equal(right[0], right[2])


@pytest.mark.parametrize("method", METHODS)
def test_asking_again_gives_the_same(method: str) -> None:
    asked, curve = asked_of(1 if method in SINGLE else 4), GatingSettings(method=method)
    torch.manual_seed(77)  # whatever was drawn before
    first = ask_over_links(asked, curve, 5, 1)
    torch.manual_seed(78)
    again = ask_over_links(asked, curve, 5, 1)
    np.testing.assert_array_equal(first.right_T, again.right_T)
    np.testing.assert_array_equal(first.chosen_TE, again.chosen_TE)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("method", [method for method in METHODS if method != "oracle"])
def test_as_many_experts_answer_as_are_asked(method: str, k: int) -> None:
    chosen_TE = outcome_of(method, k=k).chosen_TE
    assert (chosen_TE.sum(axis=1) == (1 if method == "one-network" else k)).all()


def test_copies_of_one_network_are_asked_over_the_best_links_and_the_better_one_counts_more() -> None:
    method = "one-network-best-link"
    outcome = outcome_of(method, k=3, law="fixed:-5,40,3,-40")
    np.testing.assert_array_equal(outcome.snr_db_TE, [[40, 3, -5]] * ITEMS)
    for law in ("fixed:40,-40,-50,-60", "fixed:-50,-40,-60,40"):
        assert outcome_of(method, k=2, law=law).right_T.mean() > 0.99
    one, two = (outcome_of(method, k=k, law="fixed:-3,-3,-40,-40").right_T.mean() for k in (1, 2))
    assert two > one + 0.03, "two receptions know more than one"


def test_best_link_takes_the_best_link() -> None:
    outcome = outcome_of("best-link")
    np.testing.assert_array_equal(outcome.chosen_TE.argmax(axis=1), outcome.snr_db_TE.argmax(axis=1))


def test_best_link_takes_what_looks_best() -> None:
    chosen_db = {}
    for name, known in (("now", {}), ("late", {"delay_slots": 50}), ("wrong", {"error_db": 100.0})):
        outcome = outcome_of("best-link", law="rayleigh:0", **known)
        chosen_db[name] = outcome.snr_db_TE[outcome.chosen_TE].mean()
    anyone_db = outcome.snr_db_TE.mean()
    assert chosen_db["now"] > anyone_db + 5
    for name in ("late", "wrong"):  # no better than any
        assert chosen_db[name] == pytest.approx(anyone_db, abs=1.5)


def test_one_network_with_copies_goes_by_what_it_sees_and_meets_what_is() -> None:
    now = outcome_of("one-network-best-link", law="rayleigh:0").snr_db_TE
    wrong = outcome_of("one-network-best-link", law="rayleigh:0", error_db=100.0).snr_db_TE
    assert now.mean() > wrong.mean() + 4


def seen_by_the_gate(method: str) -> set[float]:
    asked, seen = asked_of(1 if method in SINGLE else 4), list[Tensor]()
    asked.model.layer.gate.register_forward_pre_hook(lambda gate, args: seen.append(args[1]))
    ask_over_links(asked, GatingSettings(method=method, law="one-bad:-10:7"), 0, 0)
    return set(torch.cat(seen).flatten().tolist())


@pytest.mark.parametrize(
    ("method", "seen"),
    [
        ("channel-aware", {-10.0, 7.0}),
        ("best-link", {-10.0, 7.0}),
        ("naive", {20.0}),
        ("naive-noise", {20.0}),
        ("random", {20.0}),
        ("channel-off", {20.0}),
    ],
)
def test_only_gates_that_are_channel_aware_see_the_channel(method: str, seen: set[float]) -> None:
    assert seen_by_the_gate(method) == seen


def test_a_gate_that_sees_the_channel_uses_better_links() -> None:
    used_db = {}
    for method in ("channel-aware", "naive", "best-link", "random"):
        outcome = outcome_of(method, mean_snr_db=5.0, spread_db=10.0)
        used_db[method] = outcome.snr_db_TE[outcome.chosen_TE].mean()
    assert used_db["best-link"] == pytest.approx(15)
    assert used_db["naive"] == pytest.approx(5, abs=1.5)
    assert used_db["random"] == pytest.approx(5, abs=1.5)
    assert used_db["naive"] + 3 < used_db["channel-aware"] < 15


def without_a_channel() -> np.ndarray:
    asked = asked_of()
    with torch.no_grad():
        return np.asarray(asked.model(asked.payload_T).y_TC.argmax(dim=1) == asked.labels_T)


@pytest.mark.parametrize(
    ("method", "law"),
    [
        ("channel-off", "spread:-20:10"),
        ("channel-off", "fixed:300"),
        ("naive", "fixed:300"),
        ("channel-aware", "fixed:300"),
    ],
)
def test_with_the_channel_off_or_perfect_everything_is_as_without_one(method: str, law: str) -> None:
    assert without_a_channel().all()  # labels are what it answers
    assert outcome_of(method, law=law).right_T.all()


def test_at_30_db_almost_everything_is_as_without_a_channel() -> None:
    assert outcome_of("channel-aware", law="fixed:30").right_T.mean() > 0.97
    assert outcome_of("channel-aware", law="fixed:0").right_T.mean() < 0.9


def test_the_oracle_is_right_where_any_expert_is() -> None:
    oracle = outcome_of("oracle", law="fixed:300")
    np.testing.assert_array_equal(oracle.right_T, oracle.chosen_TE.any(axis=1))
    for method in ("channel-aware", "naive", "best-link", "random"):
        assert (oracle.right_T | ~outcome_of(method, law="fixed:300").right_T).all()


def test_the_oracle_s_experts_answer_each_over_its_own_link() -> None:
    perfect_TE = outcome_of("oracle", law="fixed:300").chosen_TE
    first_is_bad_TE = outcome_of("oracle", law="one-bad:-50:300:0").chosen_TE
    np.testing.assert_array_equal(first_is_bad_TE[:, 1:], perfect_TE[:, 1:])
    assert not np.array_equal(first_is_bad_TE[:, 0], perfect_TE[:, 0])


@pytest.mark.parametrize("mean_snr_db", [-10.0, 0.0, 10.0])
def test_over_noisy_links_no_choice_is_better_than_the_oracle_s(mean_snr_db: float) -> None:
    settings = {"mean_snr_db": mean_snr_db, "items": 4000}
    best = outcome_of("oracle", **settings).right_T.mean()
    for method in METHODS:
        if method not in ("oracle", "channel-off", *SINGLE):
            assert outcome_of(method, **settings).right_T.mean() < best


def test_a_summary_says_how_often_whom_and_over_which_links() -> None:
    chosen_TE = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    snr_db_TE = np.array([[1.0, 9, 9], [3, 9, 9], [9, 5, 9], [9, 9, -9]])
    assert accuracy.summary(Answers(np.array([True, False, True, True]), chosen_TE, snr_db_TE)) == {
        "accuracy": 0.75,
        "chosen_snr_db": 0.0,
        "first_share": 0.5,
        "least_share": 0.25,
        "largest_share": 0.5,
    }


@pytest.mark.parametrize("k", [1, 2])
def test_shares_of_all_experts_sum_to_one(k: int) -> None:
    for method in ("channel-aware", "random", "best-link"):
        outcome = outcome_of(method, k=k, experts=4)
        shares_E = outcome.chosen_TE.sum(axis=0) / outcome.chosen_TE.sum()
        told = accuracy.summary(outcome)
        assert shares_E.sum() == pytest.approx(1)
        assert told["first_share"] == shares_E[0]
        assert told["least_share"] == shares_E.min()
        assert told["largest_share"] == shares_E.max()


@pytest.mark.parametrize("k", [1, 2])
def test_shares_by_own_snr_are_what_chance_says(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """A link at share u of the interval is the best of 4 with probability u^3, the second 3 u^2 (1 - u)."""
    monkeypatch.setattr(shares, "Asked", lambda *args: asked_of(items=20_000))
    unused = Workspace(Path(), silent, {})
    by_method = {}
    for method in ("best-link", "random"):
        rows = list(shares.measure(ExpertShareSettings(method=method, k=k), 0, unused))
        assert [row["x"] for row in rows] == list(ExpertShareSettings().values)
        assert all(0.24 < row["least_share"] <= 0.25 <= row["largest_share"] < 0.26 for row in rows)
        by_method[method] = np.array([row["share"] for row in rows])
    np.testing.assert_allclose(by_method["random"], 0.25, atol=0.02)
    place = (np.array(ExpertShareSettings().values) + 5) / 25
    first, second = place**3, 3 * place**2 * (1 - place)
    expected = first if k == 1 else (first + second) / 2
    np.testing.assert_allclose(by_method["best-link"], expected, atol=0.02)


# Models.


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace that keeps what tests train."""
    return Workspace(tmp_path_factory.mktemp("work"), silent, {"device": "cpu"})


@pytest.fixture(scope="module")
def told(work: Workspace) -> dict[str, dict[float, dict[str, float]]]:
    """Rows of every method by x, trained a little."""
    return {
        method: {
            row["x"]: dict(row) for row in accuracy.measure(GatingSettings(method=method, **TINY), 0, work)
        }
        for method in METHODS
    }


def test_every_method_has_a_row_for_each_value(told: dict[str, dict[float, dict[str, float]]]) -> None:
    for rows in told.values():
        assert list(rows) == [0, 10]
        for row in rows.values():
            assert row.keys() == {"x", "seed", *accuracy.COLUMNS}
            assert 0 <= row["accuracy"] <= 1


def test_of_trained_models_the_oracle_is_the_best_over_noisy_links(
    told: dict[str, dict[float, dict[str, float]]],
) -> None:
    for x in (0, 10):
        assert told["oracle"][x]["accuracy"] == max(
            told[method][x]["accuracy"] for method in METHODS if method != "channel-off"
        )


def test_without_a_channel_the_swept_snr_says_nothing(
    told: dict[str, dict[float, dict[str, float]]],
) -> None:
    assert told["channel-off"][0]["accuracy"] == told["channel-off"][10]["accuracy"]
    assert told["one-network"][0]["accuracy"] != told["one-network"][10]["accuracy"]


def test_curves_that_share_a_model_train_it_once(
    told: dict[str, dict[float, dict[str, float]]], work: Workspace
) -> None:
    """Stage 1 of the mixture and of one network, stage 2 aware, blind and of one network."""
    kept = sorted(path.name for path in work.folder.rglob("*.safetensors"))
    assert kept == ["channel.safetensors"] * 3 + ["clean.safetensors"] * 2


def test_a_model_that_is_kept_is_taken_as_it_is(
    told: dict[str, dict[float, dict[str, float]]], work: Workspace
) -> None:
    said: list[str] = []
    again = Workspace(work.folder, lambda activity, *rest: said.append(activity), {"device": "cpu"})
    settings = GatingSettings(method="channel-aware", **TINY)
    assert {row["x"]: dict(row) for row in accuracy.measure(settings, 0, again)} == told["channel-aware"]
    assert said == []
    other = GatingSettings(method="channel-aware", **TINY | {"channel_epochs": 1})
    trained_model(other.training(0), again)
    assert len(said) == 1
    assert said[0].startswith("train lenet5, channel, ")  # stage 1 is there
    assert said[0].endswith(", seed 0")


def test_held_out_images_are_asked_about(work: Workspace) -> None:
    config = GatingSettings(method="naive", **TINY).training(0)
    assert len(Asked(config, None, work).labels_T) == len(Asked(config, None, work).payload_T) == 450
    some = Asked(config, 30, work)
    assert some.payload_T.shape == (30, 400)
    images = torch.from_numpy(load_images("digits").test_images[:30]).float() / 255
    with torch.no_grad():
        torch.testing.assert_close(some.model.layer(some.payload_T).y_TC, some.model(images).y_TC)
    assert torch.equal(some.labels_T, Asked(config, None, work).labels_T[:30])


def test_a_study_knows_its_images_and_traces(tmp_path: Path) -> None:
    traces = tmp_path / "log.csv"
    read = []
    for last in (2, 2, 3):
        traces.write_text(f"SNR\n1\n{last}\n", encoding="utf-8")
        replayed = GatingSettings(data="digits", train_snr=f"trace:{traces}")
        read.append(inputs_of({"x": {"a": replayed, "b": GatingSettings(data="digits")}}, {}))
    assert set(read[0]) == {"set of images digits", f"trace:{traces}"}
    assert read[0] == read[1]
    assert read[0] != read[2]


class Stopped(Exception):
    """Raised in the middle of a study."""


def test_a_resumed_study_trains_nothing_again_and_ends_the_same(tmp_path: Path) -> None:
    for figure, methods in (
        ("analog_spread_0", ("naive", "channel-aware")),
        ("analog_spread_10", METHODS[:4]),
    ):
        curves = {
            str(number): LeNetSettings(method=method, **TINY | {"clean_epochs": 1, "channel_epochs": 1})
            for number, method in enumerate(methods)
        }
        heading = Heading(title=figure, kind="accuracy", number=1)
        path = tmp_path / "settings" / f"{figure}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dump_figure(Figure(figure, heading, curves)), encoding="utf-8")

    def run(out: str, stop: str = "", **options: Any) -> list[str]:
        said: list[str] = []

        def progress(activity: str, done: int, total: int, note: str = "", /) -> None:
            said.append(activity)
            if done and activity == stop:
                raise Stopped

        run_study(GATING, tmp_path / out, progress=progress, options={"device": "cpu"}, **options)
        return [what for what in said if what.startswith("train")]

    with pytest.raises(Stopped):
        run("halves", stop="analog_spread_10: 2", settings=tmp_path / "settings")
    assert len(list((tmp_path / "halves.partial").rglob("*.safetensors"))) == 3
    assert run("halves", resume=True) == []
    trained = run("whole", settings=tmp_path / "settings")
    assert len(trained) == len(set(trained)) == 3  # an epoch each: clean, aware, blind
    for name in ("analog_spread_0.csv", "analog_spread_10.csv", "tables.md"):
        halves, whole = ((tmp_path / out / name).read_text(encoding="utf-8") for out in ("halves", "whole"))
        assert halves == whole
    assert not list((tmp_path / "whole").rglob("*.safetensors"))


# What is told.


def accuracies(by_seed: Callable[[int], float], x: tuple[float, ...] = (-5, 0, 5, 10, 15, 20)) -> list[Any]:
    """Rows whose accuracy is 0.5 + 0.01 x + something of each seed at contested means, and 0 elsewhere."""
    return [
        {"x": mean, "seed": seed, "accuracy": (0.5 + 0.01 * mean + by_seed(seed)) if mean <= 10 else 0.0}
        for seed in range(3)
        for mean in x
    ]


def curves_of(figure: str) -> dict[str, dict[str, GatingSettings]]:
    """Two curves over links whose spread is the last word of the figure's name, if that is a number."""
    spread = figure.rpartition("_")[2]
    if spread.isdecimal():
        links: dict[str, Any] = {"spread_db": float(spread)}
    else:
        links = {"law": "rayleigh:{mean_snr_db:g}"}
    methods = {"aware": "channel-aware", "blind": "naive-noise"}
    return {figure: {name: GatingSettings(method=method, **links) for name, method in methods.items()}}


def told_of(figure: str, gain: float, scatter: float) -> list[str]:
    aware = accuracies(lambda seed: gain + scatter * (seed - 1))
    rows = Rows({"aware": aware, "blind": accuracies(lambda seed: 0.0)})
    return claims(curves_of(figure), {figure: rows})


def test_a_gain_of_more_than_two_standard_errors_is_told_to_hold_where_links_differ() -> None:
    # Differences 0.02 + (-0.01, 0, 0.01): standard error 0.01 / sqrt(3) = 0.0058.
    assert told_of("analog_spread_10", 0.02, 0.01) == [
        "analog_spread_10: channel-aware minus naive + noise +2.00 points, standard error 0.58 over 3 seeds; "
        "wanted more than twice the standard error: holds"
    ]
    for gain in (0.0115, 0.0, -0.02):
        assert told_of("digital_spread_10", gain, 0.01)[0].endswith("standard error: does not hold")


def test_a_difference_of_less_than_two_standard_errors_is_told_to_hold_where_links_are_alike() -> None:
    for gain in (0.0115, 0.0, -0.0115):
        (line,) = told_of("analog_spread_0", gain, 0.01)
        assert line.startswith("analog_spread_0: channel-aware minus naive + noise ")
        assert line.endswith("wanted less than twice the standard error: holds")
    for gain in (0.012, -0.012):
        assert told_of("resnet18_spread_0", gain, 0.01)[0].endswith("does not hold")


def test_no_claim_is_told_of_other_figures_or_of_one_seed() -> None:
    for figure in ("analog_spread_5", "analog_rayleigh", "gates"):
        assert told_of(figure, 0.02, 0.01) == []
    one_seed = [row for row in accuracies(lambda seed: 0.0) if row["seed"] == 0]
    rows = Rows({"aware": one_seed, "blind": one_seed})
    assert claims(curves_of("analog_spread_0"), {"analog_spread_0": rows}) == []
    assert claims({}, {}) == []


def test_no_claim_is_told_where_several_curves_are_of_a_method() -> None:
    curves = curves_of("analog_spread_10")["analog_spread_10"]
    curves["aware too"] = curves["aware"].model_copy(update={"k": 2})
    rows = {name: accuracies(lambda seed: 0.01 * seed) for name in curves}
    assert claims({"gates": curves}, {"gates": Rows(rows)}) == []


def test_shares_of_intervals_that_do_not_occur_decide_nothing() -> None:
    curves = {"shares": {"channel_aware": ExpertShareSettings(method="channel-aware")}}
    for share in ([0.1], [0.1, math.nan]):
        rows = [
            {"x": x, "seed": 0, "share": y, "least_share": 0.2, "largest_share": 0.3}
            for x, y in enumerate(share)
        ]
        assert claims(curves, {"shares": Rows({"channel_aware": rows})}) == []


def test_claims_compare_what_both_curves_have() -> None:
    """A user's own settings may lack a curve, a seed or a mean."""
    aware = accuracies(lambda seed: 0.02 + 0.01 * (seed - 1))
    blind = [row for row in accuracies(lambda seed: 0.0, (0, 5, 20)) if row["seed"] < 2]
    figure = "analog_spread_10"
    for kept in ({"aware": aware}, {"blind": blind}, {}):
        assert claims(curves_of(figure), {figure: Rows(kept)}) == []
    (line,) = claims(curves_of(figure), {figure: Rows({"aware": aware, "blind": blind})})
    assert "+1.50 points, standard error 0.50 over 2 seeds" in line


def test_claims_are_told_of_the_built_in_figures_of_spread_links() -> None:
    told = set()
    for figure in FIGURES:
        curves = GATING.read(figure).curves
        rows = Rows({name: accuracies(lambda seed: 0.01 * seed) for name in curves})
        if figure != "shares" and claims({figure: curves}, {figure: rows}):
            told.add(figure)
    spread = {f"{kind}_spread_{db}" for kind in ("analog", "digital", "resnet18") for db in (0, 10)}
    assert told == spread | set(GPU_FIGURES)


def shares_of(shares: list[float], least: float, largest: float) -> Rows:
    return Rows(
        {
            name: [
                {"x": x, "seed": 0, "share": share, "least_share": least, "largest_share": largest}
                for x, share in enumerate(shares)
            ]
            for name in ("aware", "blind")
        }
    )


def test_what_shares_must_do_is_told_of_gates_that_see_the_channel() -> None:
    curves = {
        "aware": ExpertShareSettings(label="aware", method="channel-aware"),
        "blind": ExpertShareSettings(method="naive"),
    }

    def told_of_shares(*rows: Any) -> list[str]:
        return claims({"shares": curves}, {"shares": shares_of(*rows)})

    assert told_of_shares([0.1, 0.2, 0.4], 0.125, 0.5) == [
        "aware: an expert's share falls from 40.0 to 10.0 % with its own SNR: holds",
        "aware: shares overall 12.5 to 50.0 %, wanted 12.5 to 50.0 %: holds",
    ]
    falling, overall = told_of_shares([0.1, 0.09, 0.4], 0.12, 0.3)
    assert falling.endswith("does not hold")
    assert overall.endswith("does not hold")
    assert told_of_shares([0.1, 0.2, 0.4], 0.2, 0.51)[1].endswith("does not hold")


# The command.

REFUSED = {
    ("--smoke", "--gpu"): "--smoke --gpu is 'both'; expected at most one of them",
    ("--quick", "--smoke", "--gpu"): "--quick --smoke --gpu is 'all'; expected at most one of them",
    (
        "--only",
        "gpu_vit_cifar10",
    ): "expected a figure of scale full (gpu_vit_cifar10 is of gpu): analog_spread_0",
    ("--smoke", "--only", "gpu_vit_cifar10"): "a figure of scale smoke (gpu_vit_cifar10 is of gpu)",
    ("--gpu", "--only", "shares"): f"scale gpu (shares is of full, quick, smoke): {', '.join(GPU_FIGURES)}",
    ("--only", "spread"): "only is 'spread'; expected one of analog_spread_0, ",
    ("--smoke", "--device", "tpu"): "device is 'tpu'; expected auto, cpu, or cuda where PyTorch finds a GPU",
    ("--smoke", "--seed", "-1"): "seed is -1; expected an integer from 0",
}


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    outcome = CliRunner().invoke(study_command, ["gating", *options, "--out", str(tmp_path / "run")])
    assert isinstance(outcome.exception, InvalidInputError)
    assert REFUSED[options] in str(outcome.exception)
    assert not list(tmp_path.iterdir())
