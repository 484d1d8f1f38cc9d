"""The same items take the same search, whatever lay in memory before."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from airmoe.scheduling import select_experts
from tests.scheduling.instances import subset_sum


@pytest.mark.parametrize("rubbish", [-np.inf, 1e-300, np.inf, np.nan])
def test_what_new_memory_holds_changes_no_search(monkeypatch: pytest.MonkeyPatch, rubbish: float) -> None:
    instances = subset_sum(np.random.default_rng(0), 6, 24, 8)
    expected = select_experts(*instances, 8)
    assert expected.search_nodes.max() > 1000  # some of them are hard
    empty: Callable[..., Any] = np.empty

    def filled(*shape: Any, **options: Any) -> Any:
        array = empty(*shape, **options)
        if array.dtype.kind == "f":
            array.fill(rubbish)
        return array

    monkeypatch.setattr("numpy.empty", filled)
    again = select_experts(*instances, 8)
    monkeypatch.undo()
    np.testing.assert_array_equal(again.search_nodes, expected.search_nodes)
    np.testing.assert_array_equal(again.mask, expected.mask)
