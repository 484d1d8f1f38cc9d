"""What a simulated radio adds to a training step, and what sparse dispatch saves.

    python benchmarks/gating.py [--alternations 30] [--seed 0]

In one process and one thread, in turns, on the same batch of random images:

(a) a training step (forward, loss, backward, optimiser) of LeNet-5 with 4 experts over a perfect channel, and
    the same step with every payload sent over an analog or a fast digital link. The goal is a ratio of at
    most 1.10 for analog, and for digital with no code or the convolutional one.
(b) our training step, in which an expert sees only the items that it is chosen for, one forward pass for each
    expert and batch, and the same mixture written with dense dispatch: every expert on every item, outputs
    stacked as (T, E, C) and weighed with zeros.
(c) a training step of experts that overlap, over analog links, beside the published one, which asks two
    experts about each image: one expert and one at random (goal: at most 1.15 times), and all of 4, 8 and 16.

Prints the ratio of each pair as median and quartiles.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from airmoe.channel_aware.expected_loss import expected_loss
from airmoe.channel_aware.routing_loss import routing_loss
from airmoe.dispatch import Carrier
from airmoe.links import LinkSnr, UniformSnr
from airmoe.nn import (
    LocalCarrier,
    MixtureOfExperts,
    MoeOutput,
    RadioCarrier,
    build_model,
    mixing_weights,
    pool,
    topk_mask,
)
from airmoe.radio import make_transmission

BATCH, CLASSES, GOAL = 128, 10, 1.10
TRANSMISSIONS = {
    "analog": GOAL,
    "digital:4:qpsk:none": GOAL,
    "digital:4:qpsk:conv": GOAL,
    "digital:4:qpsk:ldpc": None,
}
MODELS = {
    "LeNet-5, 4 experts, k = 1": ("lenet5", None, 4, 1),
    "LeNet-5, 16 experts, k = 1": ("lenet5", None, 16, 1),
    "ResNet-18 of width 16, 8 experts, k = 1": ("resnet18", 16, 8, 1),
    "ResNet-18 of width 16, 8 experts, k = 2": ("resnet18", 16, 8, 2),
}


OVERLAPPING = [(4, 1), (4, 3), (8, 1), (8, 7), (16, 1), (16, 15)]
"""Experts, and how many at random are asked about each image beside the best."""


def model_of(
    backbone: str, width: int | None, experts: int, k: int, seed: int, explored: int = 0
) -> MixtureOfExperts:
    torch.manual_seed(seed)
    return build_model(
        backbone,
        classes=CLASSES,
        experts=experts,
        width=width,
        gate="bias",
        noisy=True,
        expert_hidden=None,
        training_k=k,
        explored=explored,
        source=experts,
    ).train()


def dense(model: MixtureOfExperts, images: Tensor, snr: LinkSnr) -> MoeOutput:
    """The same mixture, with every expert on every item."""
    payload_T = model.extractor(images)
    gate = model.layer.gate(
        pool(payload_T, model.layer.pooling), torch.from_numpy(snr.observed_db_TE).float()
    )
    chosen_TE = topk_mask(gate.scores_TE, model.layer.training_k)
    normalise = "none" if model.layer.training_k == 1 else "chosen"
    weights_TE = mixing_weights(gate.scores_TE, chosen_TE, normalise)
    outputs_TEC = torch.stack([expert(payload_T) for expert in model.layer.experts], dim=1)
    y_TC = (weights_TE.unsqueeze(2) * outputs_TEC).sum(dim=1)
    return MoeOutput(y_TC, gate.scores_TE, gate.load_TE, weights_TE, None)


Forward = Callable[[MixtureOfExperts, Tensor, LinkSnr], MoeOutput]


def sparse_over(carrier: Carrier[Tensor, Tensor]) -> Forward:
    """Ours, over a carrier."""
    return lambda model, images, snr: model(images, snr=snr, carrier=carrier)


def step_of(
    forward: Forward, model: MixtureOfExperts, images: Tensor, labels_T: Tensor, snr: LinkSnr
) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    layer = model.layer

    def loss_of(output: MoeOutput) -> Tensor:
        if layer.explored:
            return expected_loss(output, labels_T, 0.3, common=0.5).total
        return routing_loss(output, labels_T, 0.3, one_expert=layer.training_k == 1).total

    def step() -> None:
        loss = loss_of(forward(model, images, snr))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turns(
    one: Callable[[], None], other: Callable[[], None], alternations: int
) -> tuple[list[float], float]:
    """Return the ratio one / other of every pair, and the median of the other in ms."""
    for _ in range(3):
        one()
        other()
    ratios, other_s = [], []
    for turn in range(alternations):
        if turn % 2:
            one_s, two_s = seconds(one), seconds(other)
        else:
            two_s, one_s = seconds(other), seconds(one)
        ratios.append(one_s / two_s)
        other_s.append(two_s)
    return ratios, statistics.median(other_s) * 1e3


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"median {middle:.3f}, quartiles {low:.3f} to {high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alternations", type=int, default=30, help="pairs to time (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="of images, weights and links (default 0)")
    options = parser.parse_args()
    if options.alternations < 10:
        parser.error(f"--alternations is {options.alternations}; expected at least 10")
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    images, labels_T = torch.rand(BATCH, 3, 32, 32), torch.randint(CLASSES, (BATCH,))
    random = np.random.default_rng(options.seed)

    for name, goal in TRANSMISSIONS.items():
        snr = LinkSnr.drawn(UniformSnr(), BATCH, 4, random)
        steps = []
        for carrier in (RadioCarrier(make_transmission(name)), LocalCarrier()):
            model = model_of("lenet5", None, 4, 1, options.seed)
            steps.append(step_of(sparse_over(carrier), model, images, labels_T, snr))
        ratios, plain_ms = in_turns(steps[0], steps[1], options.alternations)
        verdict = ""
        if goal is not None:
            verdict = f" (goal {goal}: {'met' if statistics.median(ratios) <= goal else 'MISSED'})"
        print(f"{name} / perfect channel ({plain_ms:.1f} ms a step): {spread(ratios)}{verdict}")

    for name, (backbone, width, experts, k) in MODELS.items():
        snr = LinkSnr.drawn(UniformSnr(), BATCH, experts, random)
        ours, theirs = (model_of(backbone, width, experts, k, options.seed) for _ in range(2))
        ratios, ours_ms = in_turns(
            step_of(dense, theirs, images, labels_T, snr),
            step_of(sparse_over(LocalCarrier()), ours, images, labels_T, snr),
            options.alternations,
        )
        print(f"{name}: dense / sparse ({ours_ms:.1f} ms a step): {spread(ratios)}")

    for experts, explored in OVERLAPPING:
        snr, analog = LinkSnr.drawn(UniformSnr(), BATCH, experts, random), make_transmission("analog")
        overlapping, published = (
            step_of(sparse_over(RadioCarrier(analog)), model, images, labels_T, snr)
            for model in (
                model_of("lenet5", None, experts, 1, options.seed, explored),
                model_of("lenet5", None, experts, 2, options.seed),
            )
        )
        ratios, published_ms = in_turns(overlapping, published, options.alternations)
        asked = f"LeNet-5, {experts} experts, one and {explored} at random"
        print(f"{asked}: overlapping / published ({published_ms:.1f} ms a step): {spread(ratios)}")


if __name__ == "__main__":
    main()
