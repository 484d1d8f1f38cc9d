"""What identities cost the demonstration: with mutual TLS, as it runs by default, and over plain TCP, in turns.

    python benchmarks/demo_identity.py --rounds 3

Both train the same digits with the same seed, about a minute each. Ratios are of the seconds of a round: of
all, and of the steps in which nodes serve.
"""

import argparse
import functools
import tempfile
from pathlib import Path

import numpy as np

from airmoe.cli.settings import networked_settings
from airmoe.data import load_images
from airmoe.mesh.fleet import NodeFleet
from airmoe.studies.demo import serving
from airmoe.studies.demo.run import run_demo

SERVING = ("start the nodes", "ask the mesh", "kill two nodes")
"""The steps in which nodes serve."""

ASKED = 450
"""Held-out images that every client asks about."""


def seconds(insecure: bool, folder: Path) -> tuple[float, float]:
    """Run the demonstration; return what all steps took, and those in which nodes serve."""
    setattr(serving, "NodeFleet", functools.partial(NodeFleet, insecure=insecure))  # noqa: B010
    config = networked_settings("digits", None, None, 0)
    epochs = config.features.rounds
    results = run_demo(
        config, lambda: load_images("digits"), folder / "run", central_epochs=epochs, ask_images=ASKED
    )
    served = [step.seconds for step in results.steps if step.step in SERVING]
    assert len(served) == len(SERVING), results.steps
    return sum(step.seconds for step in results.steps), sum(served)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    ratios = []
    for round_ in range(parser.parse_args().rounds):
        took = {}
        for insecure in sorted((False, True), reverse=bool(round_ % 2)):
            with tempfile.TemporaryDirectory() as folder:
                took[insecure] = seconds(insecure, Path(folder))
            name = "TCP" if insecure else "TLS"
            print(f"{name}: {took[insecure][0]:.1f} s, {took[insecure][1]:.1f} s of it serving", flush=True)
        ratios.append(np.divide(took[False], took[True]))
    for name, ratio in zip(("all", "serving"), np.transpose(ratios), strict=True):
        print(f"TLS over TCP, {name}: {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})")


if __name__ == "__main__":
    main()
