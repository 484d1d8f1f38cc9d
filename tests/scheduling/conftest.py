"""Kernels are compiled before any test runs, lest the first one with a deadline wait for it."""

import numpy as np
import pytest

from airmoe.scheduling import select_experts


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """Compile the search, or load it from an earlier run."""
    for max_experts in (2, 3):
        select_experts(np.full((1, 4), 0.25), np.ones(4), 0.5, max_experts)
