"""The airmoe command as a process of its own, and a look at all processes of this machine.

Time limits are guards against a hang: far beyond what a busy machine needs, they say nothing of speed.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

AIRMOE = (sys.executable, "-m", "airmoe.cli")

_TRAINING_ALONE = ("torch", "onnx", "onnxscript", "safetensors", "sklearn", "sionna", "transformers")
_STUDY = ("matplotlib", "tensorboard", "numba", "llvmlite")
_SCRIPT_WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({missing}))  # importing them raises ImportError
sys.argv[0] = "airmoe"
runpy.run_module("airmoe.cli", run_name="__main__")
"""


def airmoe_without(*missing: str) -> tuple[str, ...]:
    """Return the command line of an installation without these packages."""
    return sys.executable, "-c", _SCRIPT_WITHOUT.format(missing=missing)


AIRMOE_WITHOUT_TORCH = airmoe_without(*_TRAINING_ALONE)
"""As `pip install airmoe[study]` leaves it."""

AIRMOE_CORE = airmoe_without(*_TRAINING_ALONE, *_STUDY)
"""As `pip install airmoe` leaves it."""

HANGS_AFTER_S = 240.0
"""No command of these tests takes that long, however busy the machine is."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["airmoe.networked", "airmoe.studies.demo.run"])


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

    def wait_for_line(self, beginning: str, timeout_s: float = HANGS_AFTER_S) -> str:
        """Return the next line that begins so; the test fails if there is none in time."""
        return self._wait_for_line(lambda line: line.startswith(beginning), beginning, timeout_s)

    def wait_for_line_with(self, words: str, timeout_s: float = HANGS_AFTER_S) -> str:
        """Return the next line that has these words; the test fails if there is none in time."""
        return self._wait_for_line(lambda line: words in line, words, timeout_s)

    def _wait_for_line(self, is_it: Callable[[str], bool], what: str, timeout_s: float) -> str:
        assert self._process.stdout is not None
        overdue = threading.Timer(timeout_s, self._process.kill)
        overdue.start()
        try:
            for line in self._process.stdout:
                self.output += line
                if is_it(line):
                    return line
        finally:
            overdue.cancel()
        raise AssertionError(f"no line {what!r} within {timeout_s} s; it said: {self.output}")

    def wait_until_it_speaks(self) -> str:
        return self.wait_for_line("")

    def wait_until(self, happened: Callable[[], object]) -> None:
        """Return as soon as something has happened; the test fails if the command ends or hangs before."""
        deadline = time.monotonic() + HANGS_AFTER_S
        while not happened():
            assert self.is_running, f"it ended: {self.wait()}, and said: {self.output}"
            assert time.monotonic() < deadline, "it hangs"
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float = HANGS_AFTER_S) -> int:
        """Return the exit status; the test fails if the command hangs."""
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
        process.wait(HANGS_AFTER_S)
        assert process.stdout is not None
        process.stdout.close()
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def ended(
    *arguments: object,
    cwd: Path | None = None,
    program: Sequence[str] = AIRMOE,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = HANGS_AFTER_S,
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


def ended_in_fork(
    *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in a fork of a process that has loaded PyTorch: seconds less for each."""
    cwd = cwd or Path.cwd()
    told = {"COLUMNS": "200", **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _FORKS.Process(target=_run, args=([str(word) for word in arguments], cwd, told, out, err))
        process.start()
        process.join(HANGS_AFTER_S)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{arguments} hangs; it said: {out.read_text()}{err.read_text()}")
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _run(arguments: list[str], cwd: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ |= environment
    sys.argv = ["airmoe", *arguments]
    from airmoe.cli import main  # not before: it asks the environment how wide a line is

    main()


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


def left_after(marker: object, patience_s: float = HANGS_AFTER_S) -> dict[int, str]:
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
