"""The airmoe command as a process of its own, and a look at all processes of this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

AIRMOE = (sys.executable, "-m", "airmoe.cli")

_SCRIPT_WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None  # importing it raises ImportError
sys.argv[0] = "airmoe"
runpy.run_module("airmoe.cli", run_name="__main__")
"""
AIRMOE_WITHOUT_TORCH = (sys.executable, "-c", _SCRIPT_WITHOUT_TORCH)


class Command:
    """A running command whose standard output is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.output = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_for_line(self, beginning: str, timeout_s: float = 60.0) -> str:
        """Return the next line that begins so; the test fails if there is none in time."""
        assert self._process.stdout is not None
        overdue = threading.Timer(timeout_s, self._process.kill)
        overdue.start()
        try:
            for line in self._process.stdout:
                self.output += line
                if line.startswith(beginning):
                    return line
        finally:
            overdue.cancel()
        raise AssertionError(f"no line {beginning!r} within {timeout_s} s; it said: {self.output}")

    def wait_until_it_speaks(self, timeout_s: float = 10.0) -> str:
        return self.wait_for_line("", timeout_s)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Return the exit status; the test fails if the command still runs after ``timeout_s``."""
        rest, _ = self._process.communicate(timeout=timeout_s)
        self.output += rest
        return self._process.returncode


@contextmanager
def running(
    *arguments: object, cwd: Path | None = None, program: Sequence[str] = AIRMOE
) -> Iterator[Command]:
    """Start the command; whatever happens, it does not outlive the block."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:  # tests started in the background: a child would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*program, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
    )
    try:
        yield Command(process)
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def ended(
    *arguments: object,
    cwd: Path | None = None,
    program: Sequence[str] = AIRMOE,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 90.0,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*program, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
        timeout=timeout_s,
        check=False,
    )


def processes_about(marker: object) -> dict[int, str]:
    """Process number and command line of every other process that names ``marker``."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with suppress(OSError):  # it ended meanwhile
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(marker) in line:
                    found[int(folder.name)] = line
    return found


def left_after(marker: object, patience_s: float = 5.0) -> dict[int, str]:
    """The processes about ``marker`` that are still there after ``patience_s``; none as soon as none are."""
    deadline = time.monotonic() + patience_s
    while (left := processes_about(marker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def all_under(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, hidden or not: relative path to content, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
