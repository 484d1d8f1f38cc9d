"""PyTorch: backbones, gates, the MoE layer and simulated carriers."""

from airmoe.nn.backbones import LeNet5Extractor, MlpExpert
from airmoe.nn.build import build_extractor, build_model
from airmoe.nn.carriers import IdealRadioCarrier, LocalCarrier
from airmoe.nn.channel_gates import BiasGate, ConcatGate, MlpGate, NoisyTopK
from airmoe.nn.combine import combine, mixing_weights
from airmoe.nn.gates import Gate, GateOutput, LinearGate, balance_loss, pool, topk_mask
from airmoe.nn.moe import MixtureOfExperts, MoeOutput
from airmoe.nn.radio_carriers import RadioCarrier
from airmoe.nn.transmission import Analog, Transmission

__all__ = [
    "Analog",
    "BiasGate",
    "ConcatGate",
    "Gate",
    "GateOutput",
    "IdealRadioCarrier",
    "LeNet5Extractor",
    "LinearGate",
    "LocalCarrier",
    "MixtureOfExperts",
    "MlpExpert",
    "MlpGate",
    "MoeOutput",
    "NoisyTopK",
    "RadioCarrier",
    "Transmission",
    "balance_loss",
    "build_extractor",
    "build_model",
    "combine",
    "mixing_weights",
    "pool",
    "topk_mask",
]
