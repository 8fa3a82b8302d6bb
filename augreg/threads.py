"""Kernels shared among threads: each call gets a range of the outermost index.

    shared(kernel, count, nanoseconds, *arguments)    is    kernel(0, count, *arguments),

in as many pieces as are worth a thread. Kernels release the interpreter, and what they compute for an index does not depend on
the range, so results have the same bits however many threads there are. Any number of Python threads may do this at once: they
share one pool, and none of them waits for a worker that has not begun.

A forked child has none of its parent's threads: its pool is made anew. torch's threads cannot be, so that a forked child uses
one of them.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

# nanoseconds of work that are worth a thread: waking it takes some tens of microseconds, more on a busy machine
_WORTH = 5e5
# pieces per thread: a thread that is late has less to do
_PIECES = 4


def _cores() -> int:
    """The cores that this process may use; fewer where NUMBA_NUM_THREADS, which users of numba know, says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("NUMBA_NUM_THREADS", "")
    return max(1, min(cores, int(wanted))) if wanted.isdecimal() else cores


_most = _cores()
_count = _most
_lock = Lock()
_pool: ThreadPoolExecutor | None = None


def set_threads(count: int) -> None:
    """Number of threads that augreg's kernels share their work among, in the whole process; all cores at the start.

    torch has threads of its own (`torch.set_num_threads`).

    Raises
    ------
    ValueError : if count is below 1 or above the number of cores (or NUMBA_NUM_THREADS, where that is lower).
    """
    global _count
    if not 1 <= count <= _most:
        raise ValueError(f"threads: expected 1 to {_most} on this machine, got {count}")
    _count = int(count)


def get_threads() -> int:
    """That number."""
    return _count


def shared(kernel: Callable[..., None], count: int, nanoseconds: float, *arguments: Any) -> None:
    """Call kernel(begin, end, *arguments) for ranges that make up range(count).

    Parameters
    ----------
    nanoseconds : about the time that one index takes on one thread: little work is not shared
    """
    workers = min(_count, count, int(count * nanoseconds / _WORTH))
    if workers <= 1:
        kernel(0, count, *arguments)
        return
    pieces = min(count, workers * _PIECES)
    turns = itertools.count()
    stopped = False

    def work() -> None:
        nonlocal stopped
        for turn in turns:
            if turn >= pieces or stopped:
                return
            try:
                kernel(count * turn // pieces, count * (turn + 1) // pieces, *arguments)
            except BaseException:
                stopped = True
                raise

    helpers = []
    try:
        pool = _shared_pool()
        helpers = [pool.submit(work) for _ in range(workers - 1)]
    except RuntimeError:  # at the very end of a process no thread can be had
        pass
    try:
        work()
    except BaseException:
        # an interrupt may have come between two pieces
        stopped = True
        _close()
        raise
    finally:
        # who has not begun is not waited for, who has begun writes into the arguments
        failures = [helper.exception() for helper in helpers if not helper.cancel()]
    for failure in failures:
        if failure is not None:
            raise failure


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_most, thread_name_prefix="augreg")
        return _pool


def _close() -> None:
    """After an interrupt no thread is left behind."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False)


def _after_fork() -> None:
    global _lock, _pool
    _lock, _pool = Lock(), None
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
