"""Feature extractors, and the experts that are the rest of their networks."""

from airmoe.nn.backbones.extractor import Extractor
from airmoe.nn.backbones.lenet5 import LeNet5Expert, LeNet5Extractor
from airmoe.nn.backbones.patches import PatchExtractor
from airmoe.nn.backbones.pooled import PooledExtractor
from airmoe.nn.backbones.pretrained import PretrainedExtractor
from airmoe.nn.backbones.resnet18 import ResNet18Expert, ResNet18Extractor
from airmoe.nn.backbones.vit import VitExpert, VitExtractor

__all__ = [
    "Extractor",
    "LeNet5Expert",
    "LeNet5Extractor",
    "PatchExtractor",
    "PooledExtractor",
    "PretrainedExtractor",
    "ResNet18Expert",
    "ResNet18Extractor",
    "VitExpert",
    "VitExtractor",
]
