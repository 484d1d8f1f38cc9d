"""What a device of the networked mixture holds and computes, beside one that holds the whole mixture.

A client has the feature extractor F, the gate G and one expert H. The device of the centralised mixture has
F, G and all experts. Networks are built anew from the settings: weights cost the same whatever they are.

Operations are counted on the real modules by `torch.utils.flop_counter`: two for each multiply-add of a
convolution or a matrix product, forward and backward. It passes over what is small beside them: biases,
normalisation, activations, pooling, and the optimiser.

Shape suffixes: T items, C channels, H height, W width, F features, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from airmoe.networked.config import METHODS as BY_STEPS
from airmoe.networked.config import NetworkedConfig, SgdSettings
from airmoe.networked.features import feature_network, network_extractor
from airmoe.networked.fedce import Network
from airmoe.networked.fedsc import SPECTRAL
from airmoe.networked.gates import initial_gate
from airmoe.networked.spectral import spectral_loss
from airmoe.nn import Extractor, MixtureOfExperts, MlpExpert, MoeLayer, balance_loss
from airmoe.nn.discriminant import DiscriminantExpert, PosteriorGate

Step = Callable[[], None]
"""One training step: forward, backward, and the optimiser's."""


def counted_flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of what a function computes with PyTorch.

    Examples:
        >>> import torch
        >>> from airmoe.networked.device_work import counted_flops
        >>> counted_flops(lambda: torch.nn.Linear(400, 10)(torch.zeros(1, 400)))
        8000
    """
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())


def device_model(
    config: NetworkedConfig, image_shape: Sequence[int], classes: int, *, holds: int | None = None
) -> MixtureOfExperts:
    """Return F, G and some of the experts, untrained; G scores all of them, wherever they are.

    Args:
        config: of the run.
        image_shape: (channels, height, width).
        classes: how many.
        holds: how many experts are on the device; left out, all.

    Raises:
        InvalidInputError: as `airmoe.nn.build_extractor`.
    """
    extractor = network_extractor(config.model, image_shape)
    features, clients = extractor.features, config.data.clients
    gate = (
        PosteriorGate(features, clients, classes)
        if config.gate.method == "posterior"
        else initial_gate(config, features, clients)
    )
    experts = [
        DiscriminantExpert(features, classes)
        if config.experts.method == "sums"
        else MlpExpert(features, classes, config.model.expert_hidden)
        for _ in range(clients if holds is None else holds)
    ]
    return MixtureOfExperts(extractor, MoeLayer(gate, experts))


def answer_flops(model: MixtureOfExperts, image_shape: Sequence[int]) -> dict[str, int]:
    """Return the operations for one image of the ``extractor``, the ``gate`` and one ``expert``, forward."""
    image_TCHW = torch.zeros(1, *image_shape)
    with torch.no_grad():
        features_TF = model.eval().extractor(image_TCHW)
        return {
            "extractor": counted_flops(lambda: model.extractor(image_TCHW)),
            "gate": counted_flops(lambda: model.layer.gate(features_TF)),
            "expert": counted_flops(lambda: model.layer.experts[0](features_TF)),
        }


def client_steps(
    model: MixtureOfExperts, config: NetworkedConfig, image_shape: Sequence[int], classes: int
) -> dict[str, Step]:
    """Return one training step of a client for each stage, on a batch of the stage's size.

    "features" trains F under its temporary head, by labels or by two views of every image. "experts" trains H
    on features that are there. "gate" trains G on features and answers that are there. A stage that adds up
    sums has no steps, and neither has an extractor that stays as it is.

    Args:
        model: of `device_model`.
        config: of the run.
        image_shape: (channels, height, width).
        classes: how many.
    """
    extractor, gate, expert = model.extractor, model.layer.gate, model.layer.experts[0]
    assert isinstance(extractor, Extractor)
    steps = dict[str, Step]()
    if not extractor.frozen and config.features.method != "patches":
        network = Network(extractor, feature_network(config, image_shape, classes).head)
        spectral, items = config.features.method in SPECTRAL, config.features.batch_size
        images_TCHW = torch.zeros(2 * items if spectral else items, *image_shape)
        loss_of = _contrast if spectral else _entropy
        steps["features"] = _step(network, config.features, lambda: loss_of(network(images_TCHW)))
    if isinstance(expert, MlpExpert):
        expert_TF = torch.zeros(config.experts.batch_size, extractor.features)
        of_experts = SgdSettings(rounds=1, momentum=config.experts.momentum)
        steps["experts"] = _step(expert, of_experts, lambda: _entropy(expert.logits(expert_TF)))
    if config.gate.method in BY_STEPS:
        gate_TF = torch.zeros(config.gate.batch_size, extractor.features)
        steps["gate"] = _step(gate, config.gate, lambda: -gate(gate_TF).scores_TE[:, 0].log().mean())
    return steps


def central_step(model: MixtureOfExperts, config: NetworkedConfig, image_shape: Sequence[int]) -> Step:
    """Return one training step of the whole mixture in one place, top-1, on a batch of stage 1's size.

    Parts that are fitted to sums stay as they are.
    """
    images_TCHW = torch.zeros(config.features.batch_size, *image_shape)

    def loss() -> Tensor:
        output = model(images_TCHW)
        nll: Tensor = -output.y_TC[:, 0].clamp_min(1e-12).log().mean()
        return nll + balance_loss(output.scores_TE)

    return _step(model, config.features, loss)


def _step(network: nn.Module, settings: SgdSettings, loss: Callable[[], Tensor]) -> Step:
    def step() -> None:
        network.train()
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        if not weights:
            return
        optimiser = torch.optim.SGD(weights, lr=1e-6, momentum=settings.momentum, foreach=True)
        loss().backward()
        optimiser.step()

    return step


def _entropy(logits_TC: Tensor) -> Tensor:
    return functional.cross_entropy(logits_TC, torch.zeros(len(logits_TC), dtype=torch.int64))


def _contrast(projection_TP: Tensor) -> Tensor:
    first_BP, second_BP = projection_TP.chunk(2)
    others_PP = torch.zeros(projection_TP.shape[1], projection_TP.shape[1])
    return spectral_loss(first_BP, second_BP, 0.5, others_PP)
