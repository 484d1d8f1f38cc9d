"""What the demonstration of a language model found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from airmoe.files import replaced_file

RESULTS = "results.json"


@dataclass(frozen=True)
class Predicted:
    """How well a model predicts held-out texts.

    Attributes:
        model: what it is.
        bits_per_byte: of each domain, and at last of all together.
        energy_j: J per byte, of transfers over simulated links; None where nothing travels.
    """

    model: str
    bits_per_byte: tuple[float, ...]
    energy_j: float | None = None


@dataclass(frozen=True)
class TextInMesh:
    """A text that processes wrote.

    Attributes:
        what: what was done while it was written.
        text: after the prompt.
        same: whether it is that of the model in one process.
        degraded: bytes that lack an expert which the gate wanted.
        missed: nodes that were asked and did not answer in time.
        byte_ms: median milliseconds of a byte.
        after_kill_ms: from the SIGKILL of a node to the next byte; None where none was killed.
    """

    what: str
    text: str
    same: bool
    degraded: int
    missed: tuple[int, ...]
    byte_ms: float
    after_kill_ms: float | None = None


@dataclass(frozen=True)
class TextDemoResults:
    """All of it.

    Attributes:
        domains: their names.
        predicted: the table of models and policies.
        prompt: what the texts begin with.
        written: the texts.
        process_byte_ms: median milliseconds of a byte with all experts in one process.
        difference: the largest difference of a hidden state between the mesh and one process.
        seconds: of the whole demonstration.
    """

    domains: tuple[str, ...]
    predicted: tuple[Predicted, ...]
    prompt: str
    written: tuple[TextInMesh, ...]
    process_byte_ms: float
    difference: float
    seconds: float


def write_results(results: TextDemoResults, folder: Path) -> None:
    """Write ``results.json``."""
    with replaced_file(folder / RESULTS) as temporary:
        text = json.dumps(asdict(results), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
