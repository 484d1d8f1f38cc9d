"""Several dense models of one architecture, joined into one mixture: branch, train, mix on ready models.

Each model's feed-forward parts become the experts of a Mixtral model, layer by layer; attention, embeddings
and norms are the average of all models' (arXiv 2403.07816). Routers come from sums, as in
`airmoe.language.routers`: whose text does this hidden state come from? Hidden states are those of the average
model.

Shape suffixes: W windows, S positions, T tokens, H values of a hidden state, E experts, F inner values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from airmoe.checks import integer_at_least
from airmoe.errors import InvalidInputError, require
from airmoe.language.routers import HiddenSums, discriminant
from airmoe.progress import Progress, silent
from airmoe.runs.weights import not_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AT_ONCE = 4
"""Windows of a pass."""

SAME = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "hidden_act", "rms_norm_eps", "head_dim", "rope_parameters", "tie_word_embeddings"),
    "max_position_embeddings",
)
"""What the configurations of all models have to agree in."""


def merge_models(
    models: Sequence[PreTrainedModel],
    tokens_E: Sequence[Tensor],
    *,
    k: int = 2,
    progress: Progress = silent,
) -> PreTrainedModel:
    """Return a Mixtral model whose experts are the feed-forward parts of dense Llama models.

    Args:
        models: E of them, all of one architecture and size, such as branches of one seed.
        tokens_E: for each model int64 windows (W, S) of text that it is good at, W and S at least 1.
        k: experts of a token.
        progress: told about every pass over a text.

    Raises:
        InvalidInputError: fewer than two models, another architecture, models that differ in size, ``k`` out
            of range, or texts that are none.
        MissingExtraError: transformers is not installed.
    """
    require("llm", "transformers")
    _check(models, tokens_E)
    if integer_at_least("k", k, 1) > len(models):
        raise InvalidInputError("k", k, f"at most {len(models)}, the number of models")
    average = _average_of(models)
    sums_EL = []
    for expert, tokens_WS in enumerate(tokens_E):
        sums_EL.append(_hidden_sums(average, tokens_WS, f"sums of text {expert}", progress))
    mixture = _mixture(average, models, k)
    for layer, sums_E in zip(mixture.model.layers, zip(*sums_EL, strict=True), strict=True):
        weight_EH = router_of(sums_E)
        with torch.no_grad():
            layer.mlp.gate.weight.copy_(weight_EH)
    return mixture.eval()  # type: ignore[no-any-return]


def router_of(sums_E: Sequence[HiddenSums]) -> Tensor:
    """Return the weights (E, H), float64, of a router without biases.

    Mixtral's have none. The constant 1 that a bias multiplies is given as far as a linear function of hidden
    states gives it: by least squares over all texts.
    """
    weight_EH, bias_E = discriminant(sums_E)
    tokens = sum(each.tokens for each in sums_E)
    gram_HH = torch.stack([each.gram_WW for each in sums_E]).sum(dim=0) / tokens
    mean_H = torch.stack([each.sum_W for each in sums_E]).sum(dim=0) / tokens
    floor = 1e-6 * gram_HH.diagonal().mean() * torch.eye(len(gram_HH), dtype=gram_HH.dtype)
    return weight_EH + torch.outer(bias_E, torch.linalg.solve(gram_HH + floor, mean_H))


def _check(models: Sequence[PreTrainedModel], tokens_E: Sequence[Tensor]) -> None:
    if len(models) < 2:
        raise InvalidInputError("number of models", len(models), "at least 2")
    for number, model in enumerate(models):
        if model.config.model_type != "llama":
            raise InvalidInputError(
                f"model_type of model {number}", model.config.model_type, "'llama', dense models alone"
            )
        for name in ("attention_bias", "mlp_bias"):
            if getattr(model.config, name, False):
                raise InvalidInputError(f"{name} of model {number}", True, "False: Mixtral has none")
        for name in SAME:
            one, other = getattr(models[0].config, name, None), getattr(model.config, name, None)
            if one != other:
                raise InvalidInputError(f"{name} of model {number}", other, f"{one}, as model 0 has")
        if wrong := not_finite(model.state_dict()):
            raise InvalidInputError(f"{wrong} of model {number}", "not finite", "finite weights")
    if models[0].config.hidden_act != "silu":
        raise InvalidInputError("hidden_act", models[0].config.hidden_act, "'silu'")
    _check_texts(models, tokens_E)


def _check_texts(models: Sequence[PreTrainedModel], tokens_E: Sequence[Tensor]) -> None:
    if len(tokens_E) != len(models):
        raise InvalidInputError("number of texts", len(tokens_E), f"{len(models)}, one for each model")
    for number, tokens_WS in enumerate(tokens_E):
        if tokens_WS.ndim != 2 or tokens_WS.dtype != torch.int64 or not tokens_WS.numel():
            told = f"{tuple(tokens_WS.shape)}, {tokens_WS.dtype}"
            raise InvalidInputError(f"form of text {number}", told, "(W, S), torch.int64, W and S at least 1")
        last = models[0].config.vocab_size - 1
        if int(tokens_WS.min()) < 0 or int(tokens_WS.max()) > last:
            told = f"{int(tokens_WS.min())} to {int(tokens_WS.max())}"
            raise InvalidInputError(f"tokens of text {number}", told, f"0 to {last}, the models' vocabulary")


def _average_of(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """Return a dense model whose weights are the mean of all models', taken in float64."""
    states = [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).float()
        for name in states[0]
    }
    average: Any = type(models[0])(models[0].config)
    average.load_state_dict(mean)
    return average.eval()  # type: ignore[no-any-return]


