"""The results of a small demonstration that never was: every figure has a different value."""

from typing import Any

import pytest

METHODS = {
    # name: macro-F1, µJ, bytes, local share, measured
    "networked MoE, top-1": (0.951, 17.9, 1392, 0.21, True),
    "networked MoE, top-2": (0.953, 36.0, 2784, 0.22, True),
    "networked MoE, DES": (0.949, 16.2, 1279, 0.36, True),
    "networked MoE, JESA": (0.948, 15.7, 1268, 0.37, True),
    "all experts averaged": (0.944, 90.0, 6960, 0.25, True),
    "random routing": (0.388, 18.6, 1436, 0.18, True),
    "local expert only": (0.235, 0.0, 0, 1.0, True),
    "one FedAvg network": (0.922, 0.0, 0, 1.0, False),
    "centrally trained MoE": (0.975, 17.5, 1312, 0.24, False),
}


def method(
    name: str, f1: float, microjoules: float, bytes_: int, local: float, measured: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "through": "mesh" if measured else "simulation",
        "macro_f1": f1,
        "local_share": local,
        "local_share_own_classes": local / 2,
        "local_weight": local / 3,
        "experts_per_query": 1.25,
        "bytes_per_query": float(bytes_),
        "joules_per_query": microjoules * 1e-6,
        "latency_p50_ms": 1.97 if measured else None,
        "latency_p99_ms": 9.85 if measured else None,
        "rerouted_share": 0.0,
        "degraded_share": 0.005,
        "fallback_share": 0.0,
        "queries": 480,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """The results, for a test to change."""
    return made_up_results()


@pytest.fixture
def analog_results() -> dict[str, Any]:
    """The results of a demonstration with --analog, for a test to change."""
    return made_up_results() | {"analog": made_up_comparison()}


ANALOG_METHODS = {
    # name: macro-F1, local share, dB, µJ, macro-F1 in one process
    "naive, top-1": (0.871, 0.26, -7.4, 1.72, 0.873),
    "channel-aware, top-1": (0.912, 0.43, -4.1, 1.32, 0.909),
    "best link": (0.235, 1.0, None, 0.0, 0.236),
    "ideal links, top-1": (0.951, 0.21, None, None, None),
}


def made_up_comparison() -> dict[str, Any]:
    """What ``results.json`` would hold under "analog"."""
    return {
        "mean_snr_db": -5.0,
        "methods": [
            method(name, f1, 0.0, 0, local, True)
            | {
                "mean_snr_db": snr_db,
                "joules_per_query": None if microjoules is None else microjoules * 1e-6,
                "macro_f1_simulated": simulated,
            }
            for name, (f1, local, snr_db, microjoules, simulated) in ANALOG_METHODS.items()
        ],
        "sweep": {
            name: [
                method(name, f1 + mean / 300, 1.5 - local, 0, local, False) | {"mean_snr_db": mean}
                for mean in (-5.0, 5.0, 20.0)
            ]
            for name, f1, local in (("channel-aware, top-1", 0.9, 0.4), ("naive, top-1", 0.86, 0.2))
        },
        "mesh_minus_simulation": 3e-7,
    }


def made_up_results() -> dict[str, Any]:
    """What ``results.json`` of 4 clients would hold."""
    queries = 240
    return {
        "data": {
            "name": "folder:<birds & bees>",
            "train_images": 1347,
            "held_out_images": 450,
            "asked_images": 120,
            "classes": ["bee", "bird", "hive", "nest"],
        },
        "config": {
            "seed": 7,
            "data": {"clients": 4, "partition": "ring"},
            "features": {"rounds": 61},
        },
        "central_epochs": 59,
        "methods": [method(name, *figures) for name, figures in METHODS.items()],
        "asked_by_client": {
            name: [[30, 10, 40, 40], [40, 30, 10, 40], [40, 40, 30, 10], [10, 40, 40, 30]]
            for name in ("networked MoE, top-1", "networked MoE, JESA")
        },
        "sweeps": {
            name: [
                {
                    "importance": importance,
                    "macro_f1": 0.9 + importance / 20,
                    "joules_per_query": importance * joules,
                }
                for importance in (0.1, 0.5, 0.95)
            ]
            for name, joules in (("DES", 3e-5), ("JESA", 2.9e-5))
        },
        "equal_f1": [
            {
                "k": 1,
                "topk_f1": 0.951,
                "topk_joules": 2.5e-5,
                "importance": 0.3,
                "f1": 0.95,
                "joules": 1.9e-5,
            },
            None,
        ],
        "curves": {
            stage: [[1.0, 0.2], [2.0, 0.6], [3.0, 0.9]] for stage in ("features", "gate", "fedavg network")
        },
        "training_bytes_per_client": {"features": 1234567.0, "gate": 4321.0},
        "mesh_minus_simulation": 2e-7,
        "kills": {
            "victims": [1, 3],
            "struck_at_query": [24, 48],
            "queries": queries,
            "failed_queries": 0,
            "rerouted": 2,
            "degraded": 1,
            "f1_before": 0.951,
            "f1_after": 0.912,
            "slowest_ms": 1501.0,
            "stream": {
                "latency_ms": [2 + query % 7 / 10 for query in range(queries)],
                "correct": [int(query % 20 != 0) for query in range(queries)],
                "rerouted": [25, 49],
                "degraded": [50],
            },
        },
        "nodes": {"memory_mb": [71.0, 70.5, 73.2, 71.9], "all_serving_s": 1.4},
        "memory_mb": 1230.0,
        "seconds": {"train the networked MoE": 4.0, "kill two nodes": 0.2},
    }
