"""PyTorch: backbones, gates, the MoE layer and simulated carriers."""

from airmoe.nn.backbones import LeNet5Extractor, MlpExpert
from airmoe.nn.build import build_extractor, build_model
from airmoe.nn.carriers import IdealRadioCarrier, LocalCarrier
from airmoe.nn.combine import combine, mixing_weights
from airmoe.nn.gates import Gate, GateOutput, LinearGate, balance_loss, pool, topk_mask
from airmoe.nn.moe import MixtureOfExperts, MoeOutput

__all__ = [
    "Gate",
    "GateOutput",
    "IdealRadioCarrier",
    "LeNet5Extractor",
    "LinearGate",
    "LocalCarrier",
    "MixtureOfExperts",
    "MlpExpert",
    "MoeOutput",
    "balance_loss",
    "build_extractor",
    "build_model",
    "combine",
    "mixing_weights",
    "pool",
    "topk_mask",
]
