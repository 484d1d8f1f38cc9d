"""Gates that look at the SNR of every expert's link (after arXiv 2504.00819; their forms are ours).

The SNR code of a link is v = (clip(snr_db, -10, 30) - 10) / 10. Without an SNR every link counts as good,
20 dB. A gate is trained so before any channel is simulated, and a gate that is to be blind runs so.

Shape suffixes: T items, F features, H hidden values, E experts, S ramps of a link's worth.
"""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from airmoe.errors import InvalidInputError
from airmoe.nn.gates import GateOutput, columns_of

GOOD_SNR_DB = 20.0
"""The SNR that a gate assumes for every link where it is told none."""

WORTH_RAMPS = 19
"""Ramps in the worth of a link: one begins every 2.5 dB from -17.5 to 27.5 dB."""

WORTH_STEEPNESS = 10.0
"""Sharpness of the softplus: a ramp of weight 0 rises by ln 2 / 10, one of a negative weight by less."""

SMALLEST_NOISE = 1e-2


def snr_code(snr_db_TE: Tensor | None, like_TF: Tensor, experts: int) -> Tensor:
    """Return v (T, E), in [-2, 2], like the features in type and device.

    Raises:
        InvalidInputError: an SNR that is NaN, or not (T, E).
    """
    shape = like_TF.shape[0], experts  # len() would fix the number of items in an export
    if snr_db_TE is None:
        return like_TF.new_full(shape, (GOOD_SNR_DB - 10) / 10)
    if snr_db_TE.shape != shape:
        raise InvalidInputError("shape of snr_db", tuple(snr_db_TE.shape), f"(T, E) = {shape}")
    if not torch.compiler.is_exporting() and bool(snr_db_TE.isnan().any()):
        raise InvalidInputError("snr_db", float("nan"), "a number of dB, -inf or inf")
    return (snr_db_TE.to(like_TF).clamp(-10, 30) - 10) / 10


class ConcatGate(nn.Module):
    """An MLP on [LayerNorm(p); v]: pooled features and the SNR code of every link together.

    It can learn that a bad link to one expert makes another attractive. It is bound to these experts in this
    order. Its scores need not rise with the SNR of a link: hidden values mix features and all links with
    weights of either sign. Where a better link must never count against an expert, take `BiasGate`.

    Args:
        features: F.
        experts: E.
        hidden: H.
    """

    sees_snr = True

    def __init__(self, features: int, experts: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.hidden = nn.Linear(features + experts, hidden)
        self.last = _started_at_zero(nn.Linear(hidden, experts))

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E); see `snr_code` for what is refused."""
        normed_TF = self.norm(pooled_TF)
        code_TE = snr_code(snr_db_TE, normed_TF, self.last.out_features)
        hidden_TH = torch.relu(self.hidden(torch.cat([normed_TF, code_TE], dim=1)))
        return _output(self.last(hidden_TH))


class MlpGate(nn.Module):
    """An MLP on LayerNorm(p), blind to the channel.

    Args:
        features: F.
        experts: E.
        hidden: H.
    """

    sees_snr = False

    def __init__(self, features: int, experts: int, hidden: int = 128) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.hidden = nn.Linear(features, hidden)
        self.last = _started_at_zero(nn.Linear(hidden, experts))

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E); the SNR is not used."""
        return _output(self.last(torch.relu(self.hidden(self.norm(pooled_TF)))))

    def of_experts(self, experts: Sequence[int | None]) -> Self:
        """Return the gate of other experts; see `airmoe.nn.gates.columns_of`."""
        other = copy.deepcopy(self)
        other.last = columns_of(self.last, experts)
        return other


