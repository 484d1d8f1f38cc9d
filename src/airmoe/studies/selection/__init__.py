"""Study of expert selection and subcarrier allocation: energy, relevance kept, optimality, effort, time.

A folder per figure holds one TOML per plotted curve. A TOML says only in what the curve differs from the
documented defaults of the figure's settings; all values are ours, for the paper's tables are not public.
"""

from airmoe.studies.selection.study import SELECTION

__all__ = ["SELECTION"]
