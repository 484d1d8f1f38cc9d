"""What the report says of each stage of training, from metrics rows written by hand."""

from airmoe.report.results import CurvePoint, StageTraining
from airmoe.studies.demo.training import stages_of


def test_a_stage_has_the_points_that_were_measured_and_the_bytes_of_all_its_rounds() -> None:
    stages = stages_of(
        [
            {"stage": "features", "round": 1, "bytes": 30},
            {"stage": "features", "round": 2, "bytes": 50, "macro_f1": 0.5},
            {"stage": "gate statistics", "round": 1, "bytes": 8},
        ],
        clients=4,
    )
    assert stages == (
        StageTraining(stage="features", curve=(CurvePoint(round=2, macro_f1=0.5),), bytes_per_client=20.0),
        StageTraining(stage="gate statistics", curve=(), bytes_per_client=2.0),
    )
