"""One interrupt ends a command, wherever Python is when it comes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.commands import ended

TOLD_IN = {
    "a destructor": """
class Dying:
    def __del__(self):
        interrupt()

def wait():
    dying = Dying()
    del dying
""",
    "a callback of a weak reference": """
import weakref

class Dying: pass

def wait():
    dying = Dying()
    seen = weakref.ref(dying, lambda _: interrupt())
    del dying
""",
    "a function that C calls": """
import ctypes

def wait():
    ctypes.CFUNCTYPE(None)(interrupt)()
""",
    "C code that makes an error of it": """
def wait():
    try:
        interrupt()
    except KeyboardInterrupt as interrupted:  # as pybind11 does where a module of it is loaded
        raise ImportError("initialization failed") from interrupted
""",
    "two destructors after each other": """
class Dying:
    def __del__(self):
        interrupt()
        time.sleep(0.05)

def wait():
    first = Dying()
    del first
    second = Dying()
    del second
""",
    "a plain function": "def wait(): interrupt()",
}

SCRIPT = """
import os, signal, time
from airmoe.cli import app

def interrupt():
    os.kill(os.getpid(), signal.{signal})
    time.sleep(0)
{wait}

def command(**options):
    wait()
    time.sleep(60)
    print("it was lost")

app.app = command
app.main()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("place", TOLD_IN)
def test_one_interrupt_is_enough_in(place: str, name: str) -> None:
    script = SCRIPT.format(signal=name, wait=TOLD_IN[place])
    told: subprocess.CompletedProcess[str] = ended("-c", script, program=[sys.executable], timeout_s=50)
    assert (told.returncode, told.stdout, told.stderr) == (130, "", "")


OF_A_TEXT = """
import os, signal, typer
from airmoe.cli import app

def command():
    exec("os.kill(os.getpid(), signal.SIGINT)")

app.app = {app}
app.main()
"""


@pytest.mark.parametrize("app", ["lambda **_: command()", "typer.Typer(); app.app.command()(command)"])
def test_an_interrupt_of_a_text_that_is_executed_ends_with_the_same_status(app: str, tmp_path: Path) -> None:
    """CPython would end by a signal: dataclasses execute texts, and so does PyTorch while it loads."""
    (tmp_path / "script.py").write_text(OF_A_TEXT.format(app=app), encoding="utf-8")
    told = ended("-m", "script", program=[sys.executable], cwd=tmp_path, timeout_s=50)
    assert (told.returncode, told.stdout, told.stderr) == (130, "", "")


INTERRUPTED = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from airmoe.cli import main
main()
"""


@pytest.mark.parametrize("module", ["numpy", "typer", "airmoe.cli.interrupts", "airmoe.parts"])
def test_an_interrupt_of_the_first_imports_is_quiet(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")
