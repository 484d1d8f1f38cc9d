"""PyTorch: backbones, gates, the MoE layer and simulated carriers."""

from airmoe.nn.build import build_extractor, build_model
from airmoe.nn.carriers import IdealRadioCarrier, LocalCarrier
from airmoe.nn.channel_gates import BiasGate, ConcatGate, MlpGate, NoisyTopK
from airmoe.nn.combine import combine, mixing_weights
from airmoe.nn.digital import Digital
from airmoe.nn.experts import ClassifierExpert, MlpExpert
from airmoe.nn.extractor import Extractor
from airmoe.nn.gates import Gate, GateOutput, LinearGate, balance_loss, pool, topk_mask
from airmoe.nn.lenet5 import LeNet5Expert, LeNet5Extractor
from airmoe.nn.moe import MixtureOfExperts, MoeOutput
from airmoe.nn.pretrained import PretrainedExtractor
from airmoe.nn.radio_carriers import RadioCarrier
from airmoe.nn.resnet18 import ResNet18Expert, ResNet18Extractor
from airmoe.nn.transmission import Analog, Transmission
from airmoe.nn.transmission_parsing import TRANSMISSION_FORMS, make_transmission
from airmoe.nn.vit import VitExpert, VitExtractor

__all__ = [
    "TRANSMISSION_FORMS",
    "Analog",
    "BiasGate",
    "ClassifierExpert",
    "ConcatGate",
    "Digital",
    "Extractor",
    "Gate",
    "GateOutput",
    "IdealRadioCarrier",
    "LeNet5Expert",
    "LeNet5Extractor",
    "LinearGate",
    "LocalCarrier",
    "MixtureOfExperts",
    "MlpExpert",
    "MlpGate",
    "MoeOutput",
    "NoisyTopK",
    "PretrainedExtractor",
    "RadioCarrier",
    "ResNet18Expert",
    "ResNet18Extractor",
    "Transmission",
    "VitExpert",
    "VitExtractor",
    "balance_loss",
    "build_extractor",
    "build_model",
    "combine",
    "make_transmission",
    "mixing_weights",
    "pool",
    "topk_mask",
]
