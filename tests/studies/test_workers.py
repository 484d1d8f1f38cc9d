"""Curves measured by other processes: the same rows, models made once, nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from airmoe.errors import AirmoeError, InvalidInputError, MissingExtraError
from airmoe.plugins import load_plugins
from airmoe.studies import workers
from airmoe.studies.curves import FigureKind, Row, Study, WithoutWorkspace, Workspace, run_study
from airmoe.studies.workers import dask_workers, worker_processes
from tests.studies.lines import (
    FIGURES,
    LineSettings,
    draw,
    measure_line,
    study_of_lines,
    tables,
    write_figures,
)
from tests.system.commands import all_under

WORKERS = 2


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with worker_processes(WORKERS) as executor:
        yield executor


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of_lines(tmp_path / "built_in")


def with_kind(study: Study, name: str, kind: FigureKind) -> Study:
    """The study with figures of another kind only."""
    text = FIGURES["lines"].replace('"line"', f'"{name}"')
    folder = study.folder.parent / name
    return replace(study, kinds={name: kind}, folder=write_figures(folder, **{name: text}))


def content_of(run: Path) -> dict[str, object]:
    """Everything in a run folder but the times in its record and in TensorBoard's events."""
    dated = ("run.json", "tensorboard/")
    content: dict[str, object] = {
        name: text for name, text in all_under(run).items() if not name.startswith(dated)
    }
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return content | {"run.json": {key: value for key, value in record.items() if key != "seconds"}}


def test_processes_and_threads_leave_the_same_folder_as_this_process(
    study: Study, tmp_path: Path, processes: Executor
) -> None:
    run_study(study, tmp_path / "here", scale="gpu")
    run_study(study, tmp_path / "processes", scale="gpu", executor=processes)
    with ThreadPoolExecutor(WORKERS) as threads:
        run_study(study, tmp_path / "threads", scale="gpu", executor=threads)
    assert content_of(tmp_path / "processes") == content_of(tmp_path / "here")
    assert content_of(tmp_path / "threads") == content_of(tmp_path / "here")


def test_a_curve_tells_its_progress_seed_by_seed(study: Study, tmp_path: Path, processes: Executor) -> None:
    told: list[tuple[str, int, int]] = []
    run_study(
        study,
        tmp_path / "out",
        only=["lines"],
        executor=processes,
        progress=lambda activity, done, total, note="", /: told.append((activity, done, total)),
    )
    assert sorted(told) == [("lines: a", 2, 4), ("lines: a", 4, 4), ("lines: b", 2, 4), ("lines: b", 4, 4)]


def test_what_is_timed_is_measured_in_this_process(study: Study, tmp_path: Path, processes: Executor) -> None:
    texts = {
        "lines": FIGURES["lines"].replace('"line"', '"time"'),
        "modelled": FIGURES["modelled"].replace('"model"', '"process"'),
    }
    told: dict[str, str] = {}
    run_study(
        study,
        tmp_path / "out",
        settings=write_figures(tmp_path / "settings", **texts),
        executor=processes,
        progress=lambda activity, done, total, note="", /: told.update({activity: note}),
    )
    measured_by = {
        figure: {
            line.rpartition(",")[2]
            for line in (tmp_path / "out" / f"{figure}.csv").read_text(encoding="utf-8").splitlines()[1:]
        }
        for figure in texts
    }
    assert measured_by["lines"] == {str(os.getpid())}
    assert str(os.getpid()) not in measured_by["modelled"]
    assert list(told)[-2:] == ["lines: a", "lines: b"]  # after all others
    assert told["lines: a"] == "timed: measured alone, in this process"
    assert re.fullmatch(r"\(\d+\.\d s in workers\)", told["modelled: a"])


