"""What is published: the wheel holds all that it needs, asks for little, and names one set of URLs."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import airmoe

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "numba", "onnx", "onnxscript", "safetensors", "scikit-learn", "matplotlib", "tensorboard"}
TEXTS = ("*.md", "*.toml", "*.yml", "*.yaml", "*.cff", "*.py", "*.html", "Makefile", "run")
NOT_OURS = {".git", ".venv", ".venv-ortools", ".venv-hivemind", ".fuzz", "site", "dist", "runs"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from here."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package_and_the_licence(wheel: Path) -> None:
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "airmoe").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        licences = [archive.read(name) for name in packed if "/licenses/" in name]
    info = f"airmoe-{airmoe.__version__}.dist-info/"
    assert {name for name in packed if not name.startswith(info)} == files
    assert {"airmoe/py.typed", "airmoe/studies/selection/figures/run_time.toml"} <= packed
    assert licences == [(ROOT / "LICENSE").read_bytes()]


def test_the_core_asks_for_nothing_that_serving_does_not_need(metadata: Message) -> None:
    required = metadata.get_all("Requires-Dist", [])
    core = {re.split(r"[<>=\[ ;]", line)[0] for line in required if "extra ==" not in line}
    assert {"numpy", "onnxruntime", "eclipse-zenoh"} <= core
    assert not core & HEAVY
    with_extra = {re.split(r"[<>=\[ ;]", line)[0] for line in required if "extra ==" in line}
    assert with_extra >= HEAVY


def test_every_extra_that_an_error_names_exists(metadata: Message) -> None:
    named = {
        found
        for path in (ROOT / "src").rglob("*.py")
        for found in re.findall(r'\brequire\(\s*"([\w\[\]]+)"', path.read_text(encoding="utf-8"))
    }
    assert named >= {"schedule", "study", "train"}
    assert named <= set(metadata.get_all("Provides-Extra", []))


def test_the_command_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", tmp_path, wheel], timeout=500, check=True)
    told = subprocess.run(
        [tmp_path / "bin" / "airmoe", "study", "selection", "--only", "none", "--out", tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert told.returncode == 2
    assert re.match(r"airmoe: only is 'none'; expected .*\brun_time\b", told.stderr)


def test_one_version_is_told_everywhere(metadata: Message) -> None:
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    bibtex = (ROOT / "docs" / "project" / "cite.md").read_text(encoding="utf-8")
    told = {
        airmoe.__version__,
        project()["version"],
        metadata["Version"],
        *re.findall(r"^version: (.*)$", cff, re.MULTILINE),
        *re.findall(r"^  version = \{(.*)\},$", bibtex, re.MULTILINE),
    }
    assert len(told) == 1


def test_the_same_papers_are_cited_for_machines_and_for_readers() -> None:
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    bibtex = (ROOT / "docs" / "project" / "cite.md").read_text(encoding="utf-8")
    papers = re.findall(r"^    title: (.*)$", cff, re.MULTILINE)
    assert len(papers) == 3
    assert re.findall(r"^  title   = \{(.*)\},$", bibtex, re.MULTILINE)[1:] == papers
    numbers = re.findall(r'value: "arXiv:(.*)"', cff)
    assert numbers == re.findall(r"https://arxiv.org/abs/(.*)", cff)
    assert numbers == re.findall(r"journal = \{arXiv:(.*)\}", bibtex)
    families = re.findall(r"family-names: (\w+)", cff)
    assert families == re.findall(r"(?:author  = \{|and )(\w+), ", bibtex)


def made_up(text: str) -> list[str]:
    """The URLs in a text that can only be this project's own, or a placeholder's."""
    urls = re.findall(r"https?://[^\s\"'<>()\[\]{}`]+", text)
    wrong = r"https?://([^/]*\.)?example\.|https?://.*airmoe|https?://.*(YOUR|OWNER|USER(NAME)?|ORG)\b"
    return [url for url in urls if re.match(wrong, url)]


def texts() -> Iterator[Path]:
    for pattern in TEXTS:
        for path in ROOT.rglob(pattern):
            if path.is_file() and not NOT_OURS & set(path.relative_to(ROOT).parts):
                yield path


def test_the_project_s_urls_stand_in_one_file() -> None:
    elsewhere = {Path(__file__), ROOT / "pyproject.toml"}
    assert made_up((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        str(path.relative_to(ROOT)): urls
        for path in texts()
        if path not in elsewhere and (urls := made_up(path.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "see <https://github.com/someone/airmoe>",
        "[docs](https://airmoe.readthedocs.io/en/latest)",
        "url: https://example.org/x",
        "git clone https://git.example.com/y",
        "https://github.com/OWNER/project",
    ],
)
def test_a_url_that_is_made_up_is_found(text: str) -> None:
    assert len(made_up(text)) == 1


def test_the_urls_of_others_are_no_invention() -> None:
    assert made_up("https://arxiv.org/abs/2511.01743 https://zenoh.io http://127.0.0.1:6006") == []


def test_the_documentation_links_to_what_is_filled_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = pytest.importorskip("mkdocs.config", reason="needs airmoe[docs]")
    for host, filled_in in (("example.org", False), ("git.test", True)):
        toml = f'[project.urls]\nRepository = "https://{host}/a"\nDocumentation = "https://{host}/b"\n'
        (tmp_path / "pyproject.toml").write_text(toml, encoding="utf-8")
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "mkdocs.yml").write_text(
            f"site_name: x\nhooks: ['{ROOT / 'mkdocs_urls.py'}']\n", encoding="utf-8"
        )
        loaded = config.load_config(str(tmp_path / "mkdocs.yml"))
        loaded = loaded.plugins.on_config(loaded)
        urls = (f"https://{host}/b", f"https://{host}/a")
        assert ((loaded["site_url"] or "").rstrip("/"), loaded["repo_url"]) == (
            urls if filled_in else ("", None)
        )
