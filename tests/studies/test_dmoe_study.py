"""The study of a language model over several nodes: its settings, and what its rows must obey."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from airmoe.cli.study import study as study_command
from airmoe.errors import InvalidInputError
from airmoe.language import MoeTransformer, TransformerSettings
from airmoe.links import Ofdma
from airmoe.seeding import torch_seeded
from airmoe.studies.curves.figure_file import dump_figure
from airmoe.studies.dmoe import DMOE
from airmoe.studies.dmoe.costs import asked
from airmoe.studies.dmoe.models import in_turn, placed
from airmoe.studies.dmoe.probe import NoisyCarrier, probe, sent, with_one

FIGURES = DMOE.figures
Rows = list[dict[str, float]]


@pytest.mark.parametrize("figure", FIGURES)
def test_settings_that_are_written_down_are_read_back_the_same(figure: str, tmp_path: Path) -> None:
    for scale in FIGURES[figure].scales:
        read = DMOE.read(figure, scale)
        (tmp_path / f"{figure}.toml").write_text(dump_figure(read), encoding="utf-8")
        assert DMOE.read(figure, scale, tmp_path) == read


@pytest.mark.parametrize("scale", ["full", "quick", "smoke"])
def test_all_curves_share_the_same_models(scale: str) -> None:
    trainings = {
        curve.training(0).model_dump_json()
        for figure in FIGURES
        for curve in DMOE.read(figure, scale).curves.values()
    }
    assert len(trainings) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('kind = "trade-off"\n[curves.x]\npolicy = "jessa:{x}:2"', "a policy: topk:K, "),
        ('kind = "trade-off"\n[curves.x]\nvalues = [0.5, 1.5]', "a policy: "),
        ('kind = "layers"\n[curves.x]\nvalues = [5]', "layer is 5; expected 0 to 4, the number of layers"),
        ('kind = "quality"\n[curves.x]\nmethod = "expert"\nexpert = 4', "expert that 4 experts allow"),
        ('kind = "quality"\n[curves.x]\nk = 5', "k that 4 experts allow"),
        ('kind = "trade-off"\n[curves.x]\npolicy = "des:0.5:2"', "a policy with {x}"),
        (
            'kind = "trade-off"\n[curves.x]\nexclusive = false',
            "exclusive = true: jesa:0.3:2 gives every link",
        ),
        ('kind = "layers"\n[curves.x]\ncompute_j = [5e-6, 1e-6]', "compute_j as [least, most]"),
        ('kind = "subcarriers"\n[curves.x]\nheads = 3', "a multiple of 6"),
    ],
)
def test_curves_that_cannot_be_measured_are_refused(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "quality.toml").write_text(f'title = "x"\nnumber = 1\n{text}\n', encoding="utf-8")
    with pytest.raises(InvalidInputError) as refused:
        DMOE.read("quality", "full", tmp_path)
    assert named in str(refused.value)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dmoe") / "run"
    told = CliRunner().invoke(study_command, ["dmoe", "--smoke", "--out", str(out)])
    assert told.exit_code == 0, told.output
    return out


def rows(study: Path, figure: str, curve: str) -> Rows:
    with (study / f"{figure}.csv").open(encoding="utf-8", newline="") as file:
        found = [row for row in csv.DictReader(file) if row["curve"] == curve]
    return [{name: float(value) for name, value in row.items() if name != "curve"} for row in found]


def column(study: Path, figure: str, curve: str, name: str) -> list[float]:
    return [row[name] for row in rows(study, figure, curve)]


def test_every_figure_has_its_files_and_no_model_is_left(study: Path) -> None:
    for figure in FIGURES:
        assert (study / f"{figure}.csv").exists()
        assert list((study / "figures").glob(f"{figure}*.svg"))
    page = (study / "tables.md").read_text(encoding="utf-8")
    assert "| mixture, 2 experts a byte |" in page
    assert "| jesa:0.3:2 |" in page
    assert not list(study.rglob("*.safetensors"))


def test_less_is_paid_where_less_is_asked(study: Path) -> None:
    for policy in ("jesa", "des", "homogeneous", "lower_bound"):
        energy = column(study, "trade_off", policy, "energy_j")
        assert energy == sorted(energy)
    jesa, homogeneous = (column(study, "trade_off", name, "energy_j") for name in ("jesa", "homogeneous"))
    assert all(a <= b for a, b in zip(jesa, homogeneous, strict=True))
    assert jesa[0] < 0.8 * homogeneous[-1]
    one, two, four = rows(study, "trade_off", "topk")
    assert [row["experts"] for row in (one, two, four)] == [1, 2, 4]
    assert one["energy_j"] < two["energy_j"] < four["energy_j"]
    (cheapest,) = rows(study, "trade_off", "cheapest")
    assert cheapest["energy_j"] < one["energy_j"]
    assert cheapest["away_share"] < 0.3


def test_control_is_paid_where_a_scheduler_decides(study: Path) -> None:
    for policy in ("jesa", "homogeneous"):
        assert len(set(column(study, "trade_off", policy, "control_j"))) == 1
        assert min(column(study, "trade_off", policy, "control_j")) > 0
    for policy in ("des", "lower_bound", "topk", "random", "cheapest"):
        assert set(column(study, "trade_off", policy, "control_j")) == {0.0}


def test_subcarriers_save_energy_and_the_bound_lies_below(study: Path) -> None:
    for curve in ("jesa", "des", "topk"):
        few, more = column(study, "subcarriers", curve, "energy_j")
        assert more < few
    for bound, other in zip(
        column(study, "subcarriers", "lower_bound", "energy_j"),
        column(study, "subcarriers", "jesa", "energy_j"),
        strict=True,
    ):
        assert bound <= other * 1.001  # deeper layers see other hidden states


def test_no_layer_with_less_is_the_same_for_all_curves(study: Path) -> None:
    curves = [rows(study, "layers", name) for name in ("one", "random_one", "random_two")]
    assert len({(of_curve[0]["bits_per_byte"], of_curve[0]["energy_j"]) for of_curve in curves}) == 1
    for layer in (1, 2):
        assert curves[0][layer]["experts"] == pytest.approx(1.5)
        assert curves[2][layer]["experts"] == pytest.approx(2)


def test_shares_of_a_layer_add_up_to_the_experts_of_a_byte(study: Path) -> None:
    for curve in ("code", "prose"):
        share_LE = np.reshape(column(study, "pattern", curve, "share"), (2, 4))
        np.testing.assert_allclose(share_LE.sum(axis=1), 2)


def test_a_domain_more_or_less_is_measured_and_the_last_row_is_their_mean(study: Path) -> None:
    for curve in ("mixture_2", "seed", "expert_3", "dense_all"):
        code, prose, both = column(study, "quality", curve, "bits_per_byte")
        assert both == pytest.approx((code + prose) / 2)
    assert rows(study, "quality", "seed") != rows(study, "quality", "dense_branch")


def test_less_can_be_read_where_there_is_noise_and_more_than_the_most_frequent_byte(study: Path) -> None:
    named = [column(study, "probe", name, "named") for name in ("none", "half", "once")]
    for clean, half, once, frequent in zip(
        *named, column(study, "probe", "none", "most_frequent"), strict=True
    ):
        assert frequent < once < half <= clean


def test_a_probe_reads_what_is_linear_in_the_hidden_states() -> None:
    random = torch.Generator().manual_seed(0)
    shown_VW = torch.randn(256, 64, generator=random, dtype=torch.float64)
    byte_T = torch.randint(0, 40, (4000,), generator=random)
    weight_WV = probe(shown_VW[byte_T], byte_T)
    asked_T = torch.randint(0, 40, (500,), generator=random)
    assert torch.equal((with_one(shown_VW[asked_T]) @ weight_WV).argmax(dim=1), asked_T)


def test_a_carrier_without_noise_changes_nothing_and_with_noise_adds_as_much_as_it_says() -> None:
    with torch_seeded(0, "probed"):
        model = MoeTransformer(
            TransformerSettings(width=32, layers=2, heads=2, expert_hidden=16, context=32)
        ).eval()
    tokens_BS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 32)))
    with torch.no_grad():
        clean, noisy = (
            [NoisyCarrier(0.0, 0), NoisyCarrier(0.0, 1)],
            [NoisyCarrier(0.5, 0), NoisyCarrier(0.0, 1)],
        )
        before = model(tokens_BS).logits_BSV
        torch.testing.assert_close(model(tokens_BS, carrier=clean).logits_BSV, before)
        assert not torch.allclose(model(tokens_BS, carrier=noisy).logits_BSV, before, atol=1e-4)
    added_TW = noisy[0].sent_TW[0] - clean[0].sent_TW[0]
    assert float(added_TW.std() / clean[0].sent_TW[0].square().mean().sqrt()) == pytest.approx(0.5, rel=0.1)
    assert sent(model, tokens_BS, 0.0, 0).shape == (128, 2, 32)


@pytest.mark.parametrize(
    ("figure", "text", "named"),
    [
        ("quality", 'kind = "quality"\n[curves.x]\nvalues = [3]', r"values is (3,); expected [2]"),
        ("pattern", 'kind = "pattern"\n[curves.x]\ndomain = 2', "domain is 2; expected 0 to 1"),
        (
            "layers",
            'kind = "layers"\n[curves.x]\nexperts = 3',
            "model.experts is 3; expected a multiple of 2",
        ),
        ("layers", 'kind = "layers"\n[curves.x]\ndata = "latin"', "texts is 'latin'"),
    ],
)
def test_curves_that_do_not_fit_the_texts_are_refused_before_anything_is_trained(
    figure: str, text: str, named: str, tmp_path: Path
) -> None:
    (tmp_path / f"{figure}.toml").write_text(f'title = "x"\nnumber = 1\n{text}\n', encoding="utf-8")
    curves = {figure: DMOE.read(figure, "full", tmp_path).curves}
    with pytest.raises(InvalidInputError) as refused:
        DMOE.inputs(curves, {})
    assert named in str(refused.value)


def test_every_node_holds_texts_of_every_domain() -> None:
    domain_W, node_W = np.arange(32) % 2, in_turn(32, nodes=4, domains=2)
    assert {(int(d), int(n)) for d, n in zip(domain_W, node_W, strict=True)} == {
        (d, n) for d in range(2) for n in range(4)
    }


def test_links_and_computing_follow_the_seed() -> None:
    curve = DMOE.read("trade_off", "smoke").curves["topk"]
    with torch_seeded(0, "placed"):
        model = MoeTransformer(curve.training(0).model).eval()
    windows_WS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 20)))
    spent = []
    for seed in (0, 0, 1):
        cost = asked(placed(model, curve, seed), windows_WS, curve, "topk:2", seed)
        spent.append((cost.energy_j_per_token, cost.layers[0].airtime_s))
    assert spent[0] == spent[1]
    assert spent[0][0] != spent[2][0]
    assert spent[0][1] != spent[2][1]
    away_j = sum(layer.airtime_s for layer in cost.layers) * Ofdma().power_w
    computing_j = cost.energy_j_per_token * cost.layers[0].tokens - away_j
    assert computing_j > 2 * curve.layers * cost.layers[0].tokens * curve.compute_j[0]
