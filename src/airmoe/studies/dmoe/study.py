"""The study: its kinds of figures, and what is read for them."""

from pathlib import Path

from airmoe.studies.curves.study import Study
from airmoe.studies.dmoe.costs import LAYERS, PATTERN, SUBCARRIERS, TRADE_OFF
from airmoe.studies.dmoe.models import inputs_of
from airmoe.studies.dmoe.probe import PROBE
from airmoe.studies.dmoe.quality import QUALITY

DMOE = Study(
    name="dmoe",
    title="Study of a language model over several nodes",
    kinds={
        "quality": QUALITY,
        "trade-off": TRADE_OFF,
        "layers": LAYERS,
        "subcarriers": SUBCARRIERS,
        "pattern": PATTERN,
        "probe": PROBE,
    },
    folder=Path(__file__).parent / "figures",
    packages=("airmoe", "numpy", "torch", "matplotlib"),
    inputs=inputs_of,
    threads=1,
)
"""``airmoe study dmoe``."""
