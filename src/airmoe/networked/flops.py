"""Floating-point operations of the networked mixture's parts, counted on the real modules.

`torch.utils.flop_counter` counts two operations for each multiply-add of a convolution or a matrix product,
forward and backward. It passes over what is small beside them: biases, normalisation, activations, pooling.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from airmoe.networked.config import NetworkedConfig
from airmoe.nn import Extractor, MixtureOfExperts


def counted_flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of what a function computes with PyTorch.

    Examples:
        >>> import torch
        >>> from airmoe.networked.flops import counted_flops
        >>> counted_flops(lambda: torch.nn.Linear(400, 10)(torch.zeros(1, 400)))
        8000
    """
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class PartFlops:
    """Operations of the parts of a mixture for one image.

    Attributes:
        extractor: F, forward.
        gate: G, forward.
        expert: one H, forward.
    """

    extractor: int
    gate: int
    expert: int


def forward_flops(model: MixtureOfExperts, image_CHW: Tensor) -> PartFlops:
    """Return the operations of each part for one image, float32 in [0, 1]."""
    model.eval()
    with torch.no_grad():
        features_TF = model.extractor(image_CHW[None])
        return PartFlops(
            extractor=counted_flops(lambda: model.extractor(image_CHW[None])),
            gate=counted_flops(lambda: model.layer.gate(features_TF)),
            expert=counted_flops(lambda: model.layer.experts[0](features_TF)),
        )


def step_flops(model: MixtureOfExperts, config: NetworkedConfig, image_CHW: Tensor) -> dict[str, int]:
    """Return the operations of one training step of a client, forward and backward, by stage.

    A step is a batch of the stage's ``batch_size``. Stage 1, "features", trains extractor and linear head;
    it is left out where the extractor is frozen. Stage 2, "experts", trains the expert on features that are
    there. Stage 3, "gate", trains the gate on features and answers that are there. A stage without steps is
    left out: a gate in closed form.
    """
    extractor, expert = copy.deepcopy(model.extractor), copy.deepcopy(model.layer.experts[0])
    gate, classes = copy.deepcopy(model.layer.gate), model_classes(model, image_CHW)
    assert isinstance(extractor, Extractor)
    steps = dict[str, int]()
    if not extractor.frozen:
        network = nn.Sequential(extractor, nn.Linear(extractor.features, classes))
        images = image_CHW.expand(config.features.batch_size, *image_CHW.shape)
        steps["features"] = counted_flops(lambda: _supervised(network.train(), images))
    features_TF = torch.zeros(config.experts.batch_size, extractor.features)
    steps["experts"] = counted_flops(lambda: _supervised(expert.train().logits, features_TF))
    if config.gate.method == "fedgate":
        features_TF = torch.zeros(config.gate.batch_size, extractor.features)
        steps["gate"] = counted_flops(lambda: gate.train()(features_TF).logits_TE.logsumexp(1).sum().backward())
    return steps


def central_step_flops(model: MixtureOfExperts, config: NetworkedConfig, image_CHW: Tensor) -> int:
    """Return the operations of one training step of the mixture in one place: top-1 over all experts."""
    mixture = copy.deepcopy(model).train()
    images = image_CHW.expand(config.features.batch_size, *image_CHW.shape)
    return counted_flops(lambda: mixture(images).y_TC.clamp_min(1e-12).log()[:, 0].mean().backward())


def model_classes(model: MixtureOfExperts, image_CHW: Tensor) -> int:
    """Return how many classes the experts of a mixture tell apart."""
    with torch.no_grad():
        return int(model.layer.experts[0](model.extractor.eval()(image_CHW[None])).shape[1])


def _supervised(network: Callable[[Tensor], Tensor], inputs_T: Tensor) -> None:
    labels_T = torch.zeros(len(inputs_T), dtype=torch.int64)
    functional.cross_entropy(network(inputs_T), labels_T).backward()  # type: ignore[no-untyped-call]
