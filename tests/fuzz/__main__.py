"""Coverage-guided fuzzing of what other devices may send.

    pip install -e ".[fuzz]"
    python -m tests.fuzz [TARGET ...] [--seconds 60] [--finds .fuzz] [--keep]

Targets: frame (the codec), reply (what an expert returns), slot (messages of scheduling), manifest, and
session (bytes to a real node through Zenoh on loopback). Each is fuzzed in a process of its own, one after
the other, beginning with good inputs and the corpus in tests/fuzz/corpus. Inputs that reach new code are
written to ``--finds``. With --keep, those that the corpus lacks are added to it: commit them, they are tests.

Prints executions, branches reached and faults. Exit status 1 if there are faults; each is a file that
``python -m tests.fuzz TARGET --input FILE`` runs alone.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import TARGETS, seeds

HERE = Path(__file__).parent
MAX_BYTES = {"frame": 512, "reply": 256, "slot": 512, "manifest": 1600, "session": 1024}
"""Of one input, so that the corpus stays small."""


class Fuzzed(NamedTuple):
    executions: int
    branches: int
    faults: list[Path]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--finds", type=Path, default=Path(".fuzz"), help="where new inputs go")
    parser.add_argument("--keep", action="store_true", help="add to the corpus what it lacks")
    parser.add_argument("--input", type=Path, help="run one input alone")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - TARGETS.keys():
        parser.error(f"TARGET is {', '.join(unknown)}; expected one of {', '.join(TARGETS)}")
    if arguments.input is not None:
        with TARGETS[arguments.targets[0]]() as fuzzed:
            fuzzed(arguments.input.read_bytes())
        return
    found = {}
    for target in arguments.targets or TARGETS:
        found[target] = one = fuzz(target, arguments.seconds, arguments.finds / target, arguments.keep)
        print(f"{target}: {one.executions:,} executions, {one.branches} branches, {len(one.faults)} faults")
        for fault in one.faults:
            print(f"  python -m tests.fuzz {target} --input {fault}")
    sys.exit(any(one.faults for one in found.values()))


def fuzz(target: str, seconds: int, finds: Path, keep: bool) -> Fuzzed:
    """Fuzz one target in a process of its own."""
    finds.mkdir(parents=True, exist_ok=True)
    corpus = HERE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (finds / f"seed-{number}").write_bytes(seed)
    said = run(
        target,
        finds,
        corpus,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_BYTES[target]}",
        f"-artifact_prefix={finds.parent / target}-",
        "-len_control=0",
        "-print_final_stats=1",
        "-timeout=60",
        "-rss_limit_mb=4096",
    )
    if keep:
        run(target, corpus, finds, "-merge=1", f"-max_len={MAX_BYTES[target]}")
    executions = re.findall(r"stat::number_of_executed_units: *(\d+)", said)
    branches = [int(number) for number in re.findall(r"\bcov: (\d+)", said)]
    (finds.parent / f"{target}.log").write_text(said, encoding="utf-8")
    faults = sorted(finds.parent.glob(f"{target}-*"))
    return Fuzzed(int(executions[-1]) if executions else 0, max(branches, default=0), faults)


def run(target: str, *options: object) -> str:
    """Return what the fuzzer says; it ends without cleaning up, so its temporary files go with a folder."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, "-m", "tests.fuzz.fuzzer", target, *map(str, options)],
            env={**os.environ, "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        ).stdout


if __name__ == "__main__":
    main()
