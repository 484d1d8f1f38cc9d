"""Mixtures of Hugging Face over nodes, on tiny random configurations of every family."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.dispatch import LossyCarrier
from airmoe.errors import InvalidInputError
from airmoe.language import NodesOfModel
from airmoe.language.families import FAMILIES, REFUSED
from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier, LocalCarrier
from airmoe.scheduling import Placement
from airmoe.seeding import torch_seeded

transformers = pytest.importorskip("transformers")

EXPERTS, NODES = 8, 4
PLACEMENT = np.arange(EXPERTS) // 2  # two experts a node
SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 48,
    "moe_intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": None,
}
OWN: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": EXPERTS},
    "qwen2_moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 32},
    "qwen3_moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "head_dim": 16, "norm_topk_prob": True},
    "olmoe": {"num_experts": EXPERTS, "num_experts_per_tok": 3},
    "granitemoe": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
    "deepseek_v3": {
        **{"n_routed_experts": EXPERTS, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2},
        **{"first_k_dense_replace": 1, "num_key_value_heads": 4, "num_hidden_layers": 3},
        **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8},
        **{"v_head_dim": 16, "n_shared_experts": 1},
    },
}


def model_of(family: str, **own: Any) -> Any:
    config = transformers.AutoConfig.for_model(family, **(SHAPE | OWN[family] | own))
    with torch_seeded(0, f"a tiny {family}"):
        model = transformers.AutoModelForCausalLM.from_config(config, experts_implementation="eager")
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name:
                    weight.normal_(std=0.2)
            for name, buffer in model.named_buffers():
                if name.endswith("e_score_correction_bias"):
                    buffer.normal_(std=0.3)  # below zero, too
    return model.eval()


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> Any:
    return model_of(request.param)


@pytest.fixture(scope="module")
def tokens_BS() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 96, (3, 17)))


def logits_of(model: Any, tokens_BS: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(tokens_BS).logits
    return logits


def written(model: Any, tokens_BS: Tensor) -> list[list[int]]:
    written_BS = model.generate(tokens_BS, max_new_tokens=6, do_sample=False, pad_token_id=0)
    return written_BS.tolist()  # type: ignore[no-any-return]


def links(seed: int = 0) -> Links:
    return RayleighFading(NODES, Ofdma(subcarriers=16), mean_snr_db=10.0, seed=seed).at(0)


def test_with_its_own_top_k_a_model_is_itself_to_the_last_bit(model: Any, tokens_BS: Tensor) -> None:
    before, text = logits_of(model, tokens_BS), written(model, tokens_BS)
    assert before.std() > 0.1
    own_k = f"topk:{OWN[model.config.model_type].get('num_experts_per_tok', 2)}"
    every: list[dict[str, Any]] = [{}, {"carrier": IdealRadioCarrier(links())}, {"policy": own_k}]
    for options in every:
        with NodesOfModel(model, placement=PLACEMENT, **options) as nodes:
            assert torch.equal(logits_of(model, tokens_BS), before)
            assert written(model, tokens_BS) == text
        assert all(len(layer.done) == 1 + 6 for layer in nodes.layers)
    assert torch.equal(logits_of(model, tokens_BS), before)
    assert model.get_experts_implementation()[""] == "eager"


def test_what_the_routers_say_decides_who_is_asked(model: Any, tokens_BS: Tensor) -> None:
    """The best expert of a token by the model's own rule is the one that top-1 asks."""
    chosen = dict[str, Tensor]()

    def keep(name: str) -> Any:
        def hook(router: Any, inputs: Any, said: tuple[Tensor, ...]) -> None:
            chosen[name] = torch.zeros(said[0].shape, dtype=torch.bool).scatter_(1, said[2], True)

        return hook

    hooks = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if hasattr(module, "top_k") and name.rpartition(".")[2] in ("gate", "router")
    ]
    with NodesOfModel(model, placement=PLACEMENT, policy="topk:1") as nodes:
        logits_of(model, tokens_BS)
    for hook in hooks:
        hook.remove()
    assert len(chosen) == len(nodes.layers) == 2
    for layer, own_TE in zip(nodes.layers, chosen.values(), strict=True):
        asked_TE = layer.done[0].requested_TE
        assert (asked_TE.sum(axis=1) == 1).all()
        assert (own_TE.numpy() >= asked_TE).all()
        assert len(np.unique(asked_TE.argmax(axis=1))) > 2


