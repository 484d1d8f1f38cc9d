"""The study of channel-aware gating (after arXiv 2504.00819): accuracy of methods over simulated links."""

from airmoe.studies.gating.study import GATING

__all__ = ["GATING"]
