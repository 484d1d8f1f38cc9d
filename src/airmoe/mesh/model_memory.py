"""Peak memory of a device that loads networks and answers one image; measured in a process of its own.

python -m airmoe.mesh.model_memory extractor.onnx gate.onnx expert-0.onnx

Every network is loaded, as a node or client loads it, and run once on zeros. What counts is resident memory
as Linux tells it in /proc; elsewhere nothing is measured.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LONGEST_S = 300.0


@dataclass(frozen=True)
class ProcessMemory:
    """Resident memory of a process.

    Attributes:
        libraries_bytes: when the libraries were loaded, and nothing else.
        peak_bytes: the most that it ever had.
    """

    libraries_bytes: int
    peak_bytes: int


def resident_bytes(field: str, process: str = "self") -> int:
    """Return a field of /proc/PROCESS/status in bytes: "VmRSS" is resident now, "VmHWM" was at the peak.

    Raises:
        OSError: no such process, or no /proc.
        IndexError: it has no memory any more.
    """
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.partition(f"{field}:")[2].split(maxsplit=1)[0]) * 1024


def measured_apart(module: str, *arguments: str) -> ProcessMemory | None:
    """Return what a fresh process of a module measures of itself; None where there is no /proc.

    Args:
        module: ends by `tell_memory`.
        arguments: of its command line.

    Raises:
        subprocess.SubprocessError: the process fails.
    """
    if not Path("/proc/self/status").exists():
        return None
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=True)
    return ProcessMemory(**json.loads(ended.stdout.splitlines()[-1]))


def tell_memory(libraries_bytes: int) -> None:
    """Print what `measured_apart` reads."""
    told = {"libraries_bytes": libraries_bytes, "peak_bytes": resident_bytes("VmHWM")}
    print(json.dumps(told))


def serving_memory(networks: Sequence[Path]) -> ProcessMemory | None:
    """Return the memory of a process that loads ONNX files and runs each once; None where there is no /proc.

    Raises:
        subprocess.SubprocessError: a file is no network.
    """
    return measured_apart("airmoe.mesh.model_memory", *map(str, networks))


def _run_each(networks: Sequence[str]) -> None:
    import numpy as np

    from airmoe.onnx_runtime import onnx_session

    libraries_bytes = resident_bytes("VmRSS")
    sessions = [onnx_session(network) for network in networks]
    for session in sessions:
        shapes = {each.name: [1, *each.shape[1:]] for each in session.get_inputs()}
        session.run(None, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    tell_memory(libraries_bytes)


if __name__ == "__main__":
    _run_each(sys.argv[1:])
