"""Whom a client asks in stage 3."""

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.networked.config import NetworkedConfig, parse_config
from airmoe.networked.queries import make_query, refuse_too_many
from airmoe.plugins import register

ITEMS, EXPERTS = 400, 5


def scores(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(EXPERTS), ITEMS)).float()


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("client", [0, 3])
def test_roll_asks_expert_i_plus_t_about_all_images(client: int) -> None:
    for round_ in range(2 * EXPERTS):
        wanted_TE = make_query("roll")(scores(), round_, client, random())
        expected_E = [expert == (client + round_) % EXPERTS for expert in range(EXPERTS)]
        assert wanted_TE.tolist() == [expected_E] * ITEMS


@pytest.mark.parametrize("k", [1, 3, EXPERTS])
def test_random_k_asks_k_experts_whatever_the_gate_says(k: int) -> None:
    query = make_query("random-k", k)
    wanted_TE = query(scores(0), 0, 1, random(0))
    assert wanted_TE.sum(dim=1).tolist() == [k] * ITEMS
    assert torch.equal(query(scores(1), 0, 1, random(0)), wanted_TE)
    if k < EXPERTS:
        assert not torch.equal(query(scores(0), 0, 1, random(1)), wanted_TE)
        # Each expert is asked about k/E of the images, within 5 standard deviations.
        share = k / EXPERTS
        deviation = (share * (1 - share) / ITEMS) ** 0.5
        assert torch.all((wanted_TE.float().mean(dim=0) - share).abs() < 5 * deviation)


def test_all_asks_every_expert_at_once() -> None:
    assert make_query("all", 1)(scores(), 0, 0, random()).all()


@pytest.mark.parametrize("k", [1, 2])
def test_topk_asks_the_best_and_one_more_at_random(k: int) -> None:
    wanted_TE = make_query("topk", k)(scores(), 0, 0, random())
    best_Tk = scores().argsort(dim=1, descending=True)[:, :k]
    assert wanted_TE.gather(1, best_Tk).all()
    more_T = wanted_TE.sum(dim=1) - k
    assert set(more_T.tolist()) == {0, 1}
    assert float(more_T.float().mean()) == pytest.approx(1 - k / EXPERTS, abs=0.1)


@pytest.mark.parametrize("rule", ["topk", "random-k"])
def test_more_experts_than_there_are_are_refused(rule: str) -> None:
    refuse_too_many(make_query(rule, 5), EXPERTS)
    with pytest.raises(InvalidInputError, match="query_k is 6; expected at most 5, the number of experts"):
        refuse_too_many(make_query(rule, 6), EXPERTS)
    with pytest.raises(InvalidInputError, match="query_k is 4; expected at most 3"):
        parse_config(f'data.clients = 3\n[gate]\nquery = "{rule}"\nquery_k = 4', "mine.toml")


@pytest.mark.parametrize("rule", ["roll", "all"])
def test_a_rule_without_k_does_not_look_at_it(rule: str) -> None:
    config = parse_config(f'data.clients = 3\n[gate]\nquery = "{rule}"\nquery_k = 4', "mine.toml")
    assert config.gate.query_rule.name == rule


@pytest.mark.parametrize(
    ("settings", "query", "sync"),
    [
        ({}, "topk", "fedavg"),
        ({"method": "fedgate"}, "topk", "fedavg"),
        ({"method": "rangate"}, "random-k", "fedavg"),
        ({"method": "rollgate"}, "roll", "fedavg"),
        ({"method": "rollgate", "query": "all"}, "all", "fedavg"),
        ({"method": "rangate", "sync": "ring"}, "random-k", "ring"),
        ({"query": "roll", "sync": "partial:3"}, "roll", "partial:3"),
    ],
)
def test_a_method_is_a_name_for_a_pair_of_rules(settings: dict[str, str], query: str, sync: str) -> None:
    gate = NetworkedConfig.model_validate({"gate": settings}).gate
    assert (gate.query_rule.name, gate.sync_rule.name) == (query, sync)


@pytest.mark.parametrize("settings", [{"query_k": 4}, {"query": "random-k:4", "query_k": 2}])
def test_the_number_is_that_of_the_text_or_of_the_settings(settings: dict[str, object]) -> None:
    gate = NetworkedConfig.model_validate({"gate": {"method": "rangate"} | settings}).gate
    assert gate.query_rule(scores(), 0, 0, random()).sum(dim=1).unique().tolist() == [4]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("query", "top", "expected topk[:K], random-k[:K], roll or all, or one of your own"),
        ("query", "roll:2", "expected topk[:K], random-k[:K], roll or all"),
        ("sync", "rings", "expected fedavg, none, ring or partial[:ANCHOR], or one of your own"),
        ("sync", "partial:-1", "expected anchor to be a number from 0"),
        ("method", "randgate", "did you mean rangate"),
    ],
)
def test_an_unknown_rule_is_told_with_those_that_there_are(key: str, value: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        parse_config(f'gate.{key} = "{value}"', "mine.toml")
    assert f"mine.toml: gate.{key} is '{value}'; " in str(raised.value)
    assert said in str(raised.value)


def test_a_rule_of_ones_own_is_a_function() -> None:
    @register("query", "own-only")
    def own_only(scores_TE: Tensor, round_: int, client: int, random: np.random.Generator) -> Tensor:
        wanted_TE = torch.zeros_like(scores_TE, dtype=torch.bool)
        wanted_TE[:, client] = True
        return wanted_TE

    config = parse_config('gate.query = "own-only"', "mine.toml")
    assert config.gate.query_rule(scores(), 0, 2, random()).sum(dim=0).tolist() == [0, 0, ITEMS, 0, 0]
