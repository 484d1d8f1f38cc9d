"""Split and metric against what perfect experts must give on the ring (`spec/networked-moe.md`).

10 clients, 2 classes each, every class at 2 clients. An input is the one-hot class and a number to toss coins
with; a perfect expert names the classes it knows and spreads the others evenly over them.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airmoe.data import partition
from airmoe.nn import GateOutput, MoeLayer, MoeOutput
from airmoe.runs.evaluation import class_f1, macro_f1, routed_answers
from airmoe.scheduling import Local, Policy, RandomK, TopK

CLASSES = CLIENTS = 10
LABELS_T = np.repeat(np.arange(CLASSES), 1000)
INPUTS_TF = torch.hstack(
    [torch.eye(CLASSES)[LABELS_T], torch.arange(len(LABELS_T), dtype=torch.float32)[:, None]]
)


class PerfectExpert(nn.Module):
    def __init__(self, knows: list[int]) -> None:
        super().__init__()
        self.knows = torch.tensor(knows)

    def forward(self, inputs_TF: Tensor) -> Tensor:
        label_T, coin_T = inputs_TF[:, :CLASSES].argmax(dim=1), inputs_TF[:, CLASSES].long()
        guess_T = self.knows[coin_T % len(self.knows)]
        answer_T = torch.where(torch.isin(label_T, self.knows), label_T, guess_T)
        return torch.eye(CLASSES)[answer_T]


class PerfectBlindGate(nn.Module):
    """Knows the holders of every class, and prefers one of them whatever client asks."""

    def __init__(self, holds: list[list[int]]) -> None:
        super().__init__()
        self.holders_CE = torch.tensor([[float(c in classes) for classes in holds] for c in range(CLASSES)])

    def forward(self, inputs_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        scores_TE = self.holders_CE[inputs_TF[:, :CLASSES].argmax(dim=1)]
        taste_TE = torch.rand(scores_TE.shape, generator=torch.Generator().manual_seed(0))
        logits_TE = torch.log(scores_TE * (1 + taste_TE) + 1e-9)
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


@pytest.fixture(scope="module")
def holds() -> list[list[int]]:
    parts = partition(LABELS_T, CLIENTS, "ring", seed=0)
    return [np.unique(LABELS_T[part]).tolist() for part in parts]


def answer(holds: list[list[int]], policy: Policy, source_T: np.ndarray) -> MoeOutput:
    layer = MoeLayer(PerfectBlindGate(holds), [PerfectExpert(knows) for knows in holds], policy=policy)
    output: MoeOutput = layer.eval()(INPUTS_TF, source_T)
    return output


def f1_of(output: MoeOutput) -> float:
    return macro_f1(LABELS_T, output.y_TC.argmax(dim=1).numpy(), CLASSES)


def local_share(output: MoeOutput, source_T: np.ndarray, of_items_T: np.ndarray) -> float:
    assert output.dispatched is not None
    arrived_TE = output.dispatched.arrived_TE[of_items_T]
    local_TE = source_T[of_items_T, None] == np.arange(CLIENTS)
    return float((arrived_TE & local_TE).sum() / arrived_TE.sum())


SOURCE_T = np.random.default_rng(1).integers(CLIENTS, size=len(LABELS_T))
EVERYWHERE_T = np.ones(len(LABELS_T), dtype=bool)


def test_the_ring_gives_two_neighbouring_classes_to_each_client(holds: list[list[int]]) -> None:
    assert [set(classes) for classes in holds] == [{i, (i + 1) % CLASSES} for i in range(CLIENTS)]


def test_random_routing_gives_20_percent_f1_and_10_percent_local(holds: list[list[int]]) -> None:
    output = answer(holds, RandomK(1), SOURCE_T)
    assert f1_of(output) == pytest.approx(0.200, abs=0.014)
    assert local_share(output, SOURCE_T, EVERYWHERE_T) == pytest.approx(0.10, abs=0.01)


@pytest.mark.parametrize("known", [1, 2, 4, 5, 10])
def test_a_client_that_knows_c_classes_gets_the_f1_of_the_formula(known: int) -> None:
    answers_T = PerfectExpert(list(range(known)))(INPUTS_TF).argmax(dim=1).numpy()
    expected = 2 * known**2 / (10 * (10 + known))
    assert macro_f1(LABELS_T, answers_T, CLASSES) == pytest.approx(expected, rel=1e-9 if known != 4 else 1e-3)


def test_local_answers_at_two_classes_give_6_67_percent_and_stay_local(holds: list[list[int]]) -> None:
    scores = []
    for client in range(CLIENTS):
        source_T = np.full(len(LABELS_T), client)
        output = answer(holds, Local(), source_T)
        scores.append(f1_of(output))
        assert local_share(output, source_T, EVERYWHERE_T) == 1.0
    assert np.mean(scores) == pytest.approx(2 / 30, abs=1e-3)


def test_a_perfect_gate_that_is_blind_to_the_client_is_half_local_on_own_classes(
    holds: list[list[int]],
) -> None:
    output = answer(holds, TopK(1), SOURCE_T)
    assert f1_of(output) == 1.0
    own_T = np.array([label in holds[source] for label, source in zip(LABELS_T, SOURCE_T, strict=True)])
    assert local_share(output, SOURCE_T, own_T) == pytest.approx(0.50, abs=0.04)
    assert local_share(output, SOURCE_T, EVERYWHERE_T) == pytest.approx(0.10, abs=0.01)


def test_a_class_that_is_never_right_counts_zero_and_one_that_never_occurs_not_at_all() -> None:
    np.testing.assert_allclose(class_f1(np.array([0, 0, 1]), np.array([0, 1, 0]), 3), [0.5, 0.0, np.nan])
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 1, 0]), 3) == pytest.approx(0.5 / 2)


def test_top_1_answers_are_those_of_the_best_scored_expert() -> None:
    probability_TEC = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.3, 0.7]]])
    assert routed_answers(torch.tensor([[0.4, 0.6], [0.7, 0.3]]), probability_TEC).tolist() == [1, 0]
