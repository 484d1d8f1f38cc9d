"""Answers of a mesh that lost nodes, or has a liar or other weights in it: which are marked, which change.

Shape suffixes: T images, E experts, C classes.
"""

import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airmoe.manifest import MANIFEST, read_manifest
from airmoe.mesh import MeshClient
from airmoe.mesh.frame import Frame, encode
from airmoe.runfolder import client_folders, expert_file, sha256_of
from tests.mesh.impostor import Answer, Impostor, honest, reply_to
from tests.mesh.steering import LONG_S, alive, wait_until
from tests.system.faults.mesh import FaultyMesh, Oracle

SMALL_WEIGHT = 0.001
PATIENT_S = 5.0
"""How long a node may take here before another is asked: it matters who answers, not when."""


@dataclass(frozen=True)
class Marks:
    """The answers to some images, and which of them say that they are degraded.

    Attributes:
        answers: how many.
        first_lost, first_lost_marked: whose first choice did not answer, and those of them that are marked.
        lost, lost_marked: likewise, any of the experts that top-k wants.
        whole_marked: those that are marked though all wanted experts answered.
        false: those whose values are not those of the experts that are said to have answered.
        right_marked, right_unmarked: the share of right labels among marked and other answers.
    """

    answers: int
    first_lost: int
    first_lost_marked: int
    lost: int
    lost_marked: int
    whole_marked: int
    false: int
    right_marked: float
    right_unmarked: float


def half_gone(
    run: Path,
    images_TCHW: NDArray[np.uint8],
    label_T: NDArray[np.int64],
    gone: Iterable[int],
    experts: int = 1,
) -> tuple[Marks, Marks]:
    """Return the marks with all nodes up, and after some were killed; every image is a query of its own."""
    oracle, gone = Oracle(run, images_TCHW), sorted(gone)
    with FaultyMesh(run) as mesh, mesh.client(hedge_s=PATIENT_S) as client:
        before = _marks(client, oracle, images_TCHW, label_T, experts)
        mesh.kill(*gone)
        after = _marks(client, oracle, images_TCHW, label_T, experts)
        assert alive(client).isdisjoint(gone)
    return before, after


def _marks(
    client: MeshClient,
    oracle: Oracle,
    images_TCHW: NDArray[np.uint8],
    label_T: NDArray[np.int64],
    experts: int,
) -> Marks:
    items = np.arange(len(images_TCHW))
    answers = [
        client.predict(images_TCHW[[item]], policy=f"topk:{experts}", deadline_s=LONG_S) for item in items
    ]
    arrived_TE = np.concatenate([answer.dispatched.arrived_TE for answer in answers])
    marked_T = np.concatenate([answer.degraded_T for answer in answers])
    probability_TC = np.concatenate([answer.probability_TC for answer in answers])
    first_T = ~arrived_TE[items, oracle.scores_TE.argmax(axis=1)]
    lost_T = np.any(oracle.wanted_TE(experts) & ~arrived_TE, axis=1)
    differs_T = np.abs(probability_TC - oracle.mixed_TC(arrived_TE, items)).max(axis=1) > 1e-4
    right_T = probability_TC.argmax(axis=1) == label_T
    return Marks(
        len(items),
        int(first_T.sum()),
        int((first_T & marked_T).sum()),
        int(lost_T.sum()),
        int((lost_T & marked_T).sum()),
        int((marked_T & ~lost_T).sum()),
        int(differs_T.sum()),
        _share(right_T[marked_T]),
        _share(right_T[~marked_T]),
    )


def _share(of: NDArray[np.bool_]) -> float:
    return float(of.mean()) if of.size else float("nan")


def _huge(request: Frame) -> bytes:
    output_TC = np.full((len(request.arrays["payload"]), 10), 1e6, np.float32)
    return encode(reply_to(request, output_TC))


LIES: dict[str, Answer] = {"sure of class 0": honest, "values of 1e6": _huge}
"""What an impostor answers whatever it is asked."""


