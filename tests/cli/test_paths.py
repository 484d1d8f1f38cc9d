"""Paths: the home folder as ``~`` in every option and in every public function, texts as good as paths."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

import airmoe
from airmoe.cli.app import app
from airmoe.cli.paths import all_expanded
from airmoe.errors import InvalidInputError
from airmoe.files import as_path

OF_STUDIES = {"airmoe.studies.curves", "airmoe.report.drawing"}
"""Packages whose functions are for the studies alone."""


def paths_of(group: typer.Typer, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every option and argument of every command that takes a path, as Typer was told of it."""
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        for parameter, kind in get_type_hints(command.callback, include_extras=True).items():
            if "Path" in str(kind):
                yield " ".join([*words, name, parameter]), kind.__metadata__[0]
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from paths_of(inner.typer_instance, (*words, str(inner.name)))


OPTIONS = dict(paths_of(app))


@pytest.mark.parametrize("name", OPTIONS)
def test_every_path_option_knows_the_home_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert OPTIONS[name].callback is not None
    given, expected = Path("~/a b"), tmp_path / "a b"
    many = OPTIONS[name].callback is all_expanded
    assert OPTIONS[name].callback([given] if many else given) == ([expected] if many else expected)


def test_paths_were_found() -> None:
    assert {"train out", "train config", "serve folder", "study gating out"} <= OPTIONS.keys()


def test_a_home_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="path is '~nobody-of-this-name/a'; expected one under a home"
    ):
        as_path("~nobody-of-this-name/a")


def public_functions() -> Iterator[tuple[str, Any]]:
    for module in pkgutil.walk_packages(airmoe.__path__, "airmoe."):
        if module.ispkg and module.name not in OF_STUDIES:
            package = importlib.import_module(module.name)
            for name in getattr(package, "__all__", []):
                public = getattr(package, name)
                if inspect.isfunction(public):
                    yield f"{module.name}.{name}", public
                elif inspect.isclass(public) and not hasattr(public, "__dataclass_fields__"):
                    yield f"{module.name}.{name}", public.__init__


@pytest.mark.parametrize("place", [pytest.param(each, id=each[0]) for each in public_functions()])
def test_every_public_function_takes_paths_as_text(place: tuple[str, Any]) -> None:
    for name, parameter in inspect.signature(place[1]).parameters.items():
        told = str(parameter.annotation)
        assert "Path" not in told or "PathLike" in told or "AnyPath" in told, f"{name}: {told}"
