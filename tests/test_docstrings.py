"""Examples in public docstrings run, and say what they print; public signatures fit on a screen."""

import ast
import doctest
import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "airmoe"

MEET_FIRST = (
    *("links.Links.from_gain", "links.Links.from_snr", "links.LinkSnr", "links.Ofdma"),
    *("links.RayleighFading", "links.link_sequence", "links.make_process"),
    *(
        "scheduling.Cost",
        "scheduling.Des",
        "scheduling.Jesa",
        "scheduling.Placement",
        "scheduling.TopK",
        "scheduling.make_policy",
    ),
    *("scheduling.allocate_subcarriers", "scheduling.schedule_layer", "scheduling.select_experts"),
    *("data.load_images", "data.partition", "data.read_image"),
    *("radio.Analog", "radio.Digital", "radio.make_transmission"),
    *("nn.LinearGate", "nn.build_extractor", "nn.build_model", "nn.combine", "nn.mixing_weights"),
    *("nn.balance_loss", "nn.topk_mask", "randomness.stream"),
)
"""What a user calls first, by its public name under ``airmoe``: each has an example."""

WITH_ARRAYS = ("links", "scheduling", "data")
"""The packages whose functions take arrays and load no PyTorch."""


def examples(source: Path) -> Iterator[tuple[str, str, str]]:
    """Every docstring with an example: its module, the name inside that, and the text."""
    for path in sorted(source.rglob("*.py")):
        parts = ("airmoe", *path.relative_to(source).with_suffix("").parts)
        module = ".".join(part for part in parts if part != "__init__")
        yield from _examples_of(ast.parse(path.read_text(encoding="utf-8")), module, "")


def _examples_of(node: ast.AST, module: str, name: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        text = ast.get_docstring(node) or ""
        if ">>>" in text:
            yield module, name, text
    for child in ast.iter_child_nodes(node):
        inner = f"{name}.{child.name}" if isinstance(child, ast.ClassDef | ast.FunctionDef) else name
        yield from _examples_of(child, module, inner)


def failures_of(name: str, text: str) -> str:
    """Run the examples of a docstring with nothing imported but what they import themselves."""
    found = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    said: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        doctest.DocTestRunner().run(found, out=said.append)
    return "".join(said)


FOUND = list(examples(SOURCE))


@pytest.mark.parametrize(("name", "text"), [pytest.param(m + n, text, id=f"{m}{n}") for m, n, text in FOUND])
def test_the_example_prints_what_it_says(name: str, text: str) -> None:
    said = failures_of(name, text)
    assert not said, said


@pytest.mark.parametrize("public_name", MEET_FIRST)
def test_what_users_meet_first_has_an_example(public_name: str) -> None:
    package, *names = public_name.split(".")
    found = importlib.import_module(f"airmoe.{package}")
    for name in names:
        found = getattr(found, name)
    assert ">>>" in (found.__doc__ or "")


def test_a_wrong_example_fails() -> None:
    assert "Expected:\n    3\nGot:\n    2" in failures_of("wrong", "A sum.\n\n>>> 1 + 1\n3\n")


def test_an_example_without_its_imports_fails() -> None:
    assert "NameError" in failures_of("bare", "Zeros.\n\n>>> np.zeros(1)\narray([0.])\n")


def test_examples_are_found_in_modules_classes_functions_and_methods(tmp_path: Path) -> None:
    code = '"""M.\n\n>>> 1\n1\n"""\nclass C:\n    """C.\n\n    >>> 2\n    2\n    """\n    def m(self):\n'
    (tmp_path / "x.py").write_text(f'{code}        """m.\n\n        >>> 3\n        3\n        """\n', "utf-8")
    assert [(module, name) for module, name, _ in examples(tmp_path)] == [
        *(("airmoe.x", ""), ("airmoe.x", ".C"), ("airmoe.x", ".C.m"))
    ]


def signatures(package: str) -> Iterator[tuple[str, str]]:
    """The signature of every public function, class and method of a package."""
    module = importlib.import_module(f"airmoe.{package}")
    for name in module.__all__:
        thing = getattr(module, name)
        if callable(thing):
            yield name, str(inspect.signature(thing))
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, callable):
                if not method.startswith("_"):
                    yield f"{name}.{method}", str(inspect.signature(function))


@pytest.mark.parametrize("package", WITH_ARRAYS)
def test_a_signature_names_its_types_and_does_not_write_them_out(package: str) -> None:
    """``ArrayLike`` takes 300 characters; ``from __future__ import annotations`` keeps the name."""
    assert {name: text for name, text in signatures(package) if "numpy" in text} == {}
