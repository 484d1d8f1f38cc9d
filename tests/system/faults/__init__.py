"""Faults that a mesh survives: what is done to a run's real processes, and the figures that come of it."""
