"""Some images and who answered them, for the report."""

import base64
from collections.abc import Sequence

from airmoe.mesh import MeshClient
from airmoe.report.results import Sample
from airmoe.scheduling import TopK
from airmoe.studies.demo.questions import Questions, as_png, sample_numbers

MOST_SAMPLES = 12


def ask_samples(clients: Sequence[MeshClient], questions: Questions) -> tuple[Sample, ...]:
    """Return an image of each class, up to `MOST_SAMPLES`, answered by top-1 routing through the mesh.

    A client that holds no image of the class asks, if there is one; they take turns.
    """
    found = []
    for turn, number in enumerate(sample_numbers(questions)[:MOST_SAMPLES]):
        label = int(questions.labels_T[number])
        others = [client for client, held in enumerate(questions.holds) if label not in held]
        asks = (others or range(len(clients)))[turn % len(others or clients)]
        image_CHW = questions.images_TCHW[number]
        answer = clients[asks].predict(image_CHW[None], policy=TopK(1))
        expert = int(answer.dispatched.requested_TE[0].argmax())
        found.append(
            Sample(
                png_base64=base64.b64encode(as_png(image_CHW)).decode(),
                label=label,
                client=asks,
                answer=int(answer.probability_TC[0].argmax()),
                probability=min(float(answer.probability_TC[0].max()), 1.0),
                expert=expert,
                score=float(answer.scores_TE[0, expert]),
                joules=float(answer.dispatched.energy_j_T[0]),
            )
        )
    return tuple(found)