def test_des_that_asks_for_nothing_takes_the_cheapest_expert(model: Any, tokens_BS: Tensor) -> None:
    snr_db_NN = np.full((NODES, NODES), 5.0)
    snr_db_NN[0, 2] = 20.0
    carrier = IdealRadioCarrier(Links.from_snr(snr_db_NN, Ofdma(subcarriers=16)))
    placement = Placement(1 + np.arange(EXPERTS) % 3)  # none at home
    with NodesOfModel(model, placement=placement, policy=f"des:0:{EXPERTS}", carrier=carrier) as nodes:
        logits_of(model, tokens_BS)
    for layer in nodes.layers:
        (done,) = layer.done
        assert (done.requested_TE.sum(axis=1) == 1).all()
        assert (placement.first_E[done.requested_TE.argmax(axis=1)] == 2).all()
    assert nodes.energy_j == pytest.approx(
        sum(float(layer.done[0].energy_j_T.sum()) for layer in nodes.layers)
    )
    assert nodes.energy_j > 0


def test_more_experts_than_its_own_weigh_as_in_a_model_of_as_many(model: Any, tokens_BS: Tensor) -> None:
    family = model.config.model_type
    config = transformers.AutoConfig.for_model(family, **(SHAPE | OWN[family] | {"num_experts_per_tok": 4}))
    other = transformers.AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    other.load_state_dict(model.state_dict())
    with NodesOfModel(model, placement=PLACEMENT, policy="topk:4") as nodes:
        four_BSV = logits_of(model, tokens_BS)
    assert (nodes.layers[0].done[0].requested_TE.sum(axis=1) == 4).all()
    torch.testing.assert_close(four_BSV, logits_of(other, tokens_BS), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(four_BSV, logits_of(model, tokens_BS), atol=1e-2)


def test_tokens_pay_from_the_node_of_their_sequence(tokens_BS: Tensor) -> None:
    model, radio = model_of("mixtral"), Ofdma(subcarriers=16)
    snr_db_NN = np.full((NODES, NODES), 10.0)
    snr_db_NN[3] = -5.0
    carrier = IdealRadioCarrier(Links.from_snr(snr_db_NN, radio))
    with NodesOfModel(model, placement=PLACEMENT, policy="all", carrier=carrier, source=[0, 3, 1]) as nodes:
        logits_of(model, tokens_BS)
    energy_j_B = nodes.layers[0].done[0].energy_j_T.reshape(3, 17).sum(axis=1)
    assert energy_j_B[0] == pytest.approx(energy_j_B[2])
    assert energy_j_B[1] > 5 * energy_j_B[0]
    for sources, named in (([0, 1], "number of sources is 2; expected 1 or 3"), ([0] * 17, "sources is 17")):
        with (
            NodesOfModel(model, placement=PLACEMENT, source=sources),
            pytest.raises(InvalidInputError, match=named),
        ):
            logits_of(model, tokens_BS)
    for source in ([], [[0, 1]]):
        with pytest.raises(InvalidInputError, match="shape of source is "):
            NodesOfModel(model, placement=PLACEMENT, source=source)


def test_a_model_is_given_back_whatever_happens(tokens_BS: Tensor) -> None:
    model = model_of("olmoe")
    before = logits_of(model, tokens_BS)
    with pytest.raises(ZeroDivisionError), NodesOfModel(model, placement=PLACEMENT):
        raise ZeroDivisionError
    assert torch.equal(logits_of(model, tokens_BS), before)


def test_other_families_are_refused_by_name() -> None:
    dense = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(**{name: SHAPE[name] for name in SHAPE if name != "moe_intermediate_size"})
    )
    with pytest.raises(InvalidInputError, match="family is 'llama'; expected one of mixtral, qwen2_moe"):
        NodesOfModel(dense, placement=PLACEMENT)
    for family, why in REFUSED.items():
        dense.config.model_type = family
        with pytest.raises(InvalidInputError, match=f"family is '{family}'; expected .*: {why}"):
            NodesOfModel(dense, placement=PLACEMENT)


