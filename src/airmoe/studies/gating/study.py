"""The study: its figures, in order, and what it tells at the end."""

from pathlib import Path

from airmoe.studies.curves.figure import Figure
from airmoe.studies.curves.study import Study
from airmoe.studies.gating.accuracy import GpuSettings, ResNetSettings, accuracy_figure
from airmoe.studies.gating.claims import claims
from airmoe.studies.gating.models import inputs_of
from airmoe.studies.gating.shares import SHARES

GPU = ("gpu",)

FIGURES: dict[str, Figure] = {
    "analog_spread_0": accuracy_figure("Analog, all links alike"),
    "analog_spread_5": accuracy_figure("Analog, links spread over ± 5 dB"),
    "analog_spread_10": accuracy_figure("Analog, links spread over ± 10 dB"),
    "analog_rayleigh": accuracy_figure("Analog, Rayleigh fading"),
    "one_bad_link": accuracy_figure("Analog, one bad link among good ones"),
    "outdated": accuracy_figure("Analog, Gauss-Markov fading, what the gate sees is old"),
    "noisy": accuracy_figure("Analog, Rayleigh fading, what the gate sees is wrong"),
    "gates": accuracy_figure("Analog, links spread over ± 10 dB: forms of the gate, experts per image"),
    "no_good_link_0": accuracy_figure("Analog, all links alike: images without a good link in stage 2"),
    "no_good_link_10": accuracy_figure(
        "Analog, links spread over ± 10 dB: images without a good link in stage 2"
    ),
    "shares": SHARES,
    "digital_spread_0": accuracy_figure("Digital, rate 1/2, all links alike"),
    "digital_spread_10": accuracy_figure("Digital, rate 1/2, links spread over ± 10 dB"),
    "codes": accuracy_figure("Digital, all links alike: channel codes, trained without a channel"),
    "equal_uses": accuracy_figure("Analog and digital at equal channel uses, all links alike"),
    "resnet18_spread_0": accuracy_figure("ResNet-18 of width 16, analog, all links alike", ResNetSettings),
    "resnet18_spread_10": accuracy_figure(
        "ResNet-18 of width 16, analog, links spread over ± 10 dB", ResNetSettings
    ),
    "gpu_resnet18_cifar10": accuracy_figure(
        "ResNet-18, CIFAR-10, links spread over ± 10 dB", GpuSettings, GPU
    ),
    "gpu_resnet18_cifar100": accuracy_figure(
        "ResNet-18, CIFAR-100, links spread over ± 10 dB", GpuSettings, GPU
    ),
    "gpu_vit_cifar10": accuracy_figure("ViT, CIFAR-10, links spread over ± 10 dB", GpuSettings, GPU),
    "gpu_vit_cifar100": accuracy_figure("ViT, CIFAR-100, links spread over ± 10 dB", GpuSettings, GPU),
}

GATING = Study(
    name="gating",
    title="Study of channel-aware gating",
    figures=FIGURES,
    folder=Path(__file__).parent,
    packages=("airmoe", "numpy", "torch", "matplotlib"),
    told=claims,
    inputs=inputs_of,
    scales=("full", "quick", "smoke", "gpu"),
)
"""``airmoe study gating``."""
