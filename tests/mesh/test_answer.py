"""What an answer's outputs are: probabilities, logits or hidden states."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airmoe.errors import InvalidInputError
from airmoe.manifest import OutputKind
from airmoe.mesh import Answer, MeshClient, Node
from airmoe.runfolder import client_folders
from airmoe.scheduling import All
from tests.mesh.exported import export_maps, map_model
from tests.mesh.ports import free_address
from tests.mesh.steering import answer_to

torch = pytest.importorskip("torch")


def answer_of(output_T: NDArray[np.float32], kind: OutputKind) -> Answer:
    rest: dict[str, Any] = dict.fromkeys(("scores_TE", "weights_TE", "dispatched", "snr_db_TE"))
    rest |= {"sent_bytes": 0, "received_bytes": 0, "elapsed_s": 0.0, "transmission": "ideal"}
    return Answer(output_T, kind, **rest)


OUTPUT = np.array([[1000.0, 1001.0], [-3.0, -3.0]], np.float32)


def test_probabilities_are_the_outputs() -> None:
    assert answer_of(OUTPUT, "probabilities").probability_TC is OUTPUT


def test_of_logits_probabilities_are_the_softmax() -> None:
    probability_TC = answer_of(OUTPUT, "logits").probability_TC
    np.testing.assert_allclose(probability_TC, [[1 / (1 + np.e), np.e / (1 + np.e)], [0.5, 0.5]], rtol=1e-6)
    assert probability_TC.dtype == np.float32


def test_hidden_states_are_no_probabilities() -> None:
    with pytest.raises(InvalidInputError, match=r"kind is 'hidden states'; expected probabilities or logits"):
        _ = answer_of(OUTPUT, "hidden states").probability_TC


@pytest.fixture
def client(tmp_path: Path) -> Iterator[MeshClient]:
    """A client of a run whose experts give logits."""
    folder, seed = tmp_path / "run", free_address()
    export_maps(folder, map_model(), server=False, output="logits")
    first, second = client_folders(folder)
    with Node(second, seed), MeshClient(first, [seed], policy=All()) as client:
        client.wait_for_nodes(1)
        yield client


def test_what_experts_return_is_what_the_manifest_says(client: MeshClient) -> None:
    answer = answer_to(client, np.random.default_rng(2).random((6, 1, 20, 20), np.float32))
    assert answer.kind == "logits"
    assert answer.output_T.shape == (6, 4)
    odds_TC = np.exp(answer.output_T)
    np.testing.assert_allclose(answer.probability_TC, odds_TC / odds_TC.sum(axis=1, keepdims=True), rtol=1e-5)
