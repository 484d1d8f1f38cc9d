"""Secure sums in the loop: how far they are from plain ones, what they cost in bytes, and in time.

    python benchmarks/secure_sums.py [--values 1000000] [--repeats 5]

Clients reply with normal float32 values. Prints, for each number of clients, the largest error of a secure
sum as a share of its largest value, the bytes of a client both ways, and the time of masking per client and
per pair of clients, the median over the repeats.
"""

import argparse
import time

import numpy as np
import torch

from airmoe.federated import Loop, Message, Summing, federate
from airmoe.federated.masking_client import MaskingClient
from airmoe.federated.masks import MaskKey
from airmoe.federated.secure_sums import SecureSums

CLIENTS = (3, 10, 30)


class Holder:
    """Replies with its values."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def client_step(self, exchange, state, message):
        return state, Message({"values": self.values})


def masking_s(clients: int, values: int, repeats: int) -> float:
    """Seconds that a client takes to mask its values, once all keys are known."""
    pairs = [MaskKey.fresh() for _ in range(clients)]
    keys = {client: pair.public for client, pair in enumerate(pairs)}
    masked = np.zeros(values, np.uint64)
    pairs[0].mask(masked[:1], 0, keys, ("first",))
    taken = []
    for repeat in range(repeats):
        begun = time.perf_counter()
        pairs[0].mask(masked, 0, keys, ("again", repeat))
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| clients | error | bytes, plain | bytes, secure | masking, ms | per pair, ms |")
    print("|---:|---:|---:|---:|---:|---:|")
    for clients in CLIENTS:
        random = torch.Generator().manual_seed(clients)
        holders = [Holder(torch.randn(given.values, generator=random)) for _ in range(clients)]
        stage = Summing("sums", clients)
        plain, (plain_row,) = federate(stage, {}, Loop(holders), 1)
        masking = [MaskingClient(h, i, "sums", stage.sums, by_samples=False) for i, h in enumerate(holders)]
        secure, (secure_row,) = federate(stage, {}, SecureSums(Loop(masking), stage), 1)
        largest = float(plain["values"].abs().max())
        error = float((secure["values"] - plain["values"]).abs().max()) / largest
        bytes_told = [f"{int(row['bytes']) / clients:,.0f}" for row in (plain_row, secure_row)]
        ms = 1e3 * masking_s(clients, given.values, given.repeats)
        print(f"| {clients} | {error:.1e} | {' | '.join(bytes_told)} | {ms:.1f} | {ms / (clients - 1):.2f} |")


if __name__ == "__main__":
    main()
