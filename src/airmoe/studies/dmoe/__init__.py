"""Study of a language model whose experts sit on several nodes: bits per byte against joules.

``figures/`` holds a TOML per figure with a table per curve. A file says only where its curves differ from the
documented defaults of their settings. All values are ours, since the paper's tables are not public.
"""

from airmoe.studies.dmoe.study import DMOE

__all__ = ["DMOE"]
