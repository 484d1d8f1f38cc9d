"""Routers from sums, beside scikit-learn's discriminant."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from airmoe.errors import InvalidInputError
from airmoe.language import MoeTransformer, TransformerSettings
from airmoe.language.routers import SHRINKAGE, HiddenSums, discriminant, fit_routers, hidden_sums
from airmoe.seeding import torch_seeded

SETTINGS = TransformerSettings(width=48, layers=3, heads=2, expert_hidden=16, experts=1, k=1, context=24)


def dense() -> MoeTransformer:
    with torch_seeded(0, "a dense seed"):
        model = MoeTransformer(SETTINGS).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5)
    return model


def sums_of(values_TW: np.ndarray) -> HiddenSums:
    values = torch.from_numpy(values_TW)
    return HiddenSums(len(values), values.sum(dim=0), values.T @ values)


def test_the_scores_are_the_posterior_of_a_linear_discriminant() -> None:
    random = np.random.default_rng(0)
    mix_WW = random.normal(size=(6, 6))
    groups = [random.normal(loc=mean, size=(500, 6)) @ mix_WW for mean in (0.0, 0.5, -1.0)]
    weight_EW, bias_E = discriminant([sums_of(group) for group in groups])
    values_TW, owner_T = np.concatenate(groups), np.repeat(np.arange(3), 500)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(values_TW, owner_T)
    logits_TE = torch.from_numpy(values_TW) @ weight_EW.T + bias_E
    np.testing.assert_allclose(
        torch.softmax(logits_TE, dim=1).numpy(), oracle.predict_proba(values_TW), rtol=1e-6, atol=1e-9
    )


def test_sums_are_over_what_experts_are_given_and_those_of_parts_add_up() -> None:
    seed = dense()
    tokens_BS = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (4, 20)))
    first, *others = hidden_sums(seed, tokens_BS)
    assert len(others) == SETTINGS.layers - 1
    block = seed.blocks[0]
    with torch.no_grad():
        hidden_BSW = seed.embedding(tokens_BS)
        places_BS = torch.arange(20).expand(4, 20)
        hidden_BSW = hidden_BSW + block.attention(block.attention_norm(hidden_BSW), places_BS)
        given_TW = block.moe_norm(hidden_BSW).flatten(0, 1).double()
    torch.testing.assert_close(first.sum_W, given_TW.sum(dim=0))
    torch.testing.assert_close(first.gram_WW, given_TW.T @ given_TW)
    assert first.tokens == 80
    halves = [hidden_sums(seed, part_BS) for part_BS in tokens_BS.split(2)]
    for whole, one, other in zip([first, *others], *halves, strict=True):
        torch.testing.assert_close(whole.gram_WW, one.gram_WW + other.gram_WW, rtol=1e-6, atol=1e-6)


def test_bytes_go_to_the_expert_whose_owner_has_such_text() -> None:
    seed, random = dense(), np.random.default_rng(2)
    with torch_seeded(0, "a mixture"):
        model = MoeTransformer(SETTINGS.model_copy(update={"experts": 3, "k": 1})).eval()
    model.load_state_dict(seed.state_dict() | {n: t for n, t in model.state_dict().items() if ".moe." in n})
    alphabets = [range(97, 105), range(105, 113), range(113, 121)]
    texts = [random.choice(list(letters), 4000).astype(np.uint8) for letters in alphabets]
    fit_routers(model, seed, texts, windows=30, draw=0)
    for expert, letters in enumerate(alphabets):
        asked_BS = torch.from_numpy(random.choice(list(letters), (5, 20)))
        with torch.no_grad():
            first = model(asked_BS).layers[0]
        assert float(first.scores_TE[:, expert].mean()) > 0.9
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit_routers(model, seed, texts, windows=30, draw=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(InvalidInputError, match="texts of owners is 1; expected 3, one for each expert"):
        fit_routers(model, seed, texts[:1], windows=3, draw=0)
