"""What fuzzing found to reach other code is gone through once, as is every seed."""

from pathlib import Path

import pytest

from airmoe.mesh.log import mesh_log
from tests.fuzz.targets import TARGETS, seeds

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_of_the_corpus_breaks_a_word(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_log, "disabled", True)
    found = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    assert found
    with TARGETS[target]() as fuzzed:
        for data in seeds(target) + found:
            fuzzed(data)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 100_000
