"""Who takes part in a round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.errors import InvalidInputError
from airmoe.federated import Averaging, Loop, Participation, federate
from tests.federated.walkers import walkers


@given(st.floats(0.001, 1), st.integers(1, 60), st.integers(0, 5), st.integers(0, 5))
def test_the_share_is_rounded_to_at_least_one_client(
    share: float, clients: int, seed: int, round_: int
) -> None:
    drawn = Participation(share, seed).drawn("features", round_, clients)
    assert len(drawn) == max(1, round(share * clients))
    assert list(drawn) == sorted(set(drawn))
    assert set(drawn) <= set(range(clients))


def test_all_clients_take_part_unless_a_share_is_named() -> None:
    assert Participation().drawn("features", 3, 4) == (0, 1, 2, 3)


def test_every_client_takes_part_about_equally_often() -> None:
    participation = Participation(0.3, seed=1)
    counts = [0] * 10
    for round_ in range(1000):
        for client in participation.drawn("features", round_, 10):
            counts[client] += 1
    assert sum(counts) == 3000
    assert all(abs(count - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5 for count in counts)


def test_rounds_stages_and_seeds_draw_anew() -> None:
    def drawn(seed: int, stage: str) -> list[tuple[int, ...]]:
        return [Participation(0.5, seed).drawn(stage, round_, 10) for round_ in range(20)]

    first = drawn(0, "features")
    assert len(set(first)) > 10
    assert first == drawn(0, "features")
    assert first != drawn(1, "features")
    assert first != drawn(0, "gate")


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InvalidInputError, match="participation is"):
        Participation(share)


def test_only_who_takes_part_is_sent_weights_and_averaged() -> None:
    workspace, clients, seen = walkers([1.0, 2.0, 6.0, 7.0])
    averaging = Averaging("walk", 4, participation=Participation(0.5, seed=2))
    first = averaging.participation.drawn("walk", 0, 4)
    state, rows = federate(averaging, workspace.state_dict(), Loop(clients), 1)
    assert len(seen) == 2
    assert float(state["bias"]) == pytest.approx(sum([1.0, 2.0, 6.0, 7.0][i] for i in first) / 2)
    assert rows[0]["bytes"] == 2 * 2 * 8
    assert rows[0]["participants"] == 2
