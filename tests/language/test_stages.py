"""Branch, train, mix: what each stage trains, on which texts, and that it can be taken up again."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.language import Texts, TransformerSettings
from airmoe.language.config import BranchSettings, DmoeConfig, MixSettings, StepSettings
from airmoe.language.measure import bits_per_byte, questions
from airmoe.language.stages import DmoeModel, texts_of_experts, train_dmoe, trained_on
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import Checkpoint

SHAPE = TransformerSettings(width=32, layers=2, heads=2, expert_hidden=32, experts=4, k=2, context=32)
CONFIG = DmoeConfig(
    model=SHAPE,
    dense=StepSettings(steps=40, batch_size=8, learning_rate=1e-2),
    branch=BranchSettings(steps=50, batch_size=16, learning_rate=1e-2),
    mix=MixSettings(steps=30, batch_size=16),
)


@pytest.fixture(scope="module")
def trained(texts: Texts) -> DmoeModel:
    return train_dmoe(CONFIG, texts)


def bits(model: torch.nn.Module, texts: Texts, policy: str | None = None) -> list[float]:
    def logits_of(tokens_BS: Tensor) -> Tensor:
        return model(tokens_BS, policy=policy).logits_BSV  # type: ignore[no-any-return]

    return [bits_per_byte(logits_of, windows_WS) for windows_WS in questions(texts, SHAPE.context, 40)]


def test_the_mixture_beats_the_seed_and_every_expert_alone_over_all_domains(
    trained: DmoeModel, texts: Texts
) -> None:
    mixture = sum(bits(trained.model, texts))
    assert trained.domain_E == ("one", "one", "two", "two")
    assert mixture < sum(bits(trained.seed, texts)) - 0.05
    for expert in range(4):
        alone = bits(trained.model.alone(expert), texts)
        assert mixture < sum(alone) - 0.05
        own = expert // 2
        assert alone[own] < alone[1 - own] - 0.3


def test_experts_alone_are_the_seed_but_for_their_feed_forward_parts(trained: DmoeModel) -> None:
    seed = trained.seed.state_dict()
    for expert in range(4):
        own = trained.model.alone(expert).state_dict()
        changed = {name for name, tensor in own.items() if not torch.equal(tensor, seed[name])}
        assert all(".experts.0." in name or ".gate.linear" in name for name in changed)
        assert len([name for name in changed if ".experts.0." in name]) == 2 * 3


def test_with_one_expert_chosen_the_mixture_answers_as_that_expert_alone(trained: DmoeModel) -> None:
    tokens_BS = torch.from_numpy(np.random.default_rng(0).integers(97, 105, (2, 20)))
    for expert in range(4):
        only = torch.zeros(4)
        only[expert] = 1e4
        with torch.no_grad():
            model = copy.deepcopy(trained.model)
            for block in model.blocks:
                block.moe.gate.linear.weight.zero_()
                block.moe.gate.linear.bias.copy_(only)
            routed = model(tokens_BS, policy="topk:1").logits_BSV
            alone = trained.model.alone(expert)(tokens_BS).logits_BSV
        torch.testing.assert_close(routed, alone)


def test_rows_tell_every_stage(trained: DmoeModel) -> None:
    stages = [row["stage"] for row in trained.rows]
    assert list(dict.fromkeys(stages)) == ["dense", *(f"expert {e}" for e in range(4)), "mix"]
    assert [row["round"] for row in trained.rows if row["stage"] == "dense"] == [25, 40]
    dense = [float(row["bits_per_byte"]) for row in trained.rows if row["stage"] == "dense"]
    assert dense[-1] < dense[0]


class Stopped(Exception):
    """Ends a training."""


@pytest.mark.parametrize(("stage", "done"), [("expert 1", 50), ("mix", 25)])
def test_a_training_that_was_interrupted_ends_at_the_same_weights(
    trained: DmoeModel, texts: Texts, tmp_path: Path, stage: str, done: int
) -> None:
    def stop(at_stage: str, at: int, total: int, note: str = "", /) -> None:
        if (at_stage, at) == (stage, done):
            raise Stopped

    def run(progress: Progress) -> DmoeModel:
        return train_dmoe(CONFIG, texts, checkpoint=Checkpoint(tmp_path, "x"), progress=progress)

    with pytest.raises(Stopped):
        run(stop)
    resumed = run(silent)
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    assert resumed.rows == trained.rows


def test_a_dense_model_goes_on_from_the_seed_and_leaves_it_alone(trained: DmoeModel, texts: Texts) -> None:
    before = {name: tensor.clone() for name, tensor in trained.seed.state_dict().items()}
    longer = trained_on(CONFIG, texts, trained.seed, 40)
    assert sum(bits(longer, texts)) < sum(bits(trained.seed, texts))
    assert all(torch.equal(trained.seed.state_dict()[name], tensor) for name, tensor in before.items())


def test_no_two_experts_learn_from_one_document(texts: Texts) -> None:
    owned = texts_of_experts(CONFIG, texts)
    for number, domain in enumerate(texts.domains):
        mine = [bytes(text) for name, text in owned if name == domain.name]
        assert [sum(document in text for document in domain.train) for text in mine] == [4, 4]
        assert [name for name, _ in owned][2 * number : 2 * number + 2] == [domain.name] * 2
        assert not any(document in text for document in (*domain.test, *domain.validation) for text in mine)


def test_experts_that_cannot_be_dealt_to_the_domains_are_refused(texts: Texts) -> None:
    odd = CONFIG.model_copy(update={"model": SHAPE.model_copy(update={"experts": 3})})
    with pytest.raises(
        InvalidInputError, match=r"model\.experts is 3; expected a multiple of 2, the number of"
    ):
        train_dmoe(odd, texts)
    many = CONFIG.model_copy(update={"model": SHAPE.model_copy(update={"experts": 18})})
    with pytest.raises(InvalidInputError, match="training documents of one is 8; expected at least 9"):
        train_dmoe(many, texts)


def test_a_training_that_diverges_says_where(texts: Texts) -> None:
    wild = CONFIG.model_copy(update={"dense": StepSettings(steps=30, batch_size=4, learning_rate=1e30)})
    with pytest.raises(TrainingDivergedError, match=r"dense: the loss is (nan|inf) at step \d+ of 30"):
        train_dmoe(wild, texts)


def test_weights_that_are_not_finite_are_neither_returned_nor_kept(texts: Texts, tmp_path: Path) -> None:
    wild = CONFIG.model_copy(update={"dense": StepSettings(steps=1, batch_size=4, learning_rate=1e30)})
    wild = wild.model_copy(update={"dense": wild.dense.model_copy(update={"weight_decay": 1e12})})
    with pytest.raises(TrainingDivergedError, match=r"dense: .* is not finite after step 1 of 1"):
        train_dmoe(wild, texts, checkpoint=Checkpoint(tmp_path, "x"))
    assert not list(tmp_path.iterdir())


def test_a_step_has_a_window_of_every_domain(texts: Texts) -> None:
    few = CONFIG.model_copy(update={"dense": StepSettings(steps=1, batch_size=1)})
    with pytest.raises(
        InvalidInputError, match="batch_size of stage dense is 1; expected at least 2, a window"
    ):
        train_dmoe(few, texts)
