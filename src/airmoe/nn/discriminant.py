"""Experts and gates from a linear discriminant: what Gaussian classes of one covariance make of features.

With class means m_c, a covariance S that all classes share, and shares pi_c of the images, the posterior of
class c is softmax(w_c h + b_c) with w_c = S^-1 m_c and b_c = -m_c S^-1 m_c / 2 + log pi_c.

Shape suffixes: T items, P (item, expert) pairs, F features, C classes, E experts.
"""

import torch
from torch import Tensor, nn

from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.gates import GateOutput

SMALLEST_SCORE = 1e-30
"""Of a gate, before its logarithm is taken."""


class DiscriminantExpert(ClassifierExpert):
    """A linear discriminant that tells its own classes apart, and knows when it sees none of them.

    What the posterior gives to other classes is shared evenly among these: the expert knows of them that
    they are none of its own, and no more.

    Args:
        features: F.
        classes: C.
    """

    weight_CF: Tensor
    bias_C: Tensor
    own_C: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight_CF", torch.zeros(classes, features))
        self.register_buffer("bias_C", torch.zeros(classes))
        self.register_buffer("own_C", torch.ones(classes))

    def forward(self, payload_P: Tensor) -> Tensor:
        """Return class probabilities (P, C) of features (P, F)."""
        posterior_PC = torch.softmax(payload_P @ self.weight_CF.T + self.bias_C, dim=-1)
        others_C = 1 - self.own_C
        own_PC = posterior_PC * self.own_C
        rest_P1 = (posterior_PC * others_C).sum(dim=-1, keepdim=True)
        return own_PC + rest_P1 * others_C / others_C.sum().clamp_min(1)

    def logits(self, payload_P: Tensor) -> Tensor:
        """Return the logarithms of the probabilities (P, C)."""
        return self(payload_P).clamp_min(torch.finfo(torch.float32).tiny).log()  # type: ignore[no-any-return]


class PosteriorGate(nn.Module):
    """The score of an expert: how probable are its classes, each shared among the experts that hold it.

    It is blind to the channel.

    Args:
        features: F.
        experts: E.
        classes: C.
    """

    sees_snr = False
    weight_CF: Tensor
    bias_C: Tensor
    share_CE: Tensor

    def __init__(self, features: int, experts: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight_CF", torch.zeros(classes, features))
        self.register_buffer("bias_C", torch.zeros(classes))
        self.register_buffer("share_CE", torch.full((classes, experts), 1 / experts))

    def posterior(self, pooled_TF: Tensor) -> Tensor:
        """Return the probabilities of all classes (T, C)."""
        return torch.softmax(pooled_TF @ self.weight_CF.T + self.bias_C, dim=-1)

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        """Return scores and logits (T, E) of pooled features (T, F); the SNR is not used."""
        scores_TE = self.posterior(pooled_TF) @ self.share_CE
        return GateOutput(scores_TE, scores_TE.clamp_min(SMALLEST_SCORE).log())
