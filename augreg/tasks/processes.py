"""Tasks in the processes of one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any

from augreg.threads import get_threads, set_threads

# finishes what has a number, and reports; the same call again finds it finished
Task = Callable[[int], Any]
Finished = Iterator[tuple[int, Any]]
# does a task for some numbers, and tells as they are finished
Place = Callable[[Task, Sequence[int]], Finished]


@contextmanager
def processes(workers: int) -> Iterator[Place]:
    """Some processes of this machine; one is this process itself. Where one is killed, another takes its place.

    Raises
    ------
    RuntimeError : where they are killed again before any task is finished, by lack of memory, say.
    """
    yield partial(_run, workers)


def _run(workers: int, task: Task, numbers: Sequence[int]) -> Finished:
    if workers == 1 or len(numbers) < 2:
        for number in numbers:
            yield number, task(number)
        return
    left = set(numbers)
    while left:
        before = len(left)
        try:
            for number, report in _round(task, sorted(left), workers):
                left.remove(number)
                yield number, report
        except BrokenProcessPool as error:
            if len(left) == before:
                raise RuntimeError(
                    f"workers: expected {workers} processes that finish their tasks, they were killed before any was finished; "
                    "run again to go on, with fewer workers if memory is short"
                ) from error


def _round(task: Task, numbers: Sequence[int], workers: int) -> Finished:
    count = min(workers, len(numbers))
    start = task, max(1, get_threads() // count)
    # forked children of a process with threads may hang: they start afresh
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start, initargs=start)
    try:
        futures = {pool.submit(_work, number): number for number in numbers}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


# the task of a worker process: it comes once, with the start of the process, and is too large to come again with every number; a
# pool calls functions of modules, which find it here
_WORKER: dict[str, Task] = {}


def _start(task: Task, threads: int) -> None:
    # what is made is written whole or not at all: workers may end anywhere, and without a word
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    Thread(target=_end_with_parent, daemon=True).start()
    set_threads(threads)
    _WORKER["task"] = task


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(number: int) -> Any:
    return _WORKER["task"](number)
