"""Where a SuperLink can run."""

import pytest

pytest.importorskip("flwr", reason="needs airmoe[flower]")

import flwr

from airmoe.errors import InvalidInputError
from airmoe.federated.flower.superlink import refuse_place_with_space


def test_a_folder_with_a_space_is_refused_for_flower_would_keep_no_nodes_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flwr, "__file__", "/opt/my tools/flwr/__init__.py")
    with pytest.raises(
        InvalidInputError, match=r"folder of Flower is '/opt/my tools/flwr'; expected one without a space"
    ):
        refuse_place_with_space()
    monkeypatch.setattr(flwr, "__file__", "/opt/tools/flwr/__init__.py")
    refuse_place_with_space()
