"""The study of expert selection: its settings, and what it measures beside sums by hand."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.links import Ofdma
from airmoe.studies.curves.figure_file import dump_figure
from airmoe.studies.curves.rows import Rows
from airmoe.studies.curves.run import run_study
from airmoe.studies.curves.settings import USUAL_SCALES as SCALES
from airmoe.studies.selection import SELECTION
from airmoe.studies.selection.drawn_layers import DrawnLayer, draw_layer
from airmoe.studies.selection.effort import FAMILIES, sets_of_at_most
from airmoe.studies.selection.energies import EnergySettings, measure_layers, measure_sweep
from airmoe.studies.selection.quality import (
    GapSettings,
    OptimalShareSettings,
    all_differ_probability,
    measure_gap,
    measure_share,
    wanted_gaps,
)
from airmoe.studies.selection.settings import LayerSettings

FIGURES, BUILT_IN = SELECTION.figures, SELECTION.folder
HEAD = 'title = "T"\nkind = "energy_by_importance"\nnumber = 1\n'


@pytest.mark.parametrize("figure", FIGURES)
def test_settings_that_are_written_down_are_read_back_the_same(figure: str, tmp_path: Path) -> None:
    for scale in SCALES:
        read = SELECTION.read(figure, scale)
        assert len(read.curves) >= 2
        (tmp_path / f"{figure}.toml").write_text(dump_figure(read), encoding="utf-8")
        for read_at in SCALES:
            assert SELECTION.read(figure, read_at, tmp_path) == read


def test_a_smaller_scale_measures_less() -> None:
    for figure in FIGURES:
        rows = {}
        for scale in SCALES:
            curves = SELECTION.read(figure, scale).curves
            rows[scale] = sum(curve.seeds * len(curve.x_values) for curve in curves.values())
        assert rows["smoke"] < rows["quick"] <= rows["full"], figure
        assert all(curve.seeds >= 5 for curve in SELECTION.read(figure, "quick").curves.values())


def test_a_file_says_more_than_a_scale_and_its_table_for_a_scale_more_than_the_rest(tmp_path: Path) -> None:
    text = "[curves.x]\nvalues = [64, 128]\n[curves.x.smoke]\nvalues = [256]\n"
    head = HEAD.replace("energy_by_importance", "proven_gap")
    (tmp_path / "proven_gap.toml").write_text(head + text, encoding="utf-8")
    read = {scale: SELECTION.read("proven_gap", scale, tmp_path).curves["x"] for scale in SCALES}
    assert {scale: curve.values for scale, curve in read.items()} == {
        "full": (64, 128),
        "quick": (64, 128),
        "smoke": (256,),
    }
    assert {scale: curve.seeds for scale, curve in read.items()} == {"full": 30, "quick": 5, "smoke": 2}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_file_says_only_in_what_its_curves_differ_from_the_defaults(figure: str, tmp_path: Path) -> None:
    whole = {scale: SELECTION.read(figure, scale) for scale in SCALES}
    lines = (BUILT_IN / f"{figure}.toml").read_text(encoding="utf-8").splitlines()
    for place in [place for place, line in enumerate(lines) if " = " in line]:
        kept = lines[:place] + lines[place + 1 :]
        (tmp_path / f"{figure}.toml").write_text("\n".join(kept) + "\n", encoding="utf-8")
        try:
            without = {scale: SELECTION.read(figure, scale, tmp_path) for scale in SCALES}
        except InvalidInputError:
            continue  # it is needed
        assert without != whole, f"{figure}: {lines[place]}"


def test_the_figure_of_the_guide_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "results" / "selection-study.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml [^\n]*\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "proven_gap.toml").write_text(text, encoding="utf-8")
    smoke = SELECTION.read("proven_gap", "smoke", tmp_path).curves
    assert {name: (curve.tokens, curve.seeds) for name, curve in smoke.items()} == {
        "iid_fast": (64, 2),
        "iid_tight": (64, 1),
    }


WRONG = {
    # what the table of the curve holds: what is said of it
    'policy = "jesa"\nlayerz = 3': ["curves.jesa: layerz is 3", "a known key"],
    'policy = "jesa"\n[curves.jesa.quick]\nlayerz = 3': ["curves.jesa: layerz is 3", "a known key"],
    'policy = "best"': ["curves.jesa: policy is 'best'", "jesa", "des"],
    'policy = "jesa"\nseeds = 0': ["curves.jesa: seeds is 0", "at least 1"],
    'policy = "jesa"\nseeds = "5"': ["curves.jesa: seeds is '5'", "an integer"],
    'policy = "jesa"\nvalues = [0.5, 1.5]': ["jesa: importance is 1.5", "at most 1"],
    'policy = "jesa"\nvalues = []': ["curves.jesa: values", "at least 1"],
    'policy = "jesa"\nsubcarriers = 55': ["curves.jesa is", "subcarriers at least 56"],
    'policy = "jesa"\nsmoke = 3': ["curves.jesa: smoke is 3", "a table"],
    'policy = "jesa"\ncompute_j = [2.0, 1.0]': ["curves.jesa is", "[least, most]"],
    'policy = "jesa"\nfading = "multipath"\ntaps = 129': ["curves.jesa is", "taps at most subcarriers"],
    'policy = "jesa"\nnodes = 64\nsubcarriers = 65536': ["curves.jesa is", "nodes^2 x subcarriers at most"],
    'policy = "jesa': ["energy_by_importance.toml is", "valid TOML"],
    "": ["energy_by_importance.toml: curves.jesa: policy is None", "a value"],
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_setting_is_named_with_its_file_and_curve(text: str, tmp_path: Path) -> None:
    file = tmp_path / "energy_by_importance.toml"
    file.write_text(f"{HEAD}[curves.jesa]\n{text}", encoding="utf-8")
    with pytest.raises(InvalidInputError) as refused:
        run_study(SELECTION, tmp_path / "out", settings=tmp_path)
    for words in WRONG[text]:
        assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == [file]


TINY = {"nodes": 3, "tokens": 6, "subcarriers": 8, "layers": 2, "compute_j": (1e-5, 2e-4)}


def layers_of(settings: EnergySettings, seed: int) -> Iterator[tuple[int, DrawnLayer]]:
    for number in range(1, settings.layers + 1):
        yield number, draw_layer(settings, seed, number)


def joules_TE(
    settings: EnergySettings, layer: DrawnLayer, subcarrier: dict[tuple[int, int], int]
) -> np.ndarray:
    """By hand: s0 P0 / (B0 log2(1 + H P0 / N0)) + a_j, and a_j alone at home."""
    radio = Ofdma()
    return np.array(
        [
            [
                layer.compute_j_E[j]
                + (
                    0.0
                    if i == j
                    else settings.token_bits
                    * radio.power_w
                    / radio.subcarrier_hz
                    / np.log2(
                        1 + layer.links.gain_NNM[i, j, subcarrier[i, j]] * radio.power_w / radio.noise_w
                    )
                )
                for j in range(settings.nodes)
            ]
            for i in layer.source_T
        ]
    )


def cheapest_allocation(
    settings: EnergySettings, layer: DrawnLayer, load_NN: np.ndarray
) -> dict[tuple[int, int], int]:
    """By hand: of all assignments of subcarriers the one with the least sum of load / log2(1 + SNR)."""
    links = [(i, j) for i in range(settings.nodes) for j in range(settings.nodes) if i != j]
    radio = Ofdma()
    price = 1 / np.log2(1 + layer.links.gain_NNM * radio.power_w / radio.noise_w)
    best = min(
        itertools.permutations(range(settings.subcarriers), len(links)),
        key=lambda taken: sum(load_NN[link] * price[*link, m] for link, m in zip(links, taken, strict=True)),
    )
    return dict(zip(links, best, strict=True))


def enough(settings: EnergySettings, scores_E: np.ndarray, energy_E: np.ndarray, required: float) -> float:
    """By hand: of all sets of at most D experts the cheapest that suffices, or that of the D best scores."""
    sets = [
        list(experts)
        for size in range(1, settings.max_experts + 1)
        for experts in itertools.combinations(range(settings.nodes), size)
    ]
    meeting = [experts for experts in sets if scores_E[experts].sum() >= required - 1e-9]
    best = list(np.argsort(-scores_E)[: settings.max_experts])
    return min(energy_E[experts].sum() for experts in (meeting or [best]))


@pytest.mark.parametrize("value", [0.3, 0.7, 0.95])
def test_des_costs_what_all_sets_tried_under_an_assignment_for_equal_loads_cost(value: float) -> None:
    settings = EnergySettings(policy="des", **TINY | {"subcarriers": 7})
    settings = settings.model_copy(update={"values": (value,)})
    expected = []
    for number, layer in layers_of(settings, 3):
        allocation = cheapest_allocation(settings, layer, np.ones((3, 3)))
        energy_TE = joules_TE(settings, layer, allocation)
        expected += [
            enough(settings, scores_E, energy_E, value**number)
            for scores_E, energy_E in zip(layer.scores_TE, energy_TE, strict=True)
        ]
    (row,) = measure_sweep(settings, 3)
    assert row["energy_j"] == pytest.approx(np.mean(expected), rel=1e-9)


@pytest.mark.parametrize("value", [0.3, 0.7, 0.95])
def test_the_lower_bound_puts_every_link_on_its_best_subcarrier(value: float) -> None:
    settings = EnergySettings(policy="lower-bound", values=(value,), **TINY)
    expected = []
    for number, layer in layers_of(settings, 3):
        best = {(i, j): int(layer.links.gain_NNM[i, j].argmax()) for i in range(3) for j in range(3)}
        energy_TE = joules_TE(settings, layer, best)
        expected += [
            enough(settings, scores_E, energy_E, value**number)
            for scores_E, energy_E in zip(layer.scores_TE, energy_TE, strict=True)
        ]
    (row,) = measure_sweep(settings, 3)
    assert row["energy_j"] == pytest.approx(np.mean(expected), rel=1e-9)


def test_top_k_pays_the_cheapest_assignment_of_its_own_loads() -> None:
    settings = EnergySettings(policy="topk", swept="k", values=(1,), **TINY | {"subcarriers": 7})
    energy, kept = [], []
    for _, layer in layers_of(settings, 5):
        best_T = layer.scores_TE.argmax(axis=1)
        load_NN = np.zeros((3, 3))
        np.add.at(load_NN, (layer.source_T, best_T), 1.0)
        energy_TE = joules_TE(settings, layer, cheapest_allocation(settings, layer, load_NN))
        energy += list(energy_TE[np.arange(settings.tokens), best_T])
        kept += list(layer.scores_TE.max(axis=1))
    (row,) = measure_sweep(settings, 5)
    assert row["energy_j"] == pytest.approx(np.mean(energy), rel=1e-9)
    assert row["relevance"] == pytest.approx(np.mean(kept), rel=1e-9)
    assert row["experts"] == 1


def test_energy_is_that_over_the_air_and_the_chosen_experts_computation() -> None:
    computing = EnergySettings(policy="all", swept="k", values=(3,), **TINY)
    (row,) = measure_sweep(computing, 1)
    compute_j = draw_layer(computing, 1, 0).compute_j_E.sum()  # every token has every expert
    assert row["energy_j"] - row["comm_j"] == pytest.approx(compute_j, rel=1e-9)
    assert row["relevance"] == pytest.approx(1.0)


def test_jesa_asks_less_of_deeper_layers_and_homogeneous_selection_the_same_of_all() -> None:
    jesa = EnergySettings(policy="jesa", importance=0.8, z=0.9, layers=3)
    assert [jesa.required(layer) for layer in (1, 2, 3)] == pytest.approx([0.72, 0.576, 0.4608])
    same = EnergySettings(policy="homogeneous", importance=0.8, z=0.9, layers=3)
    assert [same.required(layer) for layer in (1, 2, 3)] == [0.9, 0.9, 0.9]


@pytest.mark.parametrize("policy", ["jesa", "des", "homogeneous", "lower-bound"])
def test_what_is_asked_is_kept_where_it_is_said_to_be_met(policy: str) -> None:
    settings = EnergySettings(
        policy=policy, importance=0.6, z=0.6, swept="max_experts", values=(8,), layers=3
    )  # type: ignore[arg-type]
    (row,) = measure_sweep(settings, 1)
    assert row["met_share"] == 1.0  # all eight may be chosen
    assert row["relevance"] >= np.mean([settings.required(layer) for layer in (1, 2, 3)])


def test_layers_by_themselves_have_the_mean_of_the_sweep() -> None:
    by_layer = SELECTION.read("energy_by_layer", "smoke").curves["jesa"]
    sweep = EnergySettings(policy="jesa", values=(0.9,), layers=4, tokens=32)
    (whole,) = measure_sweep(sweep, 7)
    layers = list(measure_layers(by_layer, 7))
    assert [layer["x"] for layer in layers] == [1, 2, 3, 4]
    for column in ("energy_j", "relevance"):
        assert np.mean([layer[column] for layer in layers]) == pytest.approx(whole[column])
    assert layers[0]["relevance"] == pytest.approx(whole["relevance_first_quarter"])


def test_layers_are_drawn_from_seed_and_slot_alone() -> None:
    settings = LayerSettings(tokens=50, compute_j=(1e-4, 1e-3))
    one, again, later = draw_layer(settings, 1, 2), draw_layer(settings, 1, 2), draw_layer(settings, 1, 3)
    np.testing.assert_array_equal(one.scores_TE, again.scores_TE)
    np.testing.assert_array_equal(one.links.gain_NNM, again.links.gain_NNM)
    np.testing.assert_allclose(one.scores_TE.sum(axis=1), 1.0)
    assert (one.scores_TE != later.scores_TE).all()
    assert (one.links.gain_NNM != later.links.gain_NNM).all()
    np.testing.assert_array_equal(one.compute_j_E, later.compute_j_E)  # devices do not change
    assert ((one.compute_j_E >= 1e-4) & (one.compute_j_E <= 1e-3)).all()
    assert (draw_layer(settings, 2, 2).compute_j_E != one.compute_j_E).all()


def test_the_logits_of_the_gate_have_the_deviation_that_is_set() -> None:
    scores_TE = draw_layer(LayerSettings(tokens=20_000, gate_std=1.5), 1, 0).scores_TE
    logits_TE = np.log(scores_TE)
    logits_TE -= logits_TE.mean(axis=1, keepdims=True)  # which takes an eighth of the variance
    assert logits_TE.std() == pytest.approx(1.5 * np.sqrt(7 / 8), rel=0.01)


def test_fading_is_correlated_over_the_band_where_it_is_set_so() -> None:
    for fading, low, high in (("rayleigh", -0.1, 0.1), ("multipath", 0.9, 1.0)):
        gain_NNM = draw_layer(LayerSettings(fading=fading, nodes=16), 1, 0).links.gain_NNM  # type: ignore[arg-type]
        near = np.corrcoef(gain_NNM[:, :, :-1].ravel(), gain_NNM[:, :, 1:].ravel())[0, 1]
        assert low < near < high


@pytest.mark.parametrize(
    ("nodes", "subcarriers", "probability"),
    [(3, 16, 0.344), (3, 64, 0.786), (3, 512, 0.971), (8, 1024, 0.216), (8, 16384, 0.910), (3, 5, 0.0)],
)
def test_the_probability_that_all_best_subcarriers_differ(
    nodes: int, subcarriers: int, probability: float
) -> None:
    assert all_differ_probability(nodes, subcarriers) == pytest.approx(probability, abs=5e-4)


def test_a_tighter_bound_and_restarts_prove_smaller_gaps() -> None:
    gaps = [
        [row["gap"] for seed in range(4) for row in measure_gap(settings, seed)]
        for settings in (
            GapSettings(bound="fast", values=(64,), tokens=64),
            GapSettings(bound="tight", values=(64,), tokens=64),
            GapSettings(bound="tight", restarts=10, values=(64,), tokens=64),
        )
    ]
    assert (np.diff(gaps, axis=0) <= 1e-12).all()
    assert np.mean(gaps[1]) < 0.5 * np.mean(gaps[0])
    assert np.mean(gaps[2]) < 0.9 * np.mean(gaps[1])


def test_a_schedule_counts_as_optimal_where_it_is_not_above_the_bound() -> None:
    few = {"values": (64,), "tokens": 16, "draws": 1}
    gaps = [row["gap"] for seed in range(30) for row in measure_gap(GapSettings(**few), seed)]
    shares = [
        row["optimal_share"] for seed in range(30) for row in measure_share(OptimalShareSettings(**few), seed)
    ]
    assert shares == [float(gap < 1e-9) for gap in gaps]
    assert 0 < np.mean(shares) < 1
    assert sum(1e-9 < gap < 1e-2 for gap in gaps) > 3


def test_wanted_gaps_are_met_or_missed() -> None:
    def told(gap: float) -> list[str]:
        rows = Rows({"tight": [{"x": 1024, "seed": seed, "gap": gap} for seed in range(3)]})
        return [verdict for *_, verdict in wanted_gaps({"tight": GapSettings(bound="tight")}, rows)]

    assert told(0.9e-4) == ["met"]
    assert told(1.1e-4) == ["missed"]
    fast = Rows({"fast": [{"x": 1024, "seed": 0, "gap": 1.0}]})
    assert wanted_gaps({"fast": GapSettings(bound="fast")}, fast) == []


def test_sets_of_at_most_d_experts_are_counted() -> None:
    listed = [set_ for size in (1, 2, 3) for set_ in itertools.combinations(range(7), size)]
    assert sets_of_at_most(7, 3) == len(listed)


def test_the_families_of_instances_are_what_their_names_say() -> None:
    drawn = {name: draw(np.random.default_rng(1), 500, 32) for name, draw in FAMILIES.items()}
    for scores_TE, energy_TE in drawn.values():
        np.testing.assert_allclose(scores_TE.sum(axis=1), 1.0)
        assert (energy_TE > 0).all()
    correlation = {name: np.corrcoef(scores[0], energy[0])[0, 1] for name, (scores, energy) in drawn.items()}
    assert correlation["strongly correlated"] == pytest.approx(1.0)
    assert 0.95 < correlation["weakly correlated"] < 1.0
    assert abs(correlation["uncorrelated"]) < 0.5
    scores_TE, energy_TE = drawn["strongly correlated"]
    above_TE = energy_TE - scores_TE
    np.testing.assert_allclose(above_TE, above_TE[:, :1] * np.ones((1, 32)))


def test_whether_the_wanted_gaps_are_met_is_told_if_they_are_measured() -> None:
    curves = {"proven_gap": {"tight": GapSettings(bound="tight")}}
    rows = {"proven_gap": Rows({"tight": [{"x": 1024, "seed": seed, "gap": 2e-5} for seed in range(3)]})}
    assert SELECTION.told(curves, rows) == [
        "tight, M = 1024: mean gap 0.002 % over 3 seeds, wanted at most 0.01 %: met"
    ]
    assert SELECTION.told({}, {}) == []
