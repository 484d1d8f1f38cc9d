"""PyTorch: backbones, gates, the MoE layer and simulated carriers."""

from airmoe.nn.backbones.extractor import Extractor
from airmoe.nn.backbones.lenet5 import LeNet5Expert, LeNet5Extractor
from airmoe.nn.backbones.patches import PatchExtractor
from airmoe.nn.backbones.pooled import PooledExtractor
from airmoe.nn.backbones.pretrained import PretrainedExtractor
from airmoe.nn.backbones.resnet18 import ResNet18Expert, ResNet18Extractor
from airmoe.nn.backbones.vit import VitExpert, VitExtractor
from airmoe.nn.build import build_extractor, build_model
from airmoe.nn.carriers import IdealRadioCarrier, LocalCarrier
from airmoe.nn.channel_gates import BiasGate, ConcatGate, MlpGate, NoisyTopK
from airmoe.nn.combine import combine, mixing_weights
from airmoe.nn.discriminant import DiscriminantExpert, PosteriorGate
from airmoe.nn.experts import ClassifierExpert, MlpExpert
from airmoe.nn.gates import Gate, GateOutput, LinearGate, balance_loss, topk_mask
from airmoe.nn.moe import MixtureOfExperts
from airmoe.nn.moe_layer import MoeLayer, MoeOutput
from airmoe.nn.personal_gates import PersonalGates
from airmoe.nn.pooling import Pooling, pool
from airmoe.nn.radio_carriers import RadioCarrier

__all__ = [
    "BiasGate",
    "ClassifierExpert",
    "ConcatGate",
    "DiscriminantExpert",
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
    "MoeLayer",
    "MoeOutput",
    "NoisyTopK",
    "PatchExtractor",
    "PersonalGates",
    "PooledExtractor",
    "Pooling",
    "PosteriorGate",
    "PretrainedExtractor",
    "RadioCarrier",
    "ResNet18Expert",
    "ResNet18Extractor",
    "VitExpert",
    "VitExtractor",
    "balance_loss",
    "build_extractor",
    "build_model",
    "combine",
    "mixing_weights",
    "pool",
    "topk_mask",
]
