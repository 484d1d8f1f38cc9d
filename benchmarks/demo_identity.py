"""What identities cost the demonstration: mutual TLS, as it runs by default, beside plain TCP, in turns.

    python benchmarks/demo_identity.py --rounds 5

The digits' model is trained once, as ``airmoe demo`` does, about a minute. Then its nodes are started, asked
by every method, and two of them killed, by turns with identities and without. Ratios are of the seconds of a
round; a first one, in which code is compiled and kept, does not count.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from airmoe.cli.settings import networked_settings
from airmoe.data import load_images
from airmoe.mesh.fleet import NodeFleet
from airmoe.networked import split_among_clients
from airmoe.nn.threads import one_thread
from airmoe.progress import silent
from airmoe.studies.demo import serving
from airmoe.studies.demo.methods import demo_methods
from airmoe.studies.demo.questions import draw_questions
from airmoe.studies.demo.steps import StepClock
from airmoe.studies.demo.training import train_all


def trained_demonstration(run: Path, asked: int) -> Callable[[bool], dict[str, float]]:
    """Train the demonstration's model into a folder; return what serves and asks it, and times the steps."""
    config, images = networked_settings("digits", None, None, 0), load_images("digits")
    data, methods = split_among_clients(config, images), demo_methods(config.data.clients, config.seed)
    with one_thread():
        trained = train_all(
            config,
            images,
            data,
            run,
            central_epochs=1,
            analog=False,
            clock=StepClock(),
            progress=silent,
        )
    questions = draw_questions(images, data.holds, asked, config.seed)

    def serve(insecure: bool) -> dict[str, float]:
        setattr(serving, "NodeFleet", functools.partial(NodeFleet, insecure=insecure))  # noqa: B010
        clock = StepClock()
        with one_thread():
            serving.serve_and_ask(
                run, trained.networked, questions, methods, None, seed=0, clock=clock, progress=silent
            )
        return {step.step: step.seconds for step in clock.times}

    return serve


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ask", type=int, default=100, help="images that every client asks about")
    arguments = parser.parse_args()
    ratios = list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as folder:
        serve = trained_demonstration(Path(folder) / "run", arguments.ask)
        for round_ in range(-1, arguments.rounds):
            took = {}
            for insecure in sorted((False, True), reverse=bool(round_ % 2)):
                steps = serve(insecure)
                took[insecure] = {**steps, "all": sum(steps.values())}
                name = "TCP" if insecure else "TLS"
                print(f"{name}: " + ", ".join(f"{step} {s:.1f} s" for step, s in took[insecure].items()))
            if round_ >= 0:
                ratios.append({step: took[False][step] / took[True][step] for step in took[False]})
    for step in ratios[0]:
        low, middle, high = np.quantile([of_round[step] for of_round in ratios], (0.0, 0.5, 1.0))
        print(f"TLS over TCP, {step}: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
