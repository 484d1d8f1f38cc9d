"""Text by a language model whose experts are served by processes, beside the same model in one process.

    airmoe train --method dmoe --out RUN_FOLDER
    python benchmarks/text_over_mesh.py RUN_FOLDER [--rounds 12] [--bytes 40] [--kills 5]

The experts of a run are served twice: each at one node, and each at two. Text is written by one process with
all experts, and in turns by the processes: p50 of a byte, what a layer of the mesh takes more, and the ratio
round by round. With a scheduler, what its decision takes as a share of a layer. Then nodes are killed in
mid-text, in a mesh of its own each time: milliseconds from SIGKILL to the next byte, and whether the text is
the undisturbed one.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from airmoe.language import MeshSource, MoeTransformer
from airmoe.language.run import load_dmoe, radio_of
from airmoe.language.simulation import Simulated
from airmoe.language.source import export_language_model
from airmoe.language.writer import Writer
from airmoe.mesh.fleet import NodeFleet
from airmoe.runfolder import client_folders

PROMPT = b"def run(self, "
JOINT = "jesa:0.7:2"


def written(
    writer: Writer, length: int, after: Callable[[int], None] = lambda count: None
) -> tuple[bytes, list[float]]:
    """Return a text, and the seconds of each byte after the first."""
    data, times_s, begin_s = b"", list[float](), time.perf_counter()
    for step in writer.write([PROMPT], length):
        times_s.append(time.perf_counter() - begin_s)
        data += step.byte_B.tobytes()
        begin_s = time.perf_counter()
        after(len(data))
    return data, times_s[1:]


def spread(values: Sequence[float]) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def compare(model: MoeTransformer, run: Path, rounds: int, length: int, schedule: str | None) -> None:
    """Write in turns in one process and over the mesh."""
    folders, layers = client_folders(run), model.settings.layers
    with ExitStack() as open_:
        fleet = open_.enter_context(NodeFleet(folders, schedule=schedule, slot_ms=0.0))
        source = open_.enter_context(MeshSource(folders[0], fleet.addresses, identity=fleet.identities[0]))
        if not source.wait_for_all(30, schedulers=schedule is not None):
            raise SystemExit("not all nodes were found")
        over = Writer.over(source, schedule)
        deciding = list[float]()
        if schedule is not None:
            _time_decisions(source, deciding)
        here = Writer(model, Simulated(model))
        over_ms, here_ms = list[float](), list[float]()
        for number in range(rounds + 1):
            texts = dict[bool, bytes]()
            for mesh, writer, times_ms in ((False, here, here_ms), (True, over, over_ms)):
                texts[mesh], times_s = written(writer, length)
                if number:
                    times_ms.append(1e3 * float(np.median(times_s)))
            if schedule is None and texts[False] != texts[True]:
                raise SystemExit(f"another text: {texts}; run this on a quiet machine")
    layer_ms = [(ours - theirs) / layers for ours, theirs in zip(over_ms, here_ms, strict=True)]
    ratio = [ours / theirs for ours, theirs in zip(over_ms, here_ms, strict=True)]
    print(f"  p50 of a byte, ms: one process {spread(here_ms)}, mesh {spread(over_ms)}")
    print(f"  more for each layer, ms: {spread(layer_ms)}; ratio {spread(ratio)}")
    if deciding:
        whole_ms = float(np.median(over_ms)) / layers
        decision_ms = 1e3 * float(np.median(deciding))
        print(f"  a scheduler's answer {decision_ms:.2f} ms, {decision_ms / whole_ms:.0%} of a layer")


def _time_decisions(source: MeshSource, times_s: list[float]) -> None:
    """Note what each question to a scheduler takes."""
    for scheduler in source.mesh.schedulers:

        def timed(*given: object, decide: Callable[..., object] = scheduler.decide) -> object:
            begin_s = time.perf_counter()
            try:
                return decide(*given)
            finally:
                times_s.append(time.perf_counter() - begin_s)

        scheduler.decide = timed  # type: ignore[method-assign, assignment]


def kill(run: Path, kills: int, length: int, expected: bytes) -> None:
    """Kill a node in mid-text, in a mesh of its own each time."""
    folders, after_ms, usual_ms, same = client_folders(run), list[float](), list[float](), 0
    for number in range(kills):
        with (
            NodeFleet(folders) as fleet,
            MeshSource(folders[0], fleet.addresses, identity=fleet.identities[0]) as source,
        ):
            source.wait_for_all(30)
            half, victim = length // 2, 1 + number % (len(folders) - 1)

            def after(count: int, half: int = half, victim: int = victim, fleet: NodeFleet = fleet) -> None:
                if count == half:
                    fleet.kill(victim)

            data, times_s = written(Writer.over(source), length, after)
        after_ms.append(1e3 * times_s[half - 1])
        usual_ms.append(1e3 * float(np.median(times_s)))
        same += data == expected
    print(
        f"  SIGKILL to the next byte, ms: {spread(after_ms)}, at most {max(after_ms):.0f}; others "
        f"{np.median(usual_ms):.1f}; {same} of {kills} texts are the undisturbed one"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--bytes", type=int, default=40)
    parser.add_argument("--kills", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_dmoe(arguments.run_folder)
    model, experts = loaded.model, loaded.config.model.experts
    expected, _ = written(Writer(model, Simulated(model)), arguments.bytes)
    form = loaded.config.model
    print(
        f"{form.layers} layers of {experts} experts {form.width}-{form.expert_hidden}, {os.cpu_count()} cores"
    )
    with TemporaryDirectory(prefix="airmoe-") as made:
        for copies in (1, 2):
            run, placement = (
                Path(made, str(copies)),
                [[(e + n) % experts for n in range(copies)] for e in range(experts)],
            )
            export_language_model(run, model, mesh="text", radio=radio_of(loaded.config), placement=placement)
            print(f"each expert at {copies} node{'s' * (copies > 1)} of {experts}:")
            compare(model, run, arguments.rounds, arguments.bytes, None)
            kill(run, arguments.kills, arguments.bytes, expected)
            print(f" decided by a scheduler, {JOINT}:")
            compare(model, run, arguments.rounds, arguments.bytes, JOINT)


if __name__ == "__main__":
    main()