def measure_after_others(settings: LineSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """As `measure_line`, of a "model" that all want at the same time; each making of it is a file."""
    made = work.folder / "made"
    made.mkdir(exist_ok=True)
    gather(work.folder, "ready", patience_s=60)
    with work.locked("model"):
        if not (work.folder / "model.txt").exists():
            (made / f"by {os.getpid()}").touch()
            gather(work.folder, "making", patience_s=0.5)  # nobody else comes unless the lock fails
            (work.folder / "model.txt").touch()
    yield from measure_line(settings, seed)


def gather(folder: Path, name: str, patience_s: float) -> None:
    """Wait until all workers are here."""
    (folder / f"{name} {os.getpid()}").touch()
    deadline = time.monotonic() + patience_s
    while len(list(folder.glob(f"{name} *"))) < WORKERS and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_model_that_several_workers_want_at_once_is_made_once(
    study: Study, tmp_path: Path, processes: Executor
) -> None:
    kind = FigureKind(LineSettings, ("y",), measure_after_others, draw, tables)
    wanted = replace(with_kind(study, "lines", kind), keeps=("made",))
    run_study(wanted, tmp_path / "out", executor=processes)
    assert len(list((tmp_path / "out" / "made").iterdir())) == 1


_inside: list[int] = []


def measure_alone(settings: LineSettings, seed: int) -> Iterator[Row]:
    """How many curves are measured in this process right now."""
    _inside.append(seed)
    for x in settings.values:
        time.sleep(0.02)  # room for others, if they are let in
        yield {"x": x, "seed": seed, "y": len(_inside)}
    _inside.remove(seed)


def test_threads_of_one_process_measure_one_curve_after_the_other(study: Study, tmp_path: Path) -> None:
    """They share its random state."""
    kind = FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_alone), draw, tables)
    with ThreadPoolExecutor(WORKERS) as threads:
        run_study(with_kind(study, "lines", kind), tmp_path / "out", executor=threads)
    rows = (tmp_path / "out" / "lines.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {row.rpartition(",")[2] for row in rows} == {"1"}


def measure_too_much(settings: LineSettings, seed: int) -> Iterator[Row]:
    if seed == 1 and settings.slope == 2.0:
        raise InvalidInputError("slope", 2.0, "less")
    yield from measure_line(settings, seed)


def measure_nonsense(settings: LineSettings, seed: int) -> Iterator[Row]:
    yield {"x": 1.0, "seed": seed, "y": 1.0 / (seed - seed)}


def test_an_error_names_figure_curve_and_seed_wherever_it_happens(
    study: Study, tmp_path: Path, processes: Executor
) -> None:
    kind = FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_too_much), draw, tables)
    for number, executor in enumerate((None, processes)):
        with pytest.raises(AirmoeError, match=r"^lines: b, seed 1: slope is 2.0; expected less$"):
            run_study(with_kind(study, "lines", kind), tmp_path / f"{number}", executor=executor)
        rows = tmp_path / f"{number}.partial" / "rows" / "lines"
        assert not (rows / "b.csv").exists()  # what is done is kept, to be resumed


def test_an_error_that_nobody_foresaw_comes_with_its_trace(
    study: Study, tmp_path: Path, processes: Executor
) -> None:
    kind = FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_nonsense), draw, tables)
    with pytest.raises(RuntimeError, match=r"^lines: ., seed .: ZeroDivisionError: ") as raised:
        run_study(with_kind(study, "lines", kind), tmp_path / "out", executor=processes)
    assert "measure_nonsense" in str(raised.value.__cause__)


def measure_into_nowhere(settings: LineSettings, seed: int) -> Iterator[Row]:
    Path("/nowhere/model.txt").read_text(encoding="utf-8")
    yield {}


def test_trouble_of_a_worker_that_a_user_can_end_is_told_in_one_line(
    study: Study, tmp_path: Path, processes: Executor
) -> None:
    kind = FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_into_nowhere), draw, tables)
    said = r"^lines: ., seed .: a worker: /nowhere/model\.txt: No such file or directory; expected to be able"
    with pytest.raises(AirmoeError, match=said):
        run_study(with_kind(study, "lines", kind), tmp_path / "out", executor=processes)


AN_OWN_POLICY = """
from airmoe.plugins import register

@register("policy", "own")
class Own:
    def route(self, scores_TE, cost, slot): ...
"""


class Without(Executor):
    """An executor whose workers do not find a file."""

    def __init__(self, file: Path, others: Executor) -> None:
        self._file, self._others = file, others

    def submit(self, *what: Any, **named: Any) -> Future[Any]:
        self._file.unlink(missing_ok=True)
        return self._others.submit(*what, **named)


def test_a_plugin_that_a_worker_lacks_is_named(study: Study, tmp_path: Path, processes: Executor) -> None:
    own = tmp_path / "own.py"
    own.write_text(AN_OWN_POLICY, encoding="utf-8")
    load_plugins([own])
    with pytest.raises(AirmoeError, match=r"^a worker: plugin is '.*own\.py'; expected a readable Python"):
        run_study(study, tmp_path / "out", only=["lines"], executor=Without(own, processes))


class Failing(Executor):
    """An executor that fails by itself, in its own way: as Dask's does when a worker dies again and again."""

    def submit(self, *_: object, **__: object) -> Future[Any]:  # type: ignore[override]
        failed = Future[Any]()
        failed.set_exception(LookupError("attempted on 4 workers"))
        return failed


