"""The layout holds: imports go down only, serving needs no PyTorch, modules are short, named and documented.

Every rule is a function from a folder of sources to its violations, so each is also shown a violation.
"""

import ast
import functools
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "airmoe"

TOP_TO_BOTTOM = (
    *(
        "__main__",
        "cli",
        "studies",
        "networked",
        "channel_aware",
        "federated",
        "language",
        "runs",
        "nn",
        "monitor",
    ),
    *("radio", "mesh", "dispatch", "scheduling", "data", "links", "report"),
    *("onnx_runtime", "runfolder", "manifest", "plugins", "spec_text", "parts", "checks", "showing"),
    *("records", "seeding", "newfolder", "files", "locks", "versions"),
    *("randomness", "progress", "trouble", "errors"),
    "__init__",
)
"""The parts of the package; a part imports itself and what stands after it."""

WITHOUT_TORCH = (
    *("mesh", "dispatch", "scheduling", "data", "links"),
    *(
        "onnx_runtime",
        "runfolder",
        "manifest",
        "spec_text",
        "checks",
        "records",
        "showing",
        "files",
        "newfolder",
        "locks",
        "versions",
    ),
    *("randomness", "progress", "trouble", "errors"),
)
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager"}
FORBIDDEN_NAMES |= {"util", "helper", "managers"}
MOST_LINES = 400
UNPICKLING_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNPICKLING_CALLS = {"torch.load", "torch.save", "pandas.read_pickle"}

Rule = Callable[[Path], list[str]]


def modules(source: Path) -> Iterator[tuple[Path, ast.Module]]:
    """All modules of a package folder, as path relative to it and syntax tree."""
    for path in sorted(source.rglob("*.py")):
        yield path.relative_to(source), parsed(path.read_text(encoding="utf-8"), str(path))


parsed = functools.cache(ast.parse)
"""A syntax tree, which rules look at and do not change."""


def part_of(path: Path) -> str:
    """The part that a module belongs to: its package, or itself at the top level."""
    return path.parts[0].removesuffix(".py")


