"""A round of FedCE in this process, beside Flower's simulation of the same clients: LeNet-5 on digits.

    pip install ray==2.55.1
    python benchmarks/flower_simulation.py [--clients 10] [--rounds 12]

Both take the same steps: the same batches of the same images from the same weights, and the mean by number of
images. Flower runs its clients in processes of Ray, one for each core; here one client follows the other.
The two take turns, and the first round of each turn is told apart: processes start and load PyTorch in it.
Prints the seconds of a round, and how far the networks are from each other in the end.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from airmoe.data import load_images
from airmoe.federated import Averaging, Loop, Message, State, federate
from airmoe.networked import parse_config, split_among_clients
from airmoe.networked.features import initial_network
from airmoe.networked.fedce import FedCeClient


def clients_of(count: int) -> tuple[State, list[FedCeClient]]:
    torch.set_num_threads(1)
    config = parse_config(f"data.clients = {count}", "benchmark")
    data = split_among_clients(config, load_images("digits"))
    network = initial_network(config, (1, 32, 32), lambda features: nn.Linear(features, 10))
    pairs = enumerate(zip(data.images_TCHW, data.labels_T, strict=True))
    clients = [FedCeClient(network, *pair, config.features, config.seed, client) for client, pair in pairs]
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}, clients


def in_the_loop(count: int, rounds: int) -> tuple[list[float], State]:
    begin, (state, clients) = time.monotonic(), clients_of(count)
    ends_s = [begin]

    def note(stage: str, done: int, total: int, note: str = "", /) -> None:
        ends_s.append(time.monotonic())

    state, _ = federate(Averaging("features", count), state, Loop(clients), rounds, progress=note)
    return [later - earlier for earlier, later in itertools.pairwise(ends_s)], state


def in_flower(count: int, rounds: int) -> tuple[list[float], State]:
    from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict
    from flwr.app import Message as FlowerMessage
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    ends_s, last = [time.monotonic()], {}
    client_app, server_app = ClientApp(), ServerApp()

    @client_app.train()
    def train(message: FlowerMessage, context: Context) -> FlowerMessage:
        # An actor of Ray gets this function anew for each message, but keeps what modules hold.
        made: dict[str, list[FedCeClient]] = torch.__dict__.setdefault("_airmoe_benchmark", {})
        if not made:
            made["clients"] = clients_of(count)[1]
        client = made["clients"][int(context.node_config["partition-id"])]
        round_ = float(message.content["config"]["server-round"]) - 1
        told = Message(message.content["arrays"].to_torch_state_dict(), {"round": round_})
        _, reply = client.client_step("train", {}, told)
        metrics = MetricRecord({"loss": reply.numbers["loss"], "num-examples": int(reply.numbers["samples"])})
        content = RecordDict({"arrays": ArrayRecord(dict(reply.tensors)), "metrics": metrics})
        return FlowerMessage(content=content, reply_to=message)

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        def note(round_: int, arrays: ArrayRecord) -> None:
            if round_:
                ends_s.append(time.monotonic())
                last.update(arrays.to_torch_state_dict())

        strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=count)
        start = ArrayRecord(dict(clients_of(count)[0]))
        strategy.start(grid=grid, initial_arrays=start, num_rounds=rounds, evaluate_fn=note)

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(server_app, client_app, num_supernodes=count, backend_config=resources)
    return [later - earlier for earlier, later in itertools.pairwise(ends_s)], last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {**quiet, "FLWR_HOME": str(Path(home))}
        turns = [
            (in_the_loop(asked.clients, asked.rounds), in_flower(asked.clients, asked.rounds))
            for _ in range(asked.turns)
        ]
    print("| | first round, s | later rounds, s |\n|---|---:|---:|")
    for place, name in enumerate(("airmoe, the loop", "Flower's simulation")):
        first = [turn[place][0][0] for turn in turns]
        later = [seconds for turn in turns for seconds in turn[place][0][1:]]
        print(f"| {name} | {statistics.median(first):.2f} | {told(later)} |")
    apart = max(
        float((loop[name] - flower[name]).abs().max()) for (_, loop), (_, flower) in turns for name in loop
    )
    print(f"largest difference of a weight: {apart:.1e}")


def told(seconds: list[float]) -> str:
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{middle:.3f} (quartiles {low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
