"""Settings of the layers that this study schedules."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airmoe.studies.curves.settings import Count, CurveSettings, Decibels, Experts, Share

Nodes = Annotated[int, Field(ge=2, le=64)]
Subcarriers = Annotated[int, Field(ge=1, le=1 << 16)]
Joules = Annotated[float, Field(ge=0, le=1e6)]
Restarts = Annotated[int, Field(ge=0, le=1000)]
# A TOML has arrays, not tuples.
Between = Annotated[tuple[Joules, Joules], Field(strict=False)]

MOST_GAINS = 1 << 24
"""The most channel gains of one layer: 128 MiB."""


class LayerSettings(CurveSettings):
    """Tokens, gate and radio of one MoE layer: softmax scores of normal logits, Rayleigh block fading.

    Attributes:
        nodes: K; expert e is on node e, and each token is on a node drawn uniformly.
        tokens: T, tokens per layer over all nodes.
        gate_std: standard deviation of the gate's logits, independent for each token, expert and layer.
        subcarriers: M.
        fading: "rayleigh" draws each subcarrier anew, "multipath" correlates them over the band.
        taps: paths of the multipath channel.
        mean_snr_db: mean SNR of every link and subcarrier, dB.
        token_bits: s0, bits of one hidden state: 4096 values of 16 bits.
        compute_j: a_j, J that an expert spends on a token: drawn once per seed and expert, uniform between
            these two; [0, 0] counts transmission alone.
        max_experts: D.
    """

    nodes: Nodes = 8
    tokens: Count = 64
    gate_std: Annotated[float, Field(ge=0, le=100)] = 1.5
    subcarriers: Subcarriers = 128
    fading: Literal["rayleigh", "multipath"] = "rayleigh"
    taps: Subcarriers = 8
    mean_snr_db: Decibels = 10.0
    token_bits: Annotated[float, Field(gt=0, le=1e12)] = 65536.0
    compute_j: Between = (0.0, 0.0)
    max_experts: Experts = 2

    @model_validator(mode="after")
    def _values_fit_each_other(self) -> Self:
        gains = self.nodes**2 * self.subcarriers
        if gains > MOST_GAINS:
            raise ValueError(f"nodes^2 x subcarriers at most {MOST_GAINS}, not {gains}")
        if self.compute_j[0] > self.compute_j[1]:
            raise ValueError("compute_j as [least, most]")
        if self.fading == "multipath" and self.taps > self.subcarriers:
            raise ValueError("taps at most subcarriers")
        return self


class ScheduleSettings(LayerSettings):
    """How a layer is scheduled.

    Attributes:
        threshold: q, what a token's chosen scores must sum to.
        bound: "none", "fast" (LB of the paper) or "tight", which knows that subcarriers are exclusive (ours).
        restarts: further descents while a schedule is not proven optimal.
    """

    threshold: Share = 0.5
    bound: Literal["none", "fast", "tight"] = "none"
    restarts: Restarts = 0
