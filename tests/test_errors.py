"""What errors say: of packages that are missing, of where they came from, and in another process."""

import pickle
import sys

import pytest

from airmoe.errors import InvalidInputError, MissingExtraError, require, telling


def test_what_is_installed_is_not_missed() -> None:
    require("airmoe[train]", "json", "numpy")


def test_missing_packages_are_named_with_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError) as refused:
        require("airmoe[train]", "torch", "json", "no_such_package")
    assert str(refused.value) == (
        "this command needs torch, no_such_package; install with: pip install 'airmoe[train]'"
    )


def test_who_needs_them_is_said() -> None:
    with pytest.raises(MissingExtraError, match=r"^a TDL channel needs no_such_package; install with"):
        require("airmoe[train]", "no_such_package", by="a TDL channel")


def test_words_are_put_in_front_of_airmoe_s_errors_and_beside_others() -> None:
    with (
        pytest.raises(InvalidInputError, match=r"^round 3: client 1: k is 0; expected 1") as refused,
        telling("round 3"),
        telling("client 1"),
    ):
        raise InvalidInputError("k", 0, "1")
    assert (refused.value.name, refused.value.value, refused.value.expected) == ("k", 0, "1")
    with pytest.raises(KeyError) as noted, telling("round 3"):
        raise KeyError("x")
    assert noted.value.__notes__ == ["airmoe: round 3"]


def test_an_error_crosses_to_another_process_whole() -> None:
    with pytest.raises(InvalidInputError) as refused, telling("curve jesa"):
        raise InvalidInputError("k", 0, "1")
    again = pickle.loads(pickle.dumps(refused.value))
    assert str(again) == "curve jesa: k is 0; expected 1"
    assert (type(again), again.name, again.value, again.expected) == (InvalidInputError, "k", 0, "1")
