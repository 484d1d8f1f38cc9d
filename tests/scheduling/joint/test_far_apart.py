"""Links whose gains lie many orders of magnitude apart: nothing small is lost beside what is large."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.links import Links, Ofdma
from airmoe.scheduling import allocate_subcarriers, schedule_layer, select_experts
from tests.scheduling.joint.joint_optimum import instance


def optimum(
    scores_TE: NDArray[np.float64],
    source_T: NDArray[np.int64],
    links: Links,
    threshold: float,
    most: int,
    bits_T: NDArray[np.float64],
) -> tuple[int, float]:
    """Return the items that miss their threshold and J of the best of all allocations."""
    nodes, subcarriers = links.nodes, links.radio.subcarriers
    pairs = [(i, j) for i in np.unique(source_T) for j in range(nodes) if i != j]
    options = [*range(subcarriers), *[-1] * max(0, len(pairs) - subcarriers)]
    best = (len(source_T) + 1, np.inf)
    for chosen in set(itertools.permutations(options, len(pairs))):
        subcarrier_NN = np.full((nodes, nodes), -1)
        subcarrier_NN[tuple(np.transpose(pairs))] = chosen
        energy_TE = bits_T[:, np.newaxis] * links.energy_per_bit_j(subcarrier_NN)[source_T]
        found = select_experts(scores_TE, energy_TE, threshold, most)
        energy_j = found.energy_j[np.isfinite(found.energy_j)].sum()
        best = min(best, (int((~found.feasible).sum()), float(energy_j)))
    return best


@pytest.mark.parametrize("bound", ["fast", "tight"])
@pytest.mark.parametrize("spread_db", [0, 30, 90, 200, 300])
def test_no_bound_exceeds_the_optimum_and_no_proof_is_false(bound: str, spread_db: float) -> None:
    """Not by one unit in the last place, however far prices lie apart."""
    proven = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, spread_db])
        nodes, subcarriers = [(2, 1), (2, 2), (2, 3), (2, 4), (3, 4)][seed % 5]
        items = int(rng.integers(1, 7))
        scores_TE, source_T, gain_NNM = instance(nodes, subcarriers, items, seed)
        per_link = rng.random() < 0.5
        shape = (nodes, nodes, 1 if per_link else subcarriers)
        gain_NNM = gain_NNM * 10 ** -rng.uniform(0, spread_db / 10, shape)
        most, threshold = int(rng.integers(1, 4)), rng.uniform(0.2, 0.95)
        bits_T = rng.uniform(1e3, 1e5, items)
        links = Links.from_gain(gain_NNM, Ofdma(subcarriers=subcarriers))
        missed, optimum_j = optimum(scores_TE, source_T, links, threshold, most, bits_T)
        plan = schedule_layer(
            scores_TE, source_T, gain_NNM, links.radio, threshold=threshold, max_experts=most,
            token_bits=bits_T, bound=bound, restarts=5,  # type: ignore[arg-type]
        )  # fmt: skip
        if (~plan.selection.feasible).sum() == missed:
            assert plan.lower_bound_j <= optimum_j, seed
        if plan.proven_optimal:
            proven += 1
            assert plan.energy_j <= optimum_j * (1 + 1e-9), seed
    assert proven >= 30


def test_an_idle_link_never_outweighs_a_used_one() -> None:
    """The link to node 1 is 125 dB worse, and nothing goes there; both would rather have subcarrier 0."""
    snr_db_NNM = np.full((3, 3, 6), -200.0)
    snr_db_NNM[0, 1, :2] = -95.0, -96.0
    snr_db_NNM[0, 2, :2] = 30.0, 29.0
    radio = Ofdma(subcarriers=6)
    gain_NNM = Links.from_snr(snr_db_NNM, radio).gain_NNM
    plan = schedule_layer([[0.1, 0.1, 0.8]], [0], gain_NNM, radio, threshold=0.7, max_experts=1)
    assert plan.selection.mask.tolist() == [[False, False, True]]
    assert plan.subcarrier[0, 2] == 0
    assert plan.subcarrier[0, 1] == 1
    assert plan.proven_optimal


@pytest.mark.parametrize("outage_db", [-100.0, -200.0, -300.0])
def test_an_outage_does_not_cost_other_links_their_best_subcarriers(outage_db: float) -> None:
    """Node 2 is not heard at all; the links of the others differ by a few dB."""
    rng = np.random.default_rng(0)
    radio, pairs = Ofdma(subcarriers=6), [(0, 1), (1, 0)]
    for _ in range(50):
        snr_db_NNM = rng.normal(10, 6, (3, 3, 6))
        snr_db_NNM[2], snr_db_NNM[:, 2] = outage_db, outage_db
        snr_db_NNM[2] += rng.normal(0, 6, (3, 6))
        subcarrier_NN = allocate_subcarriers(links := Links.from_snr(snr_db_NNM, radio))
        energy_NN = links.energy_per_bit_j(subcarrier_NN)
        taken = set(subcarrier_NN[[0, 1, 2, 2], [2, 2, 0, 1]])
        free = [subcarrier for subcarrier in range(6) if subcarrier not in taken]
        price_LM = radio.energy_per_bit_j([links.gain_NNM[pair][free] for pair in pairs])
        best_j = min(price_LM[0, a] + price_LM[1, b] for a, b in itertools.permutations(range(len(free)), 2))
        assert sum(energy_NN[pair] for pair in pairs) == pytest.approx(best_j, rel=1e-9)


def test_with_too_few_subcarriers_a_link_in_outage_goes_without() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        snr_db_NNM = rng.normal(10, 3, (3, 3, 4))
        snr_db_NNM[[0, 1], [1, 0]] = -250.0
        subcarrier_NN = allocate_subcarriers(Links.from_snr(snr_db_NNM, Ofdma(subcarriers=4)))
        assert subcarrier_NN[0, 1] == subcarrier_NN[1, 0] == -1
