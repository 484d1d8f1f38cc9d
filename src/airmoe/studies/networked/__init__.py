"""The study of the networked mixture (after arXiv 2511.01743): stages, divisions of the data, baselines."""

from airmoe.studies.networked.study import NETWORKED

__all__ = ["NETWORKED"]
