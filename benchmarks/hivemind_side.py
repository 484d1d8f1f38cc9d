"""hivemind's side of benchmarks/hivemind.py, which starts it in hivemind's own environment.

    python benchmarks/hivemind_side.py ITEMS PAYLOAD HIDDEN OUTPUTS K

Reads "mixture" or "experts" from each line of standard input, asks once, and prints the word and the seconds.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from hivemind import DHT
from hivemind.moe import RemoteMixtureOfExperts, Server, get_experts, register_expert_class
from torch import nn

EXPERTS = 4
ITEMS, PAYLOAD, HIDDEN, OUTPUTS, K = map(int, sys.argv[1:])


@register_expert_class("same", lambda items, width: torch.empty((items, width)))
class Expert(nn.Module):
    """The layers of an expert of a run."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = [] if OUTPUTS == PAYLOAD else [nn.Softmax(-1)]  # hidden states, or probabilities
        self.layers = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS), *last)

    def forward(self, payload_TF: torch.Tensor) -> torch.Tensor:
        return self.layers(payload_TF)


def main() -> None:
    torch.set_num_threads(1)
    names = [f"expert.{number}" for number in range(EXPERTS)]
    server = Server.create(
        expert_uids=names, expert_cls="same", hidden_dim=PAYLOAD, optim_cls=None, device="cpu", start=True
    )
    dht = DHT(initial_peers=server.dht.get_visible_maddrs(), client_mode=True, start=True)
    mixture = RemoteMixtureOfExperts(
        in_features=PAYLOAD, grid_size=(EXPERTS,), dht=dht, uid_prefix="expert.", k_best=K
    )
    while None in (experts := get_experts(dht, names)):
        time.sleep(0.1)
    pool = ThreadPoolExecutor(EXPERTS)
    payload_TF = torch.rand(ITEMS, PAYLOAD)

    def all_experts() -> torch.Tensor:
        return torch.stack(list(pool.map(lambda expert: expert(payload_TF), experts))).mean(0)

    ways = {"mixture": lambda: mixture(payload_TF), "experts": all_experts}
    print("ready", flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            begin_s = time.perf_counter()
            output_TC = ways[line.strip()]()
            took_s = time.perf_counter() - begin_s
            assert output_TC.shape == (ITEMS, OUTPUTS)
            if OUTPUTS != PAYLOAD:
                torch.testing.assert_close(output_TC.sum(dim=1), torch.ones(ITEMS))
            print(line.strip(), took_s, flush=True)
    dht.shutdown()
    server.shutdown()
    os._exit(0)  # its destructors would print tracebacks


if __name__ == "__main__":
    main()
