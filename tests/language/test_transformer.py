"""The transformer: beside Mixtral of another library with the same weights, with a cache, and by node."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from airmoe.errors import InvalidInputError
from airmoe.language import MoeTransformer, TransformerSettings
from airmoe.links import Links, Ofdma
from airmoe.nn import IdealRadioCarrier
from airmoe.scheduling import Placement
from airmoe.seeding import torch_seeded

SETTINGS = TransformerSettings(width=32, layers=2, heads=4, expert_hidden=24, experts=4, k=2, context=32)


@pytest.fixture(scope="module")
def model() -> MoeTransformer:
    """Weights large enough that attention and routers are far from even."""
    with torch_seeded(0, "transformer under test"):
        model = MoeTransformer(SETTINGS).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(6)
    return model


@pytest.fixture(scope="module")
def tokens_BS() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20)))


def logits_of(model: MoeTransformer, tokens_BS: Tensor, **options: object) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(tokens_BS, **options).logits_BSV
    return logits


def as_mixtral(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under Mixtral's names and in its layout."""
    named = {
        "model.embed_tokens.weight": weights["embedding.weight"],
        "model.norm.weight": weights["norm.weight"],
        "lm_head.weight": weights["head.weight"],
    }
    for layer in range(SETTINGS.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        into = weights[f"{ours}attention.into.weight"].chunk(3)
        named |= {
            f"{theirs}self_attn.{name}_proj.weight": part for name, part in zip("qkv", into, strict=True)
        }
        named[f"{theirs}self_attn.o_proj.weight"] = weights[f"{ours}attention.out.weight"]
        named[f"{theirs}input_layernorm.weight"] = weights[f"{ours}attention_norm.weight"]
        named[f"{theirs}post_attention_layernorm.weight"] = weights[f"{ours}moe_norm.weight"]
        named[f"{theirs}mlp.gate.weight"] = weights[f"{ours}moe.gate.linear.weight"]
        experts = [
            {part: weights[f"{ours}moe.experts.{expert}.{part}.weight"] for part in ("gate", "up", "down")}
            for expert in range(SETTINGS.experts)
        ]
        named[f"{theirs}mlp.experts.gate_up_proj"] = torch.stack(
            [torch.cat([each["gate"], each["up"]]) for each in experts]
        )
        named[f"{theirs}mlp.experts.down_proj"] = torch.stack([each["down"] for each in experts])
    return named


def test_logits_are_those_of_mixtral_with_the_same_weights(model: MoeTransformer, tokens_BS: Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=256,
        hidden_size=SETTINGS.width,
        intermediate_size=SETTINGS.expert_hidden,
        num_hidden_layers=SETTINGS.layers,
        num_attention_heads=SETTINGS.heads,
        num_key_value_heads=SETTINGS.heads,
        num_local_experts=SETTINGS.experts,
        num_experts_per_tok=SETTINGS.k,
        rms_norm_eps=torch.finfo(torch.float32).eps,
        max_position_embeddings=SETTINGS.context,
        sliding_window=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    mixtral = transformers.MixtralForCausalLM(config).eval()
    mixtral.load_state_dict(as_mixtral(model.state_dict()))
    with torch.no_grad():
        expected_BSV = mixtral(tokens_BS).logits
    assert expected_BSV.std() > 1
    torch.testing.assert_close(logits_of(model, tokens_BS), expected_BSV, rtol=1e-4, atol=1e-4)


def test_a_cache_gives_what_whole_sequences_give(model: MoeTransformer, tokens_BS: Tensor) -> None:
    cache = model.new_cache(3)
    parts = [logits_of(model, part_BS, cache=cache) for part_BS in tokens_BS.split([11, 1, 8], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), logits_of(model, tokens_BS), rtol=1e-4, atol=1e-4)


def test_sequences_of_different_lengths_do_not_disturb_one_another(
    model: MoeTransformer, tokens_BS: Tensor
) -> None:
    count_B, whole_BSV = torch.tensor([11, 4, 7]), logits_of(model, tokens_BS)
    cache = model.new_cache(3)
    first_BSV = logits_of(model, tokens_BS[:, :11], count_B=count_B, cache=cache)
    next_B1 = tokens_BS[torch.arange(3), count_B][:, None]
    next_BSV = logits_of(model, next_B1, cache=cache)
    for sequence, count in enumerate(count_B.tolist()):
        torch.testing.assert_close(
            first_BSV[sequence, :count], whole_BSV[sequence, :count], rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(next_BSV[sequence, 0], whole_BSV[sequence, count], rtol=1e-4, atol=1e-4)


def test_what_fills_a_batch_up_goes_to_no_expert(model: MoeTransformer, tokens_BS: Tensor) -> None:
    with torch.no_grad():
        output = model(tokens_BS, torch.tensor([20, 3, 1]))
    assert [len(layer.scores_TE) for layer in output.layers] == [24, 24]


def test_a_token_knows_nothing_of_what_follows(model: MoeTransformer, tokens_BS: Tensor) -> None:
    other_BS = tokens_BS.clone()
    other_BS[:, 12:] = 7
    before, after = logits_of(model, tokens_BS), logits_of(model, other_BS)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_tokens_pay_from_the_node_where_their_sequence_rests(
    model: MoeTransformer, tokens_BS: Tensor
) -> None:
    radio = Ofdma(subcarriers=12)
    snr_db_NN = np.full((4, 4), 10.0)
    snr_db_NN[2] = 0.0  # whatever node 2 sends is dear
    links = Links.from_snr(snr_db_NN, radio)
    with torch.no_grad():
        output = model(
            tokens_BS, source_B=np.array([0, 2, 1]), policy="all", carrier=IdealRadioCarrier(links)
        )
    bits = 32 * SETTINGS.width + 32
    per_bit_j = radio.power_w / (radio.subcarrier_hz * np.log2([11.0, 2.0, 11.0]))
    for layer in output.layers:
        assert layer.dispatched is not None
        energy_j_B = layer.dispatched.energy_j_T.reshape(3, 20)
        np.testing.assert_allclose(energy_j_B, np.broadcast_to((3 * bits * per_bit_j)[:, None], (3, 20)))


def test_each_layer_has_its_number_so_that_deeper_ones_may_be_asked_for_less(
    model: MoeTransformer, tokens_BS: Tensor
) -> None:
    links = Links.from_snr(10.0, Ofdma(subcarriers=12), nodes=4)
    with torch.no_grad():
        output = model(tokens_BS, policy="des:0.5:4", carrier=IdealRadioCarrier(links))
    for layer, required in zip(output.layers, (0.5, 0.25), strict=True):
        assert layer.dispatched is not None
        kept_T = (layer.scores_TE.double().numpy() * layer.dispatched.requested_TE).sum(axis=1)
        assert kept_T.min() >= required - 1e-6
    assert kept_T.min() < 0.5  # of the second layer


def test_policies_and_carriers_may_differ_by_layer(model: MoeTransformer, tokens_BS: Tensor) -> None:
    with torch.no_grad():
        output = model(tokens_BS, policy=["topk:1", "topk:3"])
    asked = [int(layer.dispatched.requested_TE.sum(axis=1).max()) for layer in output.layers]
    assert asked == [1, 3]
    with pytest.raises(InvalidInputError, match="policy of layers is 3; expected one for each of 2 layers"):
        model(tokens_BS, policy=["all"] * 3)


@pytest.mark.parametrize(("begun", "steps"), [(0, 33), (30, 3), (0, 0)])
def test_what_the_context_does_not_hold_is_refused(model: MoeTransformer, begun: int, steps: int) -> None:
    cache = model.new_cache(1)
    if begun:
        logits_of(model, torch.zeros((1, begun), dtype=torch.int64), cache=cache)
    with pytest.raises(InvalidInputError, match=r"positions is \d+; expected 1 to 32, the context"):
        logits_of(model, torch.zeros((1, steps), dtype=torch.int64), cache=cache)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"width": 30, "heads": 4}, "a multiple of 8"), ({"experts": 2, "k": 3}, "at most 2")],
)
def test_a_form_that_does_not_fit_is_refused(options: dict[str, int], named: str) -> None:
    with pytest.raises((ValidationError, InvalidInputError), match=named):
        TransformerSettings(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_run_with_and_without_a_cache(
    model: MoeTransformer, tokens_BS: Tensor, dtype: torch.dtype
) -> None:
    other = copy.deepcopy(model).to(dtype)
    whole, cache = logits_of(other, tokens_BS), other.new_cache(3)
    parts = [logits_of(other, part_BS, cache=cache) for part_BS in tokens_BS.split(10, dim=1)]
    assert whole.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float64 else 1.0  # another order of sums may choose another expert
    assert (torch.cat(parts, dim=1) - whole).abs().median() < tolerance


def test_a_text_that_draws_draws_differently_in_every_layer(model: MoeTransformer, tokens_BS: Tensor) -> None:
    with torch.no_grad():
        first, second = (
            layer.dispatched.requested_TE for layer in model(tokens_BS, policy="random:1").layers
        )
    assert (first != second).any()


WHOLE = torch.zeros((2, 5), dtype=torch.int64)


@pytest.mark.parametrize(
    ("tokens", "options", "named"),
    [
        (
            WHOLE.float(),
            {},
            r"form of tokens_BS is '\(2, 5\), torch.float32'; expected \(B, S\), torch.int64",
        ),
        (WHOLE[0], {}, "form of tokens_BS"),
        (WHOLE + 256, {}, "a token is 256; expected 0 to 255"),
        (WHOLE - 1, {}, "a token is -1"),
        (
            WHOLE,
            {"count_B": torch.tensor([5, 0])},
            r"count_B is \[5, 0\]; expected \(B,\) = \(2,\) numbers from 1",
        ),
        (WHOLE, {"count_B": torch.tensor([6, 1])}, r"count_B is \[6, 1\]"),
        (WHOLE, {"count_B": torch.tensor([5])}, r"count_B is \[5\]"),
        (WHOLE, {"source_B": [0, 1, 2]}, r"shape of source_B is \(3,\)"),
        (WHOLE, {"source_B": [0.9, 0.1]}, "source_B is 'float64'"),
        (WHOLE, {"source_B": [-1, 0]}, r"source_B\[0\] is -1"),
    ],
)
def test_what_is_no_batch_of_bytes_is_refused(
    model: MoeTransformer, tokens: Tensor, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        logits_of(model, tokens, **options)


def test_a_cache_of_other_sequences_is_refused(model: MoeTransformer) -> None:
    with pytest.raises(InvalidInputError, match="sequences of the cache is 3; expected 2, as tokens_BS has"):
        logits_of(model, WHOLE, cache=model.new_cache(3))


def test_experts_are_placed_in_every_layer_and_one_stands_alone(model: MoeTransformer) -> None:
    placed = copy.deepcopy(model)
    placed.place(Placement([2, 0, 0, 1], compute_j=1e-3))
    with torch.no_grad():
        output = placed(WHOLE, source_B=0, policy="topk:2")
    for layer in output.layers:
        np.testing.assert_allclose(layer.dispatched.energy_j_T, 2e-3)
    with pytest.raises(InvalidInputError, match="experts of placement is 2; expected 4, as each layer has"):
        placed.place(Placement([0, 1]))
    for expert in (-1, 4):
        with pytest.raises(InvalidInputError, match=f"expert is {expert}"):
            model.alone(expert)
