"""The study: its kinds of figures, and what it tells at the end."""

from pathlib import Path

from airmoe.studies.curves.study import Study
from airmoe.studies.gating.accuracy import ACCURACY, ACCURACY_GPU, ACCURACY_RESNET18
from airmoe.studies.gating.claims import claims
from airmoe.studies.gating.models import inputs_of
from airmoe.studies.gating.shares import SHARES

GATING = Study(
    name="gating",
    title="Study of channel-aware gating",
    kinds={
        "accuracy": ACCURACY,
        "accuracy_resnet18": ACCURACY_RESNET18,
        "accuracy_gpu": ACCURACY_GPU,
        "shares": SHARES,
    },
    folder=Path(__file__).parent / "figures",
    packages=("airmoe", "numpy", "torch", "matplotlib"),
    told=claims,
    inputs=inputs_of,
    scales=("full", "quick", "smoke", "gpu"),
    threads=1,
)
"""``airmoe study gating``."""
