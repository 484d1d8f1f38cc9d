"""Policies side by side on a finished run: equal to what the run wrote, and to independent calculations.

Shape suffixes: T items, E experts, C classes.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from airmoe.data import ImageSet, as_pixels
from airmoe.errors import InvalidInputError
from airmoe.nn import LocalCarrier
from airmoe.plugins import register
from airmoe.progress import Progress
from airmoe.runs import Comparison, Measured, Run, compare, evaluated_links, load_run
from airmoe.runs.comparison import BASELINES
from airmoe.runs.evaluated_links import Network, links_of
from airmoe.scheduling import Cost, Routing, Slot, TopK, make_policy
from airmoe.studies.demo.questions import draw_questions
from airmoe.studies.demo.simulated import ask_simulated


def last_row(run: Run) -> dict[str, float]:
    lines = (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()
    row: dict[str, float] = json.loads(lines[-1])
    return row


def only(found: Comparison, policy: str, seed: int | None = None) -> Measured:
    (row,) = [row for row in found.rows if row.policy == policy and seed in (None, row.seed)]
    return row


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return load_run(run_folder)


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Run:
    return load_run(server_folder)


@pytest.fixture(scope="module")
def over_own_links(run: Run, digits: ImageSet) -> Comparison:
    return compare(run, digits, ["topk:2", "jesa:0.3:2", "random:1"], seeds=2)


def test_top_1_of_a_networked_run_is_what_its_metrics_say(over_own_links: Comparison, run: Run) -> None:
    assert only(over_own_links, "topk:1", seed=0).macro_f1 == last_row(run)["macro_f1"]


def test_every_policy_is_what_the_demonstration_measures_where_nothing_is_paid(
    run: Run, digits: ImageSet
) -> None:
    found = compare(run, digits, seeds=2, links=["perfect"])
    questions = draw_questions(digits, run.holds, len(digits.test_labels), seed=5)
    for policy in BASELINES:
        trial = ask_simulated(run.model, make_policy(policy), LocalCarrier(), questions)
        asked = trial.figures(len(run.class_names), run.holds).macro_f1
        assert [row.macro_f1 for row in found.rows if row.policy == policy] == [pytest.approx(asked)] * 2
    local = only(found, "local", seed=0)
    answer_TC = outputs(run, digits)[1].argmax(axis=2)
    by_client = [f1_score(digits.test_labels, answer_TC[:, client], average="macro") for client in range(4)]
    assert local.macro_f1 == pytest.approx(np.mean(by_client))
    assert local.macro_f1 < local.accuracy - 0.1


def test_one_policy_and_one_links_may_be_a_text(run: Run, digits: ImageSet) -> None:
    found = compare(run, digits, "topk:2", links="perfect", seeds=1)
    assert only(found, "topk:2").links == "perfect"


@pytest.mark.parametrize("folder", ["run", pytest.param("server", marks=pytest.mark.long)])
def test_every_policy_has_decided_once_before_any_progress_is_told(
    request: pytest.FixtureRequest, folder: str, digits: ImageSet, few_digits: ImageSet
) -> None:
    happened = list[str]()

    @register("policy", "slow-at-first")
    class SlowAtFirst:
        def route(self, scores_TE: np.ndarray, cost: Cost, slot: Slot) -> Routing:
            happened.append("decided")
            return TopK(1).route(scores_TE, cost, slot)

    images = {"run": digits, "server": few_digits}[folder]
    progress: Progress = lambda activity, done, total, note="", /: happened.append("told")  # noqa: E731
    compare(request.getfixturevalue(folder), images, ["slow-at-first"], seeds=1, progress=progress)
    assert happened[:2] == ["decided", "told"]


def test_with_many_images_each_client_asks_about_an_equal_share(
    run: Run, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = len(digits.test_labels)
    monkeypatch.setattr(evaluated_links, "MOST_QUERIES", 2 * items + 1)
    for text in ("run", "perfect"):
        network = Network(run, links_of(run, text), torch.zeros(items, 400), seed=3)
        assert (np.bincount(network.image_Q) == 2).all()
        assert set(np.bincount(network.source_Q)) <= {2 * items // 4 - 1, 2 * items // 4, 2 * items // 4 + 1}
        assert len(set(zip(network.image_Q.tolist(), network.source_Q.tolist(), strict=True))) == 2 * items


def test_a_channel_aware_run_is_what_its_metrics_say(server: Run, few_digits: ImageSet) -> None:
    metrics = last_row(server)
    own = compare(server, few_digits, seeds=1)
    perfect = compare(server, few_digits, seeds=1, links=["perfect"])
    assert only(own, "topk:1").accuracy == metrics["accuracy"]
    assert only(perfect, "topk:1").accuracy == metrics["accuracy_perfect"]
    assert metrics["accuracy"] != metrics["accuracy_perfect"]


def test_simple_baselines_stand_in_every_table(over_own_links: Comparison) -> None:
    names = [row.policy for row in over_own_links.rows if row.seed == 0]
    assert names == ["local", "topk:1", "all", "topk:2", "jesa:0.3:2", "random:1", "ensemble"]
    assert {row.seed for row in over_own_links.rows} == {0, 1}


def outputs(run: Run, images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """The gate's scores and every expert's answer, one expert after the other."""
    with torch.no_grad():
        payload = run.model.extractor(torch.from_numpy(as_pixels(images.test_images)))
        scores_TE = run.model.layer.gate(payload).scores_TE.numpy()
        answer_TEC = np.stack([expert(payload).numpy() for expert in run.model.layer.experts], axis=1)
    return scores_TE, answer_TEC


def test_all_experts_are_mixed_by_score_and_an_ensemble_alike(
    over_own_links: Comparison, run: Run, digits: ImageSet
) -> None:
    scores_TE, answer_TEC = outputs(run, digits)
    for policy, weights_TE in (("all", scores_TE), ("ensemble", np.ones_like(scores_TE))):
        answer_T = (weights_TE[:, :, np.newaxis] * answer_TEC).sum(axis=1).argmax(axis=1)
        row = only(over_own_links, policy, seed=1)
        assert row.accuracy == np.mean(answer_T == digits.test_labels)
        assert row.macro_f1 == pytest.approx(f1_score(digits.test_labels, answer_T, average="macro"))
        assert row.experts == 4


def test_the_own_expert_alone_costs_nothing_and_all_cost_most(over_own_links: Comparison) -> None:
    local, every = only(over_own_links, "local", seed=0), only(over_own_links, "all", seed=0)
    assert (local.energy_j, local.airtime_s, local.bytes) == (0, 0, 0)
    # 3 of 4 experts are elsewhere: 400 features out, 10 probabilities back.
    assert every.bytes == 3 * (400 + 10) * 4
    assert every.energy_j == max(row.energy_j or 0.0 for row in over_own_links.rows if row.seed == 0)


def test_the_share_of_the_own_expert_is_that_of_the_pairs_asked(
    over_own_links: Comparison, run: Run, server: Run, digits: ImageSet, few_digits: ImageSet
) -> None:
    shares = {row.policy: row.local_share for row in over_own_links.rows}
    assert (shares["local"], shares["all"]) == (1, 0.25)
    near = compare(run, digits, ["best-link:1", "best-link:2", "cheapest:1"], seeds=1)
    found = {row.policy: (row.local_share, row.accuracy) for row in near.rows}
    assert found["best-link:1"] == found["cheapest:1"] == found["local"]
    assert found["best-link:2"][0] == 0.5
    assert {row.local_share for row in compare(server, few_digits, seeds=1).rows} == {0}


def test_joules_are_power_times_seconds_on_the_air(over_own_links: Comparison, run: Run) -> None:
    for row in over_own_links.rows:
        assert row.energy_j == pytest.approx(run.manifest.radio.power_w * (row.airtime_s or 0.0))


def test_equal_seeds_give_equal_rows_and_other_seeds_others(
    over_own_links: Comparison, run: Run, digits: ImageSet
) -> None:
    again = compare(run, digits, ["random:1"], seeds=1, first_seed=1)
    for row in again.rows:
        assert row == only(over_own_links, row.policy, seed=1)
    assert only(over_own_links, "random:1", 0).accuracy != only(over_own_links, "random:1", 1).accuracy
    assert only(over_own_links, "topk:1", 0).energy_j != only(over_own_links, "topk:1", 1).energy_j


def test_over_perfect_links_nothing_is_paid(run: Run, digits: ImageSet) -> None:
    found = compare(run, digits, seeds=1, links=["perfect"])
    assert {(row.energy_j, row.airtime_s, row.transmission) for row in found.rows} == {(None, None, "")}


def test_noise_costs_accuracy_and_airtime_is_that_of_channel_uses(run: Run, digits: ImageSet) -> None:
    found = compare(run, digits, seeds=1, links=["fixed:-15", "fixed:60"], transmission="analog")
    drowned, clear = (row for row in found.rows if row.policy == "all")
    assert drowned.accuracy < clear.accuracy - 0.2
    assert drowned.bytes is None
    # Half a complex symbol per value, and 32 for the norm where links are good, at 1 MHz, to 3 other experts.
    assert clear.airtime_s == pytest.approx(3 * (400 / 2 + 32) / 1e6)


def test_where_a_server_asks_the_best_link_stands_in_for_the_own_expert(
    server: Run, few_digits: ImageSet
) -> None:
    found = compare(server, few_digits, links=["run", "perfect"], seeds=2)
    policies = {(row.links, row.policy) for row in found.rows}
    by_score = {"topk:1", "all", "ensemble"}
    assert policies == {
        *(("run", policy) for policy in {"best-link:1", *by_score}),
        *(("perfect", policy) for policy in by_score),
    }
    assert not found.impossible


def test_the_own_expert_of_a_server_is_left_out_with_the_reason(server: Run, few_digits: ImageSet) -> None:
    found = compare(server, few_digits, ["local"], links=["run", "perfect"], seeds=2)
    left_out = [(each.links, each.policy) for each in found.impossible]
    assert left_out == [("run", "local"), ("perfect", "local")]
    assert all("the node holds no expert of its own" in each.reason for each in found.impossible)


def test_a_server_can_be_asked_by_joules_over_ideal_links(server: Run, few_digits: ImageSet) -> None:
    found = compare(server, few_digits, ["cheapest:1", "jesa:0:1"], seeds=1, transmission="ideal")
    assert not found.impossible
    cheapest, chosen = only(found, "cheapest:1"), only(found, "topk:1")
    assert cheapest.energy_j is not None
    assert chosen.energy_j is not None
    assert 0 < cheapest.energy_j < chosen.energy_j


def test_a_policy_that_cannot_be_is_refused_or_left_out_where_others_can(
    run: Run, few_digits: ImageSet
) -> None:
    with pytest.raises(InvalidInputError, match="links, on which jesa"):
        compare(run, few_digits, ["jesa:0.3:2"], seeds=1, links=["perfect"])
    found = compare(run, few_digits, ["jesa:0.3:2"], seeds=1, links=["perfect", "run"])
    assert [(each.links, each.policy) for each in found.impossible] == [("perfect", "jesa:0.3:2")]
    assert [row.links for row in found.rows if row.policy == "jesa:0.3:2"] == ["run"]


def test_any_snr_process_draws_links(server: Run, few_digits: ImageSet, tmp_path: Path) -> None:
    trace = tmp_path / "log.csv"
    trace.write_text("SNR\n" + "5\n-10\n" * 20, "utf-8")
    links = ["rayleigh:10.0", "gauss-markov:0:0.9", f"trace:{trace}"]
    found = compare(server, few_digits, seeds=1, links=links)
    assert {row.links for row in found.rows} == {"rayleigh:10", "gauss-markov:0:0.9", f"trace:{trace}"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policies": ["topk:x"]}, "policy is 'topk:x'; expected topk:K"),
        ({"policies": ["ensemble"]}, "policy is 'ensemble'"),
        ({"links": ["nonsense"]}, "links is 'nonsense'; expected run, perfect, fixed:SNR_DB"),
        ({"links": ["rayleigh:9999"]}, "mean_db is 9999.0; expected a number from -300 to 300"),
        ({"transmission": "pigeon"}, "transmission is 'pigeon'; expected ideal, analog"),
        ({"seeds": 0}, "seeds is 0; expected an integer of at least 1"),
        ({"seeds": 1001}, "seeds is 1001; expected at most 1000"),
        ({"first_seed": -1}, "first_seed is -1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(
    run: Run, few_digits: ImageSet, options: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        compare(run, few_digits, **options)  # type: ignore[arg-type]
    assert str(refused.value).startswith(said)


def test_images_of_another_kind_are_refused(run: Run, few_digits: ImageSet) -> None:
    coloured = {
        part: np.repeat(getattr(few_digits, part), 3, axis=1) for part in ("train_images", "test_images")
    }
    with pytest.raises(InvalidInputError, match="shape of test_images"):
        compare(run, replace(few_digits, **coloured))
    with pytest.raises(InvalidInputError, match="class_names"):
        compare(run, replace(few_digits, class_names=tuple("abcdefghij")))


@pytest.mark.parametrize("given", [["topk:1"], "topk:1", None, np.zeros((4, 1, 32, 32))])
def test_what_is_no_image_set_is_refused_by_name(run: Run, given: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^type of images is .*; expected ImageSet"):
        compare(run, given)  # type: ignore[arg-type]
