"""Who dies: every class keeps a holder where that can be."""

import pytest

from airmoe.studies.demo.kills import choose_victims

RING = [[client, (client + 1) % 10] for client in range(10)]


def held_without(holds: list[list[int]], victims: tuple[int, int]) -> set[int]:
    return set().union(*(held for client, held in enumerate(holds) if client not in victims))


@pytest.mark.parametrize("seed", range(30))
def test_on_a_ring_every_class_keeps_a_holder(seed: int) -> None:
    victims = choose_victims(RING, seed)
    assert len(set(victims)) == 2
    assert held_without(RING, victims) == set(range(10))


def test_the_only_harmless_pair_is_chosen_whatever_the_seed() -> None:
    holds = [[0], [1], [1, 2], [2], [3]]
    assert {choose_victims(holds, seed) for seed in range(20)} == {(1, 3)}


def test_where_no_pair_is_harmless_any_two_different_clients_die() -> None:
    chosen = {choose_victims([[0], [1], [2]], seed) for seed in range(40)}
    assert chosen == {(0, 1), (0, 2), (1, 2)}


def test_the_same_seed_chooses_the_same_pair() -> None:
    assert [choose_victims(RING, seed) for seed in range(10)] == [
        choose_victims(RING, seed) for seed in range(10)
    ]


def test_another_seed_chooses_another_pair_sooner_or_later() -> None:
    assert len({choose_victims(RING, seed) for seed in range(30)}) > 5
