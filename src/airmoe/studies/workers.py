"""Executors that measure curves of a study: processes of this machine, or the workers of a Dask cluster.

This module imports nothing heavy: a worker sets its number of threads before it loads NumPy and PyTorch.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from airmoe.errors import InvalidInputError, require

MOST_WORKERS = 1024
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

    Raises:
        MissingExtraError: ``distributed`` is not installed.
        InvalidInputError: no scheduler answers.
    """
    require("dask", "distributed", by="--dask")
    from distributed import Client

    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise InvalidInputError("dask", address, f"the address of a Dask scheduler ({error})") from None
    with client:
        yield client.get_executor(pure=False)


def _begin_worker() -> None:
    os.environ |= dict.fromkeys(THREADS, "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began this one ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
