"""Bytes that follow a prompt."""

import numpy as np
import pytest
import torch

from airmoe.errors import InvalidInputError
from airmoe.language import MoeTransformer, TransformerSettings
from airmoe.language.generation import generate
from airmoe.seeding import torch_seeded

PROMPTS = [b"wireless", b"a", b"an expert of another node"]


@pytest.fixture(scope="module")
def model() -> MoeTransformer:
    settings = TransformerSettings(width=16, layers=2, heads=2, expert_hidden=16, context=48)
    with torch_seeded(0, "generating"):
        model = MoeTransformer(settings).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    return model


def written(model: MoeTransformer, prompts: list[bytes], length: int, **options: object) -> np.ndarray:
    return np.stack([each.byte_B for each in generate(model, prompts, length, **options)], axis=1)  # type: ignore[arg-type]


def test_greedy_bytes_are_the_most_probable_ones_of_the_whole_text(model: MoeTransformer) -> None:
    byte_BS = written(model, PROMPTS, 12)
    for prompt, byte_S in zip(PROMPTS, byte_BS, strict=True):
        text = list(prompt)
        for byte in byte_S.tolist():
            with torch.no_grad():
                assert int(model(torch.tensor([text])).logits_BSV[0, -1].argmax()) == byte
            text.append(byte)


def test_a_sequence_does_not_depend_on_those_that_follow_it(model: MoeTransformer) -> None:
    together = written(model, PROMPTS, 10, temperature=1.0, seed=3)
    alone = written(model, PROMPTS[:1], 10, temperature=1.0, seed=3)
    np.testing.assert_array_equal(together[:1], alone)
    assert (together[:1] != written(model, PROMPTS[:1], 10, temperature=1.0, seed=4)).any()


def test_drawn_bytes_are_as_frequent_as_the_model_says(model: MoeTransformer) -> None:
    draws = 4000
    byte_B = written(model, [b"wireless"] * draws, 1, temperature=0.7)[:, 0]
    with torch.no_grad():
        logits_V = model(torch.tensor([list(b"wireless")])).logits_BSV[0, -1].double()
    expected_V = torch.softmax(logits_V / 0.7, dim=0).numpy()
    found_V = np.bincount(byte_B, minlength=256) / draws
    assert np.abs(found_V - expected_V).max() < 4 * np.sqrt(0.25 / draws)
    assert expected_V.max() < 0.9


def test_the_first_byte_costs_the_prompts_and_each_further_one_a_token(model: MoeTransformer) -> None:
    tokens = [len(each.layers[0].scores_TE) for each in generate(model, PROMPTS, 3)]
    assert tokens == [sum(map(len, PROMPTS)), 3, 3]


def test_as_much_as_the_context_holds_is_written(model: MoeTransformer) -> None:
    assert written(model, [b"x" * 40], 9).shape == (1, 9)


@pytest.mark.parametrize(
    ("prompts", "options", "named"),
    [
        ([], {}, "prompts is \\[\\]; expected at least one"),
        ([b"a", b""], {}, r"prompts\[1\] is b''; expected at least one byte"),
        ([b"a"], {"length": 0}, "length is 0"),
        ([b"a"], {"temperature": -1.0}, "temperature is -1.0"),
        ([b"a"], {"temperature": float("nan")}, "temperature is nan"),
        (
            [b"x" * 40],
            {"length": 10},
            "length is 10; expected at most 9: the context is 48",
        ),
        ([b"a"], {"source": -1}, "source is -1"),
    ],
)
def test_what_cannot_be_written_is_refused(
    model: MoeTransformer, prompts: list[bytes], options: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        next(generate(model, prompts, **{"length": 4, **options}))  # type: ignore[arg-type]


def test_logits_that_are_not_finite_are_refused_by_sequence(model: MoeTransformer) -> None:
    settings = model.settings
    spoilt = MoeTransformer(settings).eval()
    spoilt.load_state_dict(model.state_dict())
    with torch.no_grad():
        spoilt.head.weight[7] = torch.nan
    with pytest.raises(InvalidInputError, match="logits of sequence 0 is 'not finite'"):
        next(generate(spoilt, [b"a", b"z"], 1))