class LinkWorth(nn.Module):
    """phi(v), what a link is worth: it never falls as the SNR rises, whatever the weights are.

    phi is a sum of ramps. Ramp s rises over 10 dB, by softplus(10 w_s) / 10. Four of them rise at any SNR, so
    what training over some SNRs teaches holds a little beyond. A new phi rises by 0.07 in 2.5 dB.
    """

    first_S: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight_S = nn.Parameter(torch.zeros(WORTH_RAMPS))
        self.register_buffer("first_S", torch.linspace(-2.75, 1.75, WORTH_RAMPS), persistent=False)

    def forward(self, code_TE: Tensor) -> Tensor:
        """Return the worth of links of these SNR codes, shaped like them."""
        rise_S = functional.softplus(self.weight_S, beta=WORTH_STEEPNESS)
        share_TES = (code_TE.unsqueeze(-1) - self.first_S).clamp(0, 1)
        # A sum of rising terms rises in floats, too: rounding keeps the order of two numbers.
        return (rise_S * share_TES).sum(dim=-1)


class BiasGate(nn.Module):
    """logit_j = a_j(p) + phi(v_j): a link is worth the same to every expert, and a better one never less.

    So an expert's score never falls when its own link gets better and the other links stay as they are. One
    phi is shared (`LinkWorth`), so the gate runs with any number of experts in any order (`of_experts`).

    Args:
        content: a_j, a gate that is blind to the channel and has ``of_experts``: `MlpGate` or
            `airmoe.nn.LinearGate`.
    """

    sees_snr = True

    def __init__(self, content: nn.Module) -> None:
        super().__init__()
        self.content = content
        self.link_worth = LinkWorth()

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E); see `snr_code` for what is refused."""
        content_TE = self.content(pooled_TF).logits_TE
        code_TE = snr_code(snr_db_TE, content_TE, content_TE.shape[1])
        return _output(content_TE + self.link_worth(code_TE))

    def of_experts(self, experts: Sequence[int | None]) -> Self:
        """Return the gate of other experts; see `airmoe.nn.gates.columns_of`."""
        other = copy.deepcopy(self)
        other.content = self.content.of_experts(experts)  # type: ignore[operator]
        return other


class NoisyTopK(nn.Module):
    """A gate with noise while it trains (Shazeer et al. 2017): logits + N(0, 1) (softplus(p W) + 0.01).

    Noise lets every expert be tried, and gives each a probability of being chosen (the load). In evaluation
    there is no noise.

    Args:
        gate: the gate; its logits are the clean ones.
        features: F.
        experts: E.
        k: experts per item while training.
    """

    def __init__(self, gate: nn.Module, features: int, experts: int, k: int) -> None:
        super().__init__()
        self.gate, self.k = gate, k
        self.noise = nn.Linear(features, experts, bias=False)
        nn.init.zeros_(self.noise.weight)

    @property
    def sees_snr(self) -> bool:
        """Whether the gate itself looks at the SNR."""
        return bool(self.gate.sees_snr)

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E); while training and with k < E also the load."""
        clean: GateOutput = self.gate(pooled_TF, snr_db_TE)
        if not self.training:
            return clean
        normed_TF = functional.layer_norm(pooled_TF, pooled_TF.shape[1:])
        std_TE = functional.softplus(self.noise(normed_TF)) + SMALLEST_NOISE
        logits_TE = clean.logits_TE + torch.randn_like(clean.logits_TE) * std_TE
        load_TE = None
        if self.k < logits_TE.shape[1]:
            # To be chosen, an expert has to beat the k-th best of the others.
            best_Tk = logits_TE.topk(self.k + 1, dim=-1).values
            chosen_TE = logits_TE >= best_Tk[:, self.k - 1, None]
            rival_TE = torch.where(chosen_TE, best_Tk[:, self.k, None], best_Tk[:, self.k - 1, None])
            load_TE = torch.special.ndtr((clean.logits_TE - rival_TE) / std_TE)
        return _output(logits_TE)._replace(load_TE=load_TE)


class Blind(nn.Module):
    """A gate that is told no SNR, whatever the links: one that was trained so assumes good ones.

    Args:
        gate: the gate.
    """

    sees_snr = False

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E); the SNR is not used."""
        output: GateOutput = self.gate(pooled_TF)
        return output


def _output(logits_TE: Tensor) -> GateOutput:
    return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


def _started_at_zero(last: nn.Linear) -> nn.Linear:
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return last
