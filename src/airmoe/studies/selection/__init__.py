"""Study of expert selection and subcarrier allocation: energy, relevance kept, optimality, effort, time.

``figures/`` holds a TOML per figure with a table per curve. It says only in what curves differ from the
documented defaults of their settings; all values are ours, for the paper's tables are not public.
"""

from airmoe.studies.selection.study import SELECTION

__all__ = ["SELECTION"]
