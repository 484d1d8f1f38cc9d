"""What an error says of packages that are missing."""

import sys

import pytest

from airmoe.errors import MissingExtraError, require


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
