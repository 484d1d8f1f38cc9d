"""The study: its kinds of figures, and what it tells at the end."""

from collections.abc import Mapping
from pathlib import Path

from airmoe.studies.curves.figure import Curves
from airmoe.studies.curves.rows import Rows
from airmoe.studies.curves.study import Study
from airmoe.studies.selection.effort import SEARCH_NODES
from airmoe.studies.selection.energy_figures import (
    ENERGY_BY_IMPORTANCE,
    ENERGY_BY_LAYER,
    ENERGY_BY_MAX_EXPERTS,
)
from airmoe.studies.selection.quality import PROVEN_GAP, SHARE_OPTIMAL, wanted_gaps
from airmoe.studies.selection.timing import RUN_TIME


def told(curves: Mapping[str, Curves], rows: Mapping[str, Rows]) -> list[str]:
    """Return whether the gaps of the tight bound are as small as they shall be, a line each."""
    if "proven_gap" not in curves:
        return []
    return [
        f"{label}, M = {subcarriers}: mean gap {100 * gap:.2g} % over {seeds} seeds, "
        f"wanted at most {100 * most:g} %: {verdict}"
        for label, subcarriers, seeds, gap, most, verdict in wanted_gaps(
            curves["proven_gap"], rows["proven_gap"]
        )
    ]


SELECTION = Study(
    name="selection",
    title="Study of expert selection",
    kinds={
        "energy_by_importance": ENERGY_BY_IMPORTANCE,
        "energy_by_layer": ENERGY_BY_LAYER,
        "energy_by_max_experts": ENERGY_BY_MAX_EXPERTS,
        "share_optimal": SHARE_OPTIMAL,
        "proven_gap": PROVEN_GAP,
        "search_nodes": SEARCH_NODES,
        "run_time": RUN_TIME,
    },
    folder=Path(__file__).parent / "figures",
    packages=("airmoe", "numpy", "scipy", "numba", "matplotlib"),
    told=told,
)
"""``airmoe study selection``."""