def test_an_executor_that_fails_is_told_and_the_run_can_be_resumed(study: Study, tmp_path: Path) -> None:
    said = r"^a worker ended before its work was done \(attempted on 4 workers\); resume the run$"
    with pytest.raises(AirmoeError, match=said):
        run_study(study, tmp_path / "out", executor=Failing())
    run_study(study, tmp_path / "out", resume=True)


def measure_and_die(settings: LineSettings, seed: int) -> Iterator[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield {}


def test_a_worker_that_dies_is_told_and_the_run_can_be_resumed(study: Study, tmp_path: Path) -> None:
    kind = FigureKind(LineSettings, ("y",), WithoutWorkspace(measure_and_die), draw, tables)
    dying = with_kind(study, "lines", kind)
    with (
        pytest.raises(AirmoeError, match="a worker ended before its work was done"),
        worker_processes(1) as one,
    ):
        run_study(dying, tmp_path / "out", executor=one)
    alive = replace(dying, kinds={"lines": study.kinds["line"]})
    run_study(alive, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "lines.csv").exists()


def test_a_worker_has_one_thread(processes: Executor) -> None:
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        assert processes.submit(os.getenv, variable).result() == "1"
    assert processes.submit(threads_of_torch).result() == 1


def threads_of_torch() -> int:
    import torch

    return torch.get_num_threads()


class Interrupted(BaseException):
    """As Ctrl-C."""


def test_workers_end_with_the_block_even_in_the_middle_of_their_work() -> None:
    number = 0

    def interrupted() -> None:
        nonlocal number
        with worker_processes(1) as one:
            number = one.submit(os.getpid).result()
            one.submit(time.sleep, 600)
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert not psutil.pid_exists(number)


BUSY = """
import os, time
from airmoe.studies.workers import worker_processes
if __name__ == "__main__":
    with worker_processes(1) as one:
        print(one.submit(os.getpid).result(), flush=True)
        one.submit(time.sleep, 600).result()
"""


def test_workers_end_with_the_process_that_began_them_however_it_ends() -> None:
    begun = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    assert begun.stdout is not None
    with begun.stdout:
        worker = psutil.Process(int(begun.stdout.readline()))
        begun.kill()
        begun.wait()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert not alive


@pytest.mark.parametrize("number", [0, -1, 1025])
def test_a_number_of_workers_that_cannot_be_is_refused(number: int) -> None:
    said = f"workers is {number}; expected an integer from 1 to 1024"
    with pytest.raises(InvalidInputError, match=said), worker_processes(number):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingExtraError, match=r"distributed; install with: pip install .*\[dask\]"),
        dask_workers("tcp://127.0.0.1:8786"),
    ):
        pass


def test_a_dask_cluster_leaves_the_same_folder_as_this_process(study: Study, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    run_study(study, tmp_path / "here", scale="gpu")
    with (
        distributed.LocalCluster(n_workers=2, dashboard_address=None) as cluster,
        dask_workers(cluster.scheduler_address) as executor,
    ):
        run_study(study, tmp_path / "dask", scale="gpu", executor=executor)
    assert content_of(tmp_path / "dask") == content_of(tmp_path / "here")


@pytest.mark.parametrize("address", ["no.where:0", "", "tls://127.0.0.1:1", "http://127.0.0.1:1"])
def test_an_address_without_a_dask_scheduler_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "ANSWER_S", 1.0)
    with (
        pytest.raises(InvalidInputError, match=rf"dask is '{address}'; expected the address of a Dask"),
        dask_workers(address),
    ):
        pass


def test_a_server_that_never_answers_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(InvalidInputError, match=r"of a Dask scheduler \(no word of one in 1 s\)"),
            dask_workers(address),
        ):
            pass


def test_a_dask_cluster_without_a_worker_is_waited_for_and_told(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        hired = threading.Timer(2.0, cluster.scale, [1])
        with caplog.at_level("WARNING", "airmoe"), dask_workers(cluster.scheduler_address) as executor:
            hired.start()
            run_study(study, tmp_path / "out", only=["lines"], executor=executor)
        assert f"{cluster.scheduler_address} has no worker; waiting for one" in caplog.text


def test_a_dask_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    versions = {"client": {"packages": {"airmoe": "2.0"}}, "workers": {}}
    with distributed.LocalCluster(n_workers=1, dashboard_address=None) as cluster:
        for there, said in {"1.0": "has 1.0 airmoe", None: "has no airmoe"}.items():
            versions["workers"] = {"tcp://a:1": {"packages": {"airmoe": there}}}
            monkeypatch.setattr(distributed.Client, "get_versions", lambda *_, **__: versions)
            with (
                pytest.raises(AirmoeError, match=rf"^the worker tcp://a:1 {said}; expected version 2\.0$"),
                dask_workers(cluster.scheduler_address),
            ):
                pass
