"""An answer about an image, told: what it shows, who answered, at what price.

Shape suffixes: T items, E experts, C classes.
"""

from typing import Any

import numpy as np

from airmoe.dispatch import why_out_of_reach
from airmoe.mesh.answer import Answer
from airmoe.mesh.client import MeshClient


def record_of(asker: MeshClient, answer: Answer) -> dict[str, Any]:
    """Return what is said of the first image of an answer, as JSON has it.

    Args:
        asker: whoever asked.
        answer: about one image or more; bytes and seconds are those of all.
    """
    manifest, dispatched = asker.manifest, answer.dispatched
    probability_C = answer.probability_TC[0]
    best_C = np.argsort(-probability_C)
    assert manifest.asks is not None
    sees_snr = manifest.asks.gates[0].sees_snr
    experts = []
    for expert in np.flatnonzero(dispatched.arrived_TE[0]):
        node = int(dispatched.node_TE[0, expert])
        here, score = node == manifest.node, float(answer.scores_TE[0, expert])
        told: dict[str, Any] = {"expert": int(expert), "node": node, "here": here, "score": score}
        if sees_snr and not here:
            told["link_snr_db"] = float(answer.snr_db_TE[0, expert])
        if answer.verified_TE is not None and not here:
            told["verified"] = bool(answer.verified_TE[0, expert])
        experts.append(told)
    living, reached = (int(each_E.sum()) for each_E in asker.reach(dispatched.decided_by))
    missed_E = np.flatnonzero(dispatched.intended_TE[0] & ~dispatched.arrived_TE[0])
    why = None
    if reached < living:
        why = why_out_of_reach(manifest.nodes, manifest.radio.subcarriers) or "their links have no gain"
    return {
        "label": manifest.classes[best_C[0]],
        "probability": float(probability_C[best_C[0]]),
        "probabilities": {manifest.classes[label]: float(probability_C[label]) for label in best_C},
        "answered_by": experts,
        "chose_none": bool(answer.chose_none_T[0]),
        "degraded": bool(answer.degraded_T[0]),
        "missed": [int(each) for each in missed_E],
        "reached": float(answer.reached_T[0]),
        "decided_by": dispatched.decided_by,
        "scheduler": answer.scheduler,
        "can_be_asked": reached,
        "out_of_reach": living - reached,
        "why_out_of_reach": why,
        "energy_j": float(dispatched.energy_j_T[0]),
        "bytes": answer.sent_bytes + answer.received_bytes,
        "elapsed_s": answer.elapsed_s,
    }
