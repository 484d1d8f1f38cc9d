"""What measured links are worth: one link is throttled, and DES goes by static links or by measured ones.

    python benchmarks/measured_links.py RUN_FOLDER [--rounds 5] [--images 64] [--policy des:0.2:2]

RUN_FOLDER is a run of digits. Its nodes are processes on loopback. The client's messages go over emulated
links of 100 Mbit/s, but for one of 4 Mbit/s: to the node that its policy sends most. Two clients ask in turns
about the same images of the training set. One goes by the links as they were measured before the throttle,
the other measures them as it asks. Energy is what the emulated links take for the payloads that were sent.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.data import load_images
from airmoe.links import EmulatedLinks, Links, Ofdma
from airmoe.mesh import Answer, MeasuredLinks, MeshClient
from airmoe.mesh.fleet import NodeFleet
from airmoe.mesh.measured_links import CHANNEL_HZ
from airmoe.runfolder import client_folders

GOOD_BPS, BAD_BPS = 100e6, 4e6
ASKED_BY = 0
DEADLINE_S = 30.0


def links_with(nodes: int, throttled: int | None) -> Links:
    rate_NN = np.full((nodes, nodes), GOOD_BPS)
    if throttled is not None:
        rate_NN[ASKED_BY, throttled] = rate_NN[throttled, ASKED_BY] = BAD_BPS
    snr_db_NN = 10 * np.log10(np.exp2(rate_NN / CHANNEL_HZ) - 1)
    return Links.from_snr(snr_db_NN, Ofdma(subcarriers=1, subcarrier_hz=CHANNEL_HZ, shared=False))


def sent_N(answer: Answer, nodes: int) -> NDArray[np.int64]:
    """Count the items that were sent to each other node."""
    dispatched = answer.dispatched
    node_P = dispatched.node_TE[dispatched.requested_TE]
    return np.bincount(node_P[node_P != ASKED_BY], minlength=nodes)


def spread(values: Sequence[float]) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


class Taken:
    """What the batches of one client took."""

    def __init__(self) -> None:
        self.seconds, self.joules, self.relevance = list[float](), list[float](), list[float]()
        self.throttled = self.sent = self.degraded = 0

    def add(self, answer: Answer, links: Links, throttled: int) -> None:
        sent = sent_N(answer, links.nodes)
        per_bit_j_N = links.energy_per_bit_j(links.best_subcarrier_NN)[ASKED_BY]
        others = np.arange(links.nodes) != ASKED_BY
        self.seconds.append(answer.elapsed_s)
        self.joules.append(float(sent[others] @ per_bit_j_N[others]) * answer.dispatched.bits)
        chosen_TE = np.where(answer.dispatched.arrived_TE, answer.scores_TE, 0.0)
        self.relevance.append(float(chosen_TE.sum(axis=1).mean()))
        self.throttled += int(sent[throttled])
        self.sent += int(sent.sum())
        self.degraded += int(answer.degraded_T.sum())

    def row(self, name: str) -> str:
        share = f"{self.throttled} of {self.sent}"
        latency_ms, energy_uj = (np.array(each) for each in (self.seconds, self.joules))
        return (
            f"{name:<9} {share:>14}  {spread(latency_ms * 1e3):<24} {spread(energy_uj * 1e6):<24} "
            f"{np.mean(self.relevance):<9.3f}  {self.degraded}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8, help="of each client in a round")
    parser.add_argument("--images", type=int, default=64, help="in a batch")
    parser.add_argument("--policy", default="des:0.2:2")
    arguments = parser.parse_args()
    folders = client_folders(arguments.run_folder)
    nodes, random = len(folders), np.random.default_rng(0)
    pictures = load_images("digits").train_images
    with ExitStack() as open_:
        fleet = open_.enter_context(NodeFleet(folders))

        def client(links: Links | MeasuredLinks, emulated: Links) -> MeshClient:
            made = MeshClient(
                folders[ASKED_BY],
                fleet.addresses,
                policy=arguments.policy,
                links=links,
                identity=fleet.identities[ASKED_BY],
                emulated=EmulatedLinks([emulated]),
            )
            open_.enter_context(made)
            made.wait_for_nodes(nodes, 60.0)
            made.measure_links()
            return made

        before = MeasuredLinks()
        scout = client(before, links_with(nodes, None))
        answer = scout.predict(pictures[random.permutation(len(pictures))[:1000]], deadline_s=DEADLINE_S)
        throttled = int(sent_N(answer, nodes).argmax())
        truth = links_with(nodes, throttled)
        print(f"{arguments.policy}; the link to node {throttled} has {BAD_BPS / 1e6:g} Mbit/s from now on")
        clients = {"static": client(before.current(), truth), "measured": client(MeasuredLinks(), truth)}
        taken = {name: Taken() for name in clients}
        for round_ in range(-1, arguments.rounds):
            for _ in range(arguments.batches):
                batch = pictures[random.permutation(len(pictures))[: arguments.images]]
                for name in sorted(clients, reverse=bool(round_ % 2)):
                    answer = clients[name].predict(batch, deadline_s=DEADLINE_S)
                    if round_ >= 0:
                        taken[name].add(answer, truth, throttled)
        print(f"{'links':<9} {'throttled':>14}  {'batch, ms':<24} {'energy, uJ':<24} relevance  degraded")
        for name, each in taken.items():
            print(each.row(name))
        static, measured = taken["static"], taken["measured"]
        faster = np.array(static.seconds) / measured.seconds
        cheaper = np.array(static.joules) / np.maximum(measured.joules, 1e-12)
        print(f"static over measured, batch by batch: time {spread(faster)}, energy {spread(cheaper)}")


if __name__ == "__main__":
    main()