@dataclass(frozen=True)
class Lied:
    """What a lie of small weight did: how many answers there are, and how many changed or are marked."""

    answers: int
    changed: int
    marked: int


def lied_to(run: Path, images_TCHW: NDArray[np.uint8], lie: str, liar: int = 3) -> Lied:
    """Ask all experts about each image while an impostor of gate weight 0.001 stands in for one of them."""
    oracle = Oracle(run, images_TCHW)
    others_TE = np.where(np.arange(oracle.scores_TE.shape[1]) == liar, 0.0, oracle.scores_TE)
    oracle.scores_TE = others_TE / others_TE.sum(axis=1, keepdims=True) * (1 - SMALL_WEIGHT)
    oracle.scores_TE[:, liar] = SMALL_WEIGHT
    everybody_TE = np.ones(oracle.scores_TE.shape, np.bool_)
    honest_T = oracle.mixed_TC(everybody_TE, np.arange(len(images_TCHW))).argmax(axis=1)
    changed = marked = 0
    with FaultyMesh(run, absent=[liar]) as mesh, mesh.client(hedge_s=PATIENT_S) as client:
        address, seed = mesh.addresses[liar], mesh.addresses[0]
        with Impostor(mesh.manifest, [liar], LIES[lie], address, seed):
            wait_until(lambda: liar in alive(client))
            for item in range(len(images_TCHW)):
                scores_1E = oracle.scores_TE[[item]].astype(np.float32)
                answer = client.predict(
                    images_TCHW[[item]],
                    gate=lambda payload_T, snr_db_TE, scores_1E=scores_1E: scores_1E,  # type: ignore[misc]
                    policy="all",
                    deadline_s=LONG_S,
                )
                changed += int(answer.probability_TC[0].argmax() != honest_T[item])
                marked += int(answer.degraded_T[0])
    return Lied(len(images_TCHW), changed, marked)


@dataclass(frozen=True)
class OtherWeights:
    """A node of other weights under the key of an expert.

    Attributes:
        answers, marked: how many answers, and how many of them are marked.
        came: how many of them the other weights have a share in.
        said: what the client logged about this node, each line once. A client of a mesh before this one may
            still log a late reply of another.
        hashes: of the expert that was meant, and of the one that is served.
    """

    answers: int
    marked: int
    came: int
    said: tuple[str, ...]
    hashes: tuple[str, str]


def other_weights(
    run: Path, scratch: Path, images_TCHW: NDArray[np.uint8], node: int = 1, really: int = 2
) -> OtherWeights:
    """Ask for an expert whose node has the weights of another one, under the same model hash and key."""
    changed = scratch / "other-weights"
    shutil.copytree(run, changed)
    folders, name = client_folders(changed), expert_file(node)
    shutil.copy(folders[really] / expert_file(really), folders[node] / name)
    manifest = json.loads((folders[node] / MANIFEST).read_text(encoding="utf-8"))
    meant = manifest["layers"][0]["hashes"][node]
    manifest["sha256"][name] = sha256_of(folders[node] / name)
    manifest["layers"][0]["hashes"][node] = served = manifest["sha256"][name][:16]
    (folders[node] / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    read_manifest(folders[node])
    said = _Said()
    logging.getLogger("airmoe.mesh").addHandler(said)
    try:
        with FaultyMesh(changed) as mesh, mesh.client(hedge_s=PATIENT_S) as client:
            answers = [
                client.predict(images_TCHW[[item]], policy="all", deadline_s=LONG_S)
                for item in range(len(images_TCHW))
            ]
    finally:
        logging.getLogger("airmoe.mesh").removeHandler(said)
    return OtherWeights(
        len(answers),
        sum(int(answer.degraded_T[0]) for answer in answers),
        sum(int(answer.weights_TE[0, node] > 0) for answer in answers),
        tuple(dict.fromkeys(line for line in said.lines if f"at node {node} " in line)),
        (meant, served),
    )


class _Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