def test_a_placement_for_other_experts_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"experts of placement is 3; expected 8, as model\.layers\.0\.mlp"
    ):
        NodesOfModel(model_of("qwen3_moe"), placement=[0, 1, 2])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_where_scores_tie_the_choice_is_the_model_s_own(family: str, tokens_BS: Tensor) -> None:
    model = model_of(family).to(torch.bfloat16)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("gate.weight", "router.weight")):
                weight[1::2] = weight[::2]  # every score twice
    before = logits_of(model, tokens_BS)
    with NodesOfModel(model, placement=PLACEMENT):
        assert torch.equal(logits_of(model, tokens_BS), before)


def test_experts_with_hardly_any_score_are_weighed_all_the_same(tokens_BS: Tensor) -> None:
    model = model_of("mixtral")
    with torch.no_grad():
        model.model.layers[1].mlp.gate.weight.mul_(100)  # softmax scores of most experts are 0
    for policy in ("cheapest:1", "random:1", "local"):
        with NodesOfModel(model, placement=PLACEMENT, policy=policy):
            assert logits_of(model, tokens_BS).isfinite().all()


def test_a_lost_expert_is_left_out_and_another_is_asked(tokens_BS: Tensor) -> None:
    model = model_of("mixtral")
    before = logits_of(model, tokens_BS)
    carrier = LossyCarrier(LocalCarrier(), lost={3})
    with NodesOfModel(model, placement=PLACEMENT, carrier=carrier) as nodes:
        after = logits_of(model, tokens_BS)
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    (done,) = nodes.layers[0].done
    assert not done.arrived_TE[:, 6:].any()
    assert done.degraded_T.any()
    assert (done.arrived_TE.sum(axis=1) == 2).all()
    assert done.deliveries == []
    with NodesOfModel(model, placement=PLACEMENT, carrier=carrier) as nodes:
        for token in tokens_BS[0, :8]:  # a batch of one item is routed again whole
            logits_of(model, token[None, None])
    assert all((done.arrived_TE.sum(axis=1) == 2).all() for layer in nodes.layers for done in layer.done)
    dead = LossyCarrier(LocalCarrier(), dead={3})
    with NodesOfModel(model, placement=PLACEMENT, carrier=dead) as nodes:
        torch.testing.assert_close(logits_of(model, tokens_BS), after)
    assert not any(done.requested_TE[:, 6:].any() for layer in nodes.layers for done in layer.done)


def test_a_model_is_in_one_context_at_a_time(tokens_BS: Tensor) -> None:
    model = model_of("granitemoe")
    before = logits_of(model, tokens_BS)
    with NodesOfModel(model, placement=PLACEMENT) as nodes:
        for other in (nodes, NodesOfModel(model, placement=PLACEMENT)):
            with pytest.raises(InvalidInputError, match="is 'on nodes already'; expected a model"):
                other.__enter__()
        assert torch.equal(logits_of(model, tokens_BS), before)
    assert torch.equal(logits_of(model, tokens_BS), before)


def test_another_model_with_the_same_configuration_goes_on_as_it_was(tokens_BS: Tensor) -> None:
    one = model_of("qwen3_moe")
    other = transformers.AutoModelForCausalLM.from_config(one.config, experts_implementation="eager").eval()
    before = logits_of(other, tokens_BS)
    with NodesOfModel(one, placement=PLACEMENT):
        assert torch.equal(logits_of(other, tokens_BS), before)


def test_gradients_are_refused(tokens_BS: Tensor) -> None:
    model = model_of("mixtral")
    with (
        NodesOfModel(model, placement=PLACEMENT),
        pytest.raises(InvalidInputError, match=r"gradients is 'asked for'; expected torch.no_grad\(\)"),
    ):
        model(tokens_BS)


def test_what_has_no_experts_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="MoE layers of the model is 0; expected at least one"):
        NodesOfModel(model_of("qwen3_moe", mlp_only_layers=[0, 1]), placement=PLACEMENT)
    with pytest.raises(InvalidInputError, match="family is 'Linear'; expected one of mixtral"):
        NodesOfModel(torch.nn.Linear(2, 2), placement=PLACEMENT)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="policy is ''"):
        NodesOfModel(model_of("mixtral"), placement=PLACEMENT, policy="")
