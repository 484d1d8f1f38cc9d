"""Study of expert selection and subcarrier allocation: energy, relevance kept, optimality, effort, time.

``figures/`` holds a TOML per figure with a table per curve. A file says only where its curves differ from the
documented defaults of their settings. All values are ours, since the paper's tables are not public.
"""

from airmoe.studies.selection.study import SELECTION

__all__ = ["SELECTION"]
