"""Gates, pooling, top-k and the balance loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from airmoe.nn import LinearGate, balance_loss, pool, topk_mask
from airmoe.scheduling import Cost, Slot, TopK


def test_a_new_gate_finds_every_expert_equally_likely() -> None:
    scores_TE, logits_TE, load_TE = LinearGate(7, 4)(torch.randn(3, 7))
    torch.testing.assert_close(scores_TE, torch.full((3, 4), 0.25))
    assert not logits_TE.any()
    assert load_TE is None


def test_scores_are_the_softmax_of_a_linear_map_of_standardised_features() -> None:
    gate = LinearGate(2, 2)
    gate.standardise(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    with torch.no_grad():
        gate.linear.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        gate.linear.bias.copy_(torch.tensor([0.0, 1.0]))
    scores_TE, logits_TE, _ = gate(torch.tensor([[5.0, 2.0]]))
    assert logits_TE.tolist() == [[2.0, 1.0]]
    odds = np.e
    np.testing.assert_allclose(scores_TE.detach().numpy(), [[odds / (1 + odds), 1 / (1 + odds)]], rtol=1e-6)


def test_standardisation_is_saved_with_the_gate() -> None:
    gate, other = LinearGate(3, 2), LinearGate(3, 2)
    gate.standardise(torch.arange(3.0), torch.arange(3.0) + 1)
    other.load_state_dict(gate.state_dict())
    assert other.mean_F.tolist() == [0, 1, 2]
    assert other.std_F.tolist() == [1, 2, 3]


def test_a_gate_of_other_experts_keeps_the_columns_of_the_known_and_gives_new_ones_their_mean() -> None:
    gate = LinearGate(2, 3)
    gate.standardise(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    nn.init.normal_(gate.linear.weight)
    nn.init.normal_(gate.linear.bias)
    pooled_TF = torch.randn(5, 2)
    known_TE = gate(pooled_TF).logits_TE
    other_TE = gate.of_experts([2, 0, None])(pooled_TF).logits_TE
    torch.testing.assert_close(other_TE[:, :2], known_TE[:, [2, 0]])
    torch.testing.assert_close(other_TE[:, 2], known_TE.mean(dim=1))


def test_a_vector_is_pooled_to_itself() -> None:
    payload_TF = torch.randn(2, 5)
    assert pool(payload_TF, "vector") is payload_TF


def test_a_map_is_pooled_to_its_mean_over_the_area() -> None:
    payload_TCHW = torch.stack([torch.arange(6.0).reshape(1, 2, 3), torch.ones(1, 2, 3)])
    assert pool(payload_TCHW, "map").tolist() == [[2.5], [1.0]]


def test_a_token_grid_is_pooled_to_its_class_token() -> None:
    payload_TLF = torch.randn(2, 65, 4)
    assert torch.equal(pool(payload_TLF, "tokens"), payload_TLF[:, 0])


@given(
    st.integers(1, 5).flatmap(
        lambda experts: st.lists(
            # Few distinct values, so that ties are common.
            st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=experts, max_size=experts),
            min_size=1,
            max_size=8,
        )
    ),
    st.integers(1, 6),
)
def test_top_k_in_torch_is_the_policy_top_k_ties_included(scores: list[list[float]], k: int) -> None:
    scores_TE = np.array(scores)
    slot = Slot(np.zeros(len(scores_TE), np.int64), np.arange(scores_TE.shape[1]))
    routing = TopK(k).route(scores_TE, Cost(np.ones_like(scores_TE)), slot)
    assert topk_mask(torch.from_numpy(scores_TE), k).numpy().tolist() == routing.mask_TE.tolist()


def test_top_k_gives_ties_to_the_lower_index() -> None:
    assert topk_mask(torch.tensor([[0.2, 0.4, 0.2, 0.2]]), 2).tolist() == [[True, True, False, False]]


def test_balance_is_zero_when_all_experts_share_alike() -> None:
    # Each item is as decided as can be; only the batch mean counts.
    assert float(balance_loss(torch.eye(4))) == 0.0


@pytest.mark.parametrize("experts", [2, 5, 10])
def test_balance_is_experts_less_one_when_one_expert_takes_all(experts: int) -> None:
    # mean 1/E; var = 1/E - 1/E^2; CV^2 = E - 1
    scores_TE = torch.zeros(8, experts)
    scores_TE[:, 1] = 1
    assert float(balance_loss(scores_TE)) == pytest.approx(experts - 1)


def test_balance_of_known_shares() -> None:
    # Batch mean (0.75, 0.25): var 1/16 over mean^2 1/4.
    assert float(balance_loss(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))) == pytest.approx(0.25)


def test_balance_does_not_depend_on_how_large_weights_are() -> None:
    # With one expert per item weights are scores as they are, and load sums to any number.
    share_TE = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert float(balance_loss(3 * share_TE)) == pytest.approx(0.25)