def imports(path: Path, tree: ast.Module) -> Iterator[str]:
    """Dotted names of everything imported anywhere in a module, in full: from a import b gives a.b."""
    package = ("airmoe", *path.parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*origin, *([node.module] if node.module else [])))
            yield from (f"{stem}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and name_of(node.func).endswith(("import_module", "__import__")):
            yield from (
                a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )


def name_of(function: ast.expr) -> str:
    """The last name of what is called; nothing of what has none."""
    return getattr(function, "attr", getattr(function, "id", ""))


def imported_parts(source: Path, path: Path, tree: ast.Module) -> Iterator[str]:
    """The parts of airmoe that a module imports; a name of the package itself counts as its __init__."""
    for name in imports(path, tree):
        top, _, rest = name.partition(".")
        if top == "airmoe":
            part = rest.partition(".")[0]
            is_module = (source / part).is_dir() or (source / f"{part}.py").is_file()
            yield part if part and is_module else "__init__"


def imports_that_go_up(source: Path) -> list[str]:
    wrong = []
    for path, tree in modules(source):
        part = part_of(path)
        if part not in TOP_TO_BOTTOM:
            wrong.append(f"{path}: has no place in the order of layers")
            continue
        for other in imported_parts(source, path, tree):
            down = other in TOP_TO_BOTTOM and TOP_TO_BOTTOM.index(other) >= TOP_TO_BOTTOM.index(part)
            if not down:
                wrong.append(f"{path}: imports {other}")
    return wrong


def imports_of_torch(source: Path) -> list[str]:
    return [
        f"{path}: imports {name}"
        for path, tree in modules(source)
        if part_of(path) in WITHOUT_TORCH
        for name in imports(path, tree)
        if any(word in {"torch", "torchvision"} for word in name.split("."))
    ]


LOAD_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(module.name)
print(package.__file__, "torch" in sys.modules)
"""


def parts_that_load_torch(source: Path, parts: Collection[str] = WITHOUT_TORCH) -> list[str]:
    wrong = []
    for part in parts:
        ended = subprocess.run(
            [sys.executable, "-c", LOAD_ALL, f"airmoe.{part}"],
            env={**os.environ, "PYTHONPATH": str(source.parent), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        file, loaded = ended.stdout.strip().rsplit(" ", 1)
        assert Path(file).is_relative_to(source), f"{file} was imported instead of {source}"
        if loaded == "True":
            wrong.append(f"{part}: importing it loads torch")
    return wrong


def imports_of_onnx_runtime(source: Path) -> list[str]:
    """It calls home unless it is loaded with care, which one module takes."""
    return [
        f"{path}: imports {name}"
        for path, tree in modules(source)
        if path != Path("onnx_runtime.py")
        for name in imports(path, tree)
        if name.partition(".")[0] == "onnxruntime"
    ]


def long_modules(source: Path) -> list[str]:
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in source.rglob("*.py")}
    return [
        f"{path.relative_to(source)}: has {lines} lines"
        for path, lines in counts.items()
        if lines > MOST_LINES
    ]


def undocumented(source: Path) -> list[str]:
    def missing(node: ast.AST, place: str) -> Iterator[str]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not ast.get_docstring(node):
                yield place
            if not isinstance(node, ast.Module | ast.ClassDef):
                return  # what is defined inside a function is nobody else's
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if not child.name.startswith("_"):
                    yield from missing(child, f"{place}: {child.name}")
            elif isinstance(child, ast.If | ast.Try | ast.With):
                yield from missing(child, place)

    return [
        f"{place} has no docstring"
        for path, tree in modules(source)
        if tree.body
        for place in missing(tree, str(path))
    ]


def forbidden_names(source: Path) -> list[str]:
    paths = [path.relative_to(source) for path in (*source.rglob("*.py"), *source.rglob("*/"))]
    return [
        f"{path}: says nothing about what it does"
        for path in paths
        if FORBIDDEN_NAMES & set(path.stem.lower().strip("_").split("_"))
    ]


def unpickling(source: Path) -> list[str]:
    wrong = []
    for path, tree in modules(source):
        found = [name for name in imports(path, tree) if name.partition(".")[0] in UNPICKLING_MODULES]
        found += [name for name in imports(path, tree) if name in UNPICKLING_CALLS]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in UNPICKLING_CALLS:
                found.append(ast.unparse(node))
            elif isinstance(node, ast.Call):
                found += [
                    f"allow_pickle={ast.unparse(keyword.value)}"
                    for keyword in node.keywords
                    if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                ]
        wrong += [f"{path}: uses {name}" for name in found]
    return wrong


RULES: tuple[Rule, ...] = (
    imports_that_go_up,
    imports_of_torch,
    parts_that_load_torch,
    imports_of_onnx_runtime,
    long_modules,
    undocumented,
    forbidden_names,
    unpickling,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_breaks_no_rule(rule: Rule) -> None:
    assert (SOURCE / "links").is_dir()
    assert rule(SOURCE) == []


VIOLATIONS = [
    # rule, file, what is appended to it, the one violation
    (imports_that_go_up, "links/x.py", "import airmoe.scheduling", "links/x.py: imports scheduling"),
    (imports_that_go_up, "links/x.py", "from airmoe import data", "links/x.py: imports data"),
    (imports_that_go_up, "errors.py", "from airmoe.files import replaced_file", "errors.py: imports files"),
    (imports_that_go_up, "links/x.py", "from ..nn import pool", "links/x.py: imports nn"),
    (
        imports_that_go_up,
        "nn/x.py",
        "def f():\n    import airmoe.runs.settings",
        "nn/x.py: imports runs",
    ),
    (imports_that_go_up, "mesh/x.py", "if 0:\n    from airmoe.nn import pool", "mesh/x.py: imports nn"),
    (imports_that_go_up, "data/x.py", "import_module('airmoe.cli')", "data/x.py: imports cli"),
    (imports_that_go_up, "mesh/x.py", "from airmoe.runs import Checkpoint", "mesh/x.py: imports runs"),
    (imports_that_go_up, "mesh/x.py", "from airmoe import nn", "mesh/x.py: imports nn"),
    (imports_that_go_up, "__init__.py", "from airmoe import links", "__init__.py: imports links"),
    (imports_that_go_up, "other.py", "", "other.py: has no place in the order of layers"),
    (imports_of_torch, "mesh/x.py", "import torch", "mesh/x.py: imports torch"),
    (imports_of_torch, "links/x.py", "import torch.nn as n", "links/x.py: imports torch.nn"),
    (imports_of_torch, "data/x.py", "def f():\n    from torch import nn", "data/x.py: imports torch.nn"),
    (
        imports_of_torch,
        "scheduling/x.py",
        "from safetensors.torch import save",
        "scheduling/x.py: imports safetensors.torch.save",
    ),
    (imports_of_onnx_runtime, "nn/x.py", "import onnxruntime", "nn/x.py: imports onnxruntime"),
    (
        imports_of_onnx_runtime,
        "mesh/x.py",
        "def f():\n    from onnxruntime import capi",
        "mesh/x.py: imports onnxruntime.capi",
    ),
    (long_modules, "nn/x.py", "x = 1\n" * 401, "nn/x.py: has 401 lines"),
    (undocumented, "nn/x.py", "def f(): ...", "nn/x.py: f has no docstring"),
    (undocumented, "nn/x.py", "class C:\n    'It.'\n    def m(self): ...", "nn/x.py: C: m has no docstring"),
    (undocumented, "nn/x.py", "if 1:\n    class C: ...", "nn/x.py: C has no docstring"),
    (undocumented, "nn/x.py", "async def f(): ...", "nn/x.py: f has no docstring"),
    (forbidden_names, "nn/utils.py", "", "nn/utils.py: says nothing about what it does"),
    (forbidden_names, "nn/gate_helpers.py", "", "nn/gate_helpers.py: says nothing about what it does"),
    (forbidden_names, "common/x.py", "", "common: says nothing about what it does"),
    (unpickling, "nn/x.py", "import pickle", "nn/x.py: uses pickle"),
    (unpickling, "nn/x.py", "from pickle import loads", "nn/x.py: uses pickle.loads"),
    (unpickling, "nn/x.py", "torch.load('x')", "nn/x.py: uses torch.load"),
    (unpickling, "nn/x.py", "from torch import load", "nn/x.py: uses torch.load"),
    (unpickling, "nn/x.py", "np.load('x', allow_pickle=True)", "nn/x.py: uses allow_pickle=True"),
    (unpickling, "nn/x.py", "np.load('x', allow_pickle=y)", "nn/x.py: uses allow_pickle=y"),
]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A package of the same parts that breaks no rule."""
    for part in TOP_TO_BOTTOM:
        is_file = part.startswith("__") or (SOURCE / f"{part}.py").exists()
        path = tmp_path / "airmoe" / (f"{part}.py" if is_file else f"{part}/__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('"""A module."""\n', encoding="utf-8")
    return tmp_path / "airmoe"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_source_that_breaks_no_rule_passes(bare: Path, rule: Rule) -> None:
    assert rule(bare) == []


@pytest.mark.parametrize(("rule", "file", "text", "violation"), VIOLATIONS)
def test_a_violation_is_found(bare: Path, rule: Rule, file: str, text: str, violation: str) -> None:
    path = bare / file
    path.parent.mkdir(exist_ok=True)
    opening = "" if rule is long_modules else '"""A module."""\n'
    path.write_text(f"{opening}{text}", encoding="utf-8")
    assert rule(bare) == [violation]


def test_a_module_without_docstring_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("x = 1\n", encoding="utf-8")
    assert undocumented(tmp_path) == ["x.py has no docstring"]


def test_torch_loaded_behind_the_back_of_the_syntax_tree_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "airmoe"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "links" / "radio.py").open("a", encoding="utf-8") as file:
        file.write('\n__builtins__["__import__"]("to" + "rch")\n')
    assert imports_of_torch(copy) == []
    parts = ("links", "mesh")
    assert parts_that_load_torch(copy, parts) == [f"{part}: importing it loads torch" for part in parts]


def test_what_is_private_or_local_needs_no_docstring(tmp_path: Path) -> None:
    private = "def _f(): ...\nclass _C:\n    def m(self): ...\n"
    local = 'def f():\n    """Do."""\n    def g(): ...\n'
    (tmp_path / "x.py").write_text(f'"""A module."""\n{private}{local}', encoding="utf-8")
    assert undocumented(tmp_path) == []


def by_section(sections: dict[str, object], within: str = "") -> dict[str, object]:
    """Values by "section.key", or "key" where there is no section; a section may lie within another."""
    found: dict[str, object] = {}
    for name, value in sections.items():
        key = f"{within}{name}"
        found |= by_section(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return found


def defaults() -> dict[str, object]:
    """Every default of a run and of the radio, under the name that the settings page uses."""
    from airmoe.channel_aware import ChannelAwareConfig
    from airmoe.language.config import DmoeConfig
    from airmoe.links import Ofdma
    from airmoe.networked.config import NetworkedConfig
    from airmoe.studies.dmoe.settings import RadioSettings
    from airmoe.studies.gating.settings import GatingSettings
    from airmoe.studies.networked.settings import TrainingSettings

    tested = {
        *("label", "seeds", "swept", "values", "method", "test_images", "transmission", "law", "policy"),
        *("mean_snr_db", "spread_db", "bad_db", "correlation", "delay_slots", "error_db"),
    }
    trained = {name: value for name, value in GatingSettings().model_dump().items() if name not in tested}
    mixture = TrainingSettings().model_dump()
    prefixed = {
        "": by_section(NetworkedConfig().model_dump()),
        "channel-aware: ": by_section(ChannelAwareConfig().model_dump()),
        "gating study: ": trained,
        "networked study: ": {
            name: mixture[name] for name in mixture if name not in tested - {"test_images"}
        },
        "dmoe: ": by_section(DmoeConfig().model_dump()),
        "dmoe study: ": {
            name: value
            for name, value in RadioSettings().model_dump().items()
            if name not in {"label", "seeds", "swept", "values"}
        },
        "Ofdma.": vars(Ofdma()),
    }
    return {f"{prefix}{name}": value for prefix, found in prefixed.items() for name, value in found.items()}


def fixed(names: Iterator[str]) -> dict[str, object]:
    """The values of these constants, each defined once in the source."""
    homes: dict[str, list[str]] = {}
    for path, tree in modules(SOURCE):
        for node in tree.body:
            if isinstance(node, ast.Assign):
                home = ".".join(("airmoe", *path.with_suffix("").parts))
                homes.setdefault(ast.unparse(node.targets[0]), []).append(home)
    found: dict[str, object] = {}
    for name in names:
        (home,) = homes[name]
        found[name] = getattr(importlib.import_module(home), name)
    return found


def test_the_settings_page_lists_every_default_and_whose_choice_it_is() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.: -]+)` \| `([^`]+)` \| (ours|the paper's)", page, flags=re.MULTILINE)
    written = {name: default.strip('"') for name, default, _ in rows}
    expected = {**defaults(), **fixed(name for name in written if name.isupper())}
    assert written == {name: str(default) for name, default in expected.items()}
