"""What a federated round costs beyond its training steps.

    python benchmarks/federated_round.py [--alternations 20] [--clients 10] [--seed 0]

In one process, in turns: (a) one FedCE round over all clients of the digits ring with ``federate`` and the
loop engine (broadcast, local epochs, average, no checkpoint), and (b) the bare training loop of the same
steps: the same batches, a new optimiser for each client, nothing loaded, copied or averaged. Both end their
client's turn with the loss as a number. Prints the ratio (a) / (b) of each pair as median and spread, and
what one checkpoint costs beside it. All in seconds of processor time, which a busy machine hardly disturbs.
The goal is a ratio of at most 1.05; at 100 clients and more, which train a batch or two each, 1.10.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from airmoe.data import load_images
from airmoe.federated import Averaging, Loop, federate
from airmoe.networked import split_among_clients
from airmoe.networked.config import parse_config
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import FedCeClient
from airmoe.randomness import stream
from airmoe.runs.checkpoint import Checkpoint

GOAL, GOAL_OF_MANY, MANY = 1.05, 1.10, 100


def seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time: what else the machine does is left out."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    ends = f"{min(values):.3f} to {max(values):.3f}"
    return f"median {middle:.3f}, quartiles {low:.3f} to {high:.3f}, range {ends}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--alternations", type=int, default=20, help="pairs to time, at least 10 (default 20)"
    )
    parser.add_argument("--clients", type=int, default=10, help="on the ring (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and batches (default 0)")
    options = parser.parse_args()
    if options.alternations < 10:
        parser.error(f"--alternations is {options.alternations}; expected at least 10")

    torch.set_num_threads(1)
    config = parse_config(f"seed = {options.seed}\ndata.clients = {options.clients}", "benchmark")
    data = split_among_clients(config, load_images("digits"))
    settings = config.features
    network = initial_network(config, (1, 32, 32), lambda features: nn.Linear(features, 10))
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    pairs = list(zip(data.images_TCHW, data.labels_T, strict=True))
    clients = [FedCeClient(network, *pair, settings, config.seed, i) for i, pair in enumerate(pairs)]

    def federated() -> None:
        federate(Averaging("features", len(clients)), state, Loop(clients), 1)

    def bare() -> None:
        network.train()
        for client, (images, labels) in enumerate(pairs):
            optimiser = torch.optim.SGD(
                network.parameters(), lr=settings.learning_rate, momentum=settings.momentum, foreach=True
            )
            order = torch.from_numpy(stream(config.seed, "fedce batches", 0, client).permutation(len(labels)))
            total = torch.zeros(())
            for batch in order.split(settings.batch_size):
                loss = functional.cross_entropy(network(images[batch]), labels[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(batch)
            float(total)

    for _ in range(3):
        federated()
        network.load_state_dict(state)
        bare()
    ratios, bare_s = [], []
    for turn in range(options.alternations):
        if turn % 2:
            federated_s, plain_s = seconds(federated), seconds(bare)
        else:
            plain_s, federated_s = seconds(bare), seconds(federated)
        # The bare loop goes on from where it was; begin anew, so that it neither diverges nor converges.
        network.load_state_dict(state)
        ratios.append(federated_s / plain_s)
        bare_s.append(plain_s)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), "benchmark")
        save_s = [seconds(lambda: checkpoint.save("features", {"server": state}, [])) for _ in range(20)]

    steps = sum(-(-len(labels) // settings.batch_size) for labels in data.labels_T)
    print(f"{options.clients} clients, {steps} steps a round; {options.alternations} alternations")
    print(f"bare loop: {statistics.median(bare_s) * 1e3:.1f} ms a round")
    goal = GOAL_OF_MANY if options.clients >= MANY else GOAL
    verdict = "met" if statistics.median(ratios) <= goal else "MISSED"
    print(f"federate / bare: {spread(ratios)} (goal {goal}: {verdict})")
    save = statistics.median(save_s)
    print(f"one checkpoint: {save * 1e3:.2f} ms, {save / statistics.median(bare_s):.1%} of a bare round")


if __name__ == "__main__":
    main()
