"""What the documentation tells a user to type exists."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from airmoe.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every line of a code block that begins with airmoe, comments left out."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if line.lstrip("$ ").startswith("airmoe "):
                yield shlex.split(line.lstrip("$ "), comments=True)[1:]


def fault(words: list[str]) -> str | None:
    """What of a command line does not exist: None if all of it does."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        name, *words = words
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {spelt for each in command.params for spelt in (*each.opts, *each.secondary_opts)} | {
        "--help",
        "-h",
    }
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else None


def test_a_wrong_command_and_a_wrong_option_are_found() -> None:
    lines = "airmoe trian --seed 1", "airmoe train --sede 1  # why", "airmoe study gating --quick"
    text = "\n".join(("```", *lines, "```", "airmoe in-a-sentence", ""))
    assert [fault(words) for words in commands(text)] == ["no command trian", "no option --sede", None]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists(page: Path) -> None:
    faults = {" ".join(words): fault(words) for words in commands(page.read_text(encoding="utf-8"))}
    assert {line: found for line, found in faults.items() if found} == {}


def test_pages_are_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if page not in navigation} == set()


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    files = [link for link in links if not link.startswith("http")]
    assert len(files) > 5
    assert [link for link in files if not (ROOT / link).exists()] == []


def source_texts() -> list[str]:
    """Every string in the source, the pieces of f-strings between their values."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py"))
    constants = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [node.value for node in constants if isinstance(node.value, str)]


def test_every_message_that_is_explained_is_one_that_airmoe_gives() -> None:
    page = (ROOT / "docs" / "start" / "messages.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\*\*(.+?)\*\*", page, flags=re.MULTILINE)
    assert len(messages) > 12
    pieces = {
        piece.strip(" ;") for message in messages for piece in re.split("…|expected|; |out is", message)
    }
    texts = source_texts()
    missing = [piece for piece in pieces if len(piece) > 3 and not any(piece in text for text in texts)]
    assert missing == []
