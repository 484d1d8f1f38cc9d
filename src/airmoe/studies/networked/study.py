"""The study: its kinds of figures, and what is read for them."""

from pathlib import Path

from airmoe.studies.curves.study import Study
from airmoe.studies.networked.averaging import AVERAGING
from airmoe.studies.networked.baselines import BASELINES
from airmoe.studies.networked.mixtures import MIXTURE, PATTERN
from airmoe.studies.networked.models import inputs_of

NETWORKED = Study(
    name="networked",
    title="Study of the networked mixture of experts",
    kinds={"mixture": MIXTURE, "pattern": PATTERN, "baselines": BASELINES, "averaging": AVERAGING},
    folder=Path(__file__).parent / "figures",
    packages=("airmoe", "numpy", "torch", "matplotlib"),
    inputs=inputs_of,
    scales=("full", "cpu", "quick", "smoke", "niid-bench"),
    threads=1,
)
"""``airmoe study networked``."""
