"""A mixture from sums on CIFAR-10, from scratch: ring of ten clients with two classes each.

    python benchmarks/ring_of_sums.py --data-dir FOLDER [--width 400] [--seeds 0 1 2]

Features of whitened patches, experts and gate, all from sums over the clients: no gradient, and no image
leaves its client. FOLDER holds the official binary files of CIFAR-10. Prints macro-F1 on the test images of
one head for all clients and of the mixture at one and two experts per image, the share of images of their own
classes that clients ask their own expert about, the megabytes that a client exchanges, and minutes.
"""

import argparse
import time

import numpy as np

from airmoe.data import ImageSet, load_images
from airmoe.networked import parse_config, split_among_clients, train_stages
from airmoe.networked.routing import expert_answers

SETTINGS = """
seed = {seed}
[data]
name = "cifar10"
partition = "{partition}"
[model]
backbone = "patches"
width = {width}
[features]
method = "patches"
[experts]
method = "sums"
mirrored = true
[gate]
method = "posterior"
"""
CLIENTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder of the official binary files of CIFAR-10")
    parser.add_argument("--width", type=int, nargs="+", default=[400], help="filters")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--partition", default="ring")
    asked = parser.parse_args()
    images = load_images("cifar10", data_dir=asked.data_dir)
    measures = "one head for all, %", "mixture, k = 1, %", "k = 2, %", "local, own classes, %"
    print(f"| filters | features | {' | '.join(measures)} | MB per client | minutes |")
    print("|---:" * 8 + "|", flush=True)
    for width in asked.width:
        rows = [measured(images, asked.partition, width, seed) for seed in asked.seeds]
        features, *values = zip(*rows, strict=True)
        told = [f"{np.mean(each):.2f} ± {np.std(each, ddof=len(each) > 1):.2f}" for each in values[:4]]
        cost = [f"{np.mean(values[4]):,.0f}", f"{np.mean(values[5]):.1f}"]
        print(f"| {width:,} | {features[0]:,} | {' | '.join([*told, *cost])} |", flush=True)


def measured(images: ImageSet, partition: str, width: int, seed: int) -> tuple[float, ...]:
    begin = time.monotonic()
    settings = SETTINGS.format(seed=seed, width=width, partition=partition)
    config = parse_config(settings, "settings")
    data = split_among_clients(config, images)
    trained = train_stages(config, data)
    minutes = (time.monotonic() - begin) / 60
    answers = expert_answers(trained.model, data)
    one, two = answers.by_gate(1), answers.by_gate(2)
    (head,) = [float(row["macro_f1"]) for row in trained.rows if row["stage"] == "class sums"]
    megabytes = sum(float(row["bytes"]) for row in trained.rows) / CLIENTS / 1e6
    shares = 100 * head, 100 * one.macro_f1, 100 * two.macro_f1, 100 * one.own_local_share
    return trained.model.extractor.features, *shares, megabytes, minutes


if __name__ == "__main__":
    main()
