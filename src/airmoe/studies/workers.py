"""Executors that measure curves of a study: processes of this machine, or the workers of a Dask cluster.

This module imports nothing heavy: a worker sets its number of threads before it loads NumPy and PyTorch.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airmoe.errors import AirmoeError, InvalidInputError, require

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

MOST_WORKERS = 1024
ANSWER_S = 40.0
"""How long a scheduler is waited for; Dask itself waits for a connection for 30 s."""
LOOK_S = 5.0
"""How often it is looked whether a cluster has a worker."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def worker_processes(number: int) -> Iterator[Executor]:
    """Yield an executor of ``number`` one-thread processes; none outlives the block, or this process.

    Raises:
        InvalidInputError: not from 1 to `MOST_WORKERS`.
    """
    if not 1 <= number <= MOST_WORKERS:
        raise InvalidInputError("workers", number, f"an integer from 1 to {MOST_WORKERS}")
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        workers = set(multiprocessing.active_children()) - others
        for process in workers:
            process.terminate()
        for process in workers:
            process.join()
        raise
    finally:
        executor.shutdown()


@contextmanager
def dask_workers(address: str) -> Iterator[Executor]:
    """Yield an executor of the workers of the Dask cluster whose scheduler is at an address.

    A cluster without a worker is waited for, since some get their workers when there is work; that is logged.

    Raises:
        MissingExtraError: ``distributed`` is not installed.
        InvalidInputError: no scheduler answers.
        AirmoeError: a worker has another version of airmoe, or none.
    """
    require("dask", "distributed", by="--dask")
    try:
        client = _connected(address)
    except Exception as error:  # what listens there may be anything
        why = str(error) or f"no word of one in {ANSWER_S:g} s"
        raise InvalidInputError("dask", address, f"the address of a Dask scheduler ({why})") from None
    ended = threading.Event()
    watch = threading.Thread(target=_tell_of_no_worker, args=(client, address, ended), daemon=True)
    with client:
        _refuse_other_versions(client)
        watch.start()
        try:
            yield client.get_executor(pure=False)
        finally:
            ended.set()
            watch.join()


def _connected(address: str) -> "Client":
    """Return a client of a scheduler; Dask alone would wait forever for one that answers nonsense."""
    from distributed import Client

    for name in ("distributed", "distributed.client"):  # they show traces of what is told here in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    connected = Future["Client"]()

    def connect() -> None:
        try:
            connected.set_result(Client(address))
        except Exception as error:
            connected.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    return connected.result(ANSWER_S)


def _refuse_other_versions(client: "Client") -> None:
    versions = client.get_versions(packages=["airmoe"])
    here = versions["client"]["packages"]["airmoe"]
    for worker, told in versions["workers"].items():
        there = told["packages"]["airmoe"]
        if there != here:
            raise AirmoeError(f"the worker {worker} has {there or 'no'} airmoe; expected version {here}")


def _tell_of_no_worker(client: "Client", address: str, ended: threading.Event) -> None:
    """Log when the cluster has no worker any more, or none yet."""
    had_one = True
    while not ended.is_set():
        try:
            has_one = bool(client.nthreads())
        except OSError:  # the scheduler is gone, which the executor tells
            return
        if had_one and not has_one:
            _log.warning("the Dask cluster at %s has no worker; waiting for one", address)
        had_one = has_one
        ended.wait(LOOK_S)


def _begin_worker() -> None:
    os.environ |= dict.fromkeys(THREADS, "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began this one ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
