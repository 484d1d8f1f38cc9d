"""The results of a small demonstration that never was: every figure has a different value."""

from collections.abc import Callable
from typing import Any

import pytest

from airmoe.report.measured import (
    AnalogMethodId,
    AnalogMethodResult,
    AnalogResults,
    Asked,
    EqualF1,
    Figures,
    ImportancePoint,
    ImportanceSweep,
    MethodId,
    MethodResult,
    SnrPoint,
    SnrSweep,
)
from airmoe.report.results import (
    CurvePoint,
    DataSplit,
    DemoResults,
    Kills,
    NodeProcesses,
    QueryStream,
    Sample,
    StageTraining,
    StepTime,
    Training,
)

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""One pixel."""

METHODS: dict[MethodId, tuple[str, float, float, int, float]] = {
    # id: label, macro-F1, µJ, bytes, local share
    "moe-top1": ("networked MoE, top-1", 0.951, 17.9, 1392, 0.21),
    "moe-top2": ("networked MoE, top-2", 0.953, 36.0, 2784, 0.22),
    "moe-des": ("networked MoE, DES", 0.949, 16.2, 1279, 0.36),
    "moe-jesa": ("networked MoE, JESA", 0.948, 15.7, 1268, 0.37),
    "all-averaged": ("all experts averaged", 0.944, 90.0, 6960, 0.25),
    "random": ("random routing", 0.388, 18.6, 1436, 0.18),
    "local": ("local expert only", 0.235, 0.0, 0, 1.0),
    "fedavg-network": ("one FedAvg network", 0.922, 0.0, 0, 1.0),
    "central-moe": ("centrally trained MoE", 0.975, 17.5, 1312, 0.24),
}

ANALOG_METHODS: dict[AnalogMethodId, tuple[str, float, float, float | None, float, float | None]] = {
    # id: label, macro-F1, local share, dB, µJ, macro-F1 in one process
    "naive-top1": ("naive, top-1", 0.871, 0.26, -7.4, 1.72, 0.873),
    "aware-top1": ("channel-aware, top-1", 0.912, 0.43, -4.1, 1.32, 0.909),
    "best-link": ("best link", 0.235, 1.0, None, 0.0, 0.236),
    "ideal-top1": ("ideal links, top-1", 0.951, 0.21, None, 17.9, None),
}


def figures(f1: float, microjoules: float, bytes_: int, local: float, *, timed: bool = False) -> Figures:
    return Figures(
        macro_f1=f1,
        macro_f1_by_client=(f1, f1),
        local_share=local,
        local_share_own_classes=local / 2,
        local_weight=local / 3,
        experts_per_query=1.25,
        bytes_per_query=float(bytes_),
        joules_per_query=microjoules * 1e-6,
        latency_p50_ms=1.97 if timed else None,
        latency_p99_ms=9.85 if timed else None,
        rerouted_share=0.0,
        degraded_share=0.005,
        fallback_share=0.0,
        failed_queries=0,
        queries=480,
    )


def method(id_: MethodId) -> MethodResult:
    label, f1, microjoules, bytes_, local = METHODS[id_]
    in_mesh = id_ not in ("fedavg-network", "central-moe")
    return MethodResult(
        id=id_,
        label=label,
        family="networked" if id_.startswith("moe-") else "baseline",
        measured_in="mesh" if in_mesh else "simulation",
        figures=figures(f1, microjoules, bytes_, local, timed=in_mesh),
    )


def importance_sweep(id_: MethodId, microjoules: float) -> ImportanceSweep:
    return ImportanceSweep(
        method=id_,
        points=tuple(
            ImportancePoint(
                importance=importance,
                figures=figures(0.9 + importance / 20, importance * microjoules, 0, 0.3),
            )
            for importance in (0.1, 0.5, 0.95)
        ),
    )


def analog_method(id_: AnalogMethodId) -> AnalogMethodResult:
    label, f1, local, snr_db, microjoules, simulated = ANALOG_METHODS[id_]
    return AnalogMethodResult(
        id=id_,
        label=label,
        links="ideal" if id_ == "ideal-top1" else "analog",
        figures=figures(f1, microjoules, 0, local, timed=True),
        mean_snr_db=snr_db,
        macro_f1_simulated=simulated,
    )


def snr_sweep(id_: AnalogMethodId, f1: float, local: float) -> SnrSweep:
    return SnrSweep(
        method=id_,
        points=tuple(
            SnrPoint(mean_snr_db=mean_db, figures=figures(f1 + mean_db / 300, 1.5 - local, 0, local))
            for mean_db in (-5.0, 5.0, 20.0)
        ),
    )


def made_up_comparison() -> AnalogResults:
    """A comparison over analog links."""
    return AnalogResults(
        mean_snr_db=-5.0,
        methods=tuple(analog_method(id_) for id_ in ANALOG_METHODS),
        sweeps=(snr_sweep("aware-top1", 0.9, 0.4), snr_sweep("naive-top1", 0.86, 0.2)),
        mesh_minus_simulation=3e-7,
    )


def made_up_results(analog: AnalogResults | None = None) -> DemoResults:
    """The results of 4 clients."""
    queries = 240
    curve = tuple(CurvePoint(round=round_, macro_f1=f1) for round_, f1 in ((1, 0.2), (2, 0.6), (3, 0.9)))
    pairs_NE = ((30, 10, 40, 40), (40, 30, 10, 40), (40, 40, 30, 10), (10, 40, 40, 30))
    return DemoResults(
        seed=7,
        config={"seed": 7, "data": {"clients": 4, "partition": "ring"}},
        data=DataSplit(
            name="folder:<birds & bees>",
            partition="ring",
            train_images=1347,
            held_out_images=450,
            asked_images=120,
            classes=("bee", "bird", "hive", "nest"),
            holds=((0, 1), (1, 2), (2, 3), (0, 3)),
            images_NC=((170, 160, 0, 0), (0, 165, 171, 0), (0, 0, 168, 172), (169, 0, 0, 172)),
        ),
        training=Training(
            feature_rounds=61,
            central_epochs=59,
            stages=(
                StageTraining(stage="features", curve=curve, bytes_per_client=1234567.0),
                StageTraining(stage="gate statistics", curve=(), bytes_per_client=99.0),
                StageTraining(stage="gate", curve=curve, bytes_per_client=4321.0),
                StageTraining(stage="fedavg network", curve=curve, bytes_per_client=2345678.0),
            ),
        ),
        methods=tuple(method(id_) for id_ in METHODS),
        asked=(
            Asked(method="moe-top1", pairs_NE=pairs_NE),
            Asked(method="moe-jesa", pairs_NE=pairs_NE),
        ),
        sweeps=(importance_sweep("moe-des", 30.0), importance_sweep("moe-jesa", 29.0)),
        equal_f1=(
            EqualF1(
                k=1,
                topk=figures(0.951, 25.0, 0, 0.2),
                jesa=ImportancePoint(importance=0.3, figures=figures(0.95, 19.0, 0, 0.2)),
            ),
            EqualF1(k=2, topk=figures(0.953, 50.0, 0, 0.2), jesa=None),
        ),
        mesh_minus_simulation=2e-7,
        kills=Kills(
            victims=(1, 3),
            struck_at_query=(24, 48),
            classes_with_a_holder=(0, 1, 2, 3),
            f1_before=0.951,
            f1_after=0.912,
            queries=2 * queries,
            failed_queries=0,
            rerouted_queries=5,
            degraded_queries=7,
            slowest_ms=1501.0,
            stream=QueryStream(
                latency_ms=tuple(2 + query % 7 / 10 for query in range(queries)),
                correct=tuple(query % 20 != 0 for query in range(queries)),
                rerouted=(25, 49),
                degraded=(50,),
            ),
        ),
        nodes=NodeProcesses(memory_mb=(71.0, 70.5, 73.2, 71.9), all_serving_s=1.4),
        links_db_NN=tuple(
            tuple(None if node == other else 10.0 + 3 * node - 2 * other for other in range(4))
            for node in range(4)
        ),
        confusion_CC=((110, 5, 0, 5), (3, 117, 0, 0), (0, 0, 119, 1), (0, 2, 3, 115)),
        samples=tuple(
            Sample(
                png_base64=PNG,
                label=label,
                client=(label + 2) % 4,
                answer=0 if label == 3 else label,
                probability=0.97,
                expert=label,
                score=0.83,
                joules=17.9e-6,
            )
            for label in range(4)
        ),
        memory_mb=1230.0,
        steps=(
            StepTime(step="train the networked MoE", seconds=4.0),
            StepTime(step="kill two nodes", seconds=0.2),
        ),
        analog=analog,
    )


def edited(results: DemoResults, edit: Callable[[dict[str, Any]], object]) -> DemoResults:
    """Return results whose content was edited as plain values, and validated again."""
    content = results.model_dump(mode="json")
    edit(content)
    return DemoResults.model_validate(content)


@pytest.fixture
def results() -> DemoResults:
    """The results of a demonstration."""
    return made_up_results()


@pytest.fixture
def analog_results() -> DemoResults:
    """The results of a demonstration with --analog."""
    return made_up_results(made_up_comparison())
