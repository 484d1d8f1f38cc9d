"""Fuzzing of what other devices may send: see `tests.fuzz.__main__`."""