def _hidden_sums(model: Any, tokens_WS: Tensor, stage: str, progress: Progress) -> list[HiddenSums]:
    """Return each layer's sums over what its feed-forward part is given."""
    layers = model.model.layers
    tokens, sums = 0, [(torch.zeros(()), torch.zeros(())) for _ in layers]

    def adding(number: int) -> Any:
        def add(mlp: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            hidden_TH = inputs[0].flatten(0, -2).double()
            sum_H, gram_HH = sums[number]
            sums[number] = sum_H + hidden_TH.sum(dim=0), gram_HH + hidden_TH.T @ hidden_TH

        return add

    hooks = [layer.mlp.register_forward_pre_hook(adding(number)) for number, layer in enumerate(layers)]
    try:
        for begin in range(0, len(tokens_WS), AT_ONCE):
            progress(stage, begin, len(tokens_WS), "")
            part_BS = tokens_WS[begin : begin + AT_ONCE]
            with torch.no_grad():
                model.model(part_BS)
            tokens += part_BS.numel()
    finally:
        for hook in hooks:
            hook.remove()
    progress(stage, len(tokens_WS), len(tokens_WS), "")
    return [HiddenSums(tokens, *each) for each in sums]


def _mixture(average: Any, models: Sequence[PreTrainedModel], k: int) -> Any:
    """Return the mixture; its routers are yet to be set."""
    from transformers import MixtralConfig, MixtralForCausalLM

    dense = average.config
    config = MixtralConfig(
        **{name: getattr(dense, name) for name in SAME if getattr(dense, name, None) is not None},
        num_local_experts=len(models),
        num_experts_per_tok=k,
        sliding_window=None,
        **{name: getattr(dense, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    mixture = MixtralForCausalLM(config)
    states = [model.state_dict() for model in models]
    weights = {name: weight for name, weight in average.state_dict().items() if ".mlp." not in name}
    for number, layer in enumerate(mixture.model.layers):
        at = f"model.layers.{number}.mlp"
        gate_up_E2FH = [
            torch.cat([state[f"{at}.gate_proj.weight"], state[f"{at}.up_proj.weight"]]).float()
            for state in states
        ]
        weights[f"{at}.experts.gate_up_proj"] = torch.stack(gate_up_E2FH)
        weights[f"{at}.experts.down_proj"] = torch.stack(
            [state[f"{at}.down_proj.weight"].float() for state in states]
        )
        weights[f"{at}.gate.weight"] = torch.zeros_like(layer.mlp.gate.weight)
    mixture.load_state_dict(weights)
    return mixture
