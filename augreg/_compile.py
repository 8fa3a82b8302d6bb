"""Compiling kernels: each one for many threads and for one.

A second thread costs more than it brings where there is little work, above all on a busy machine, and a team of threads that
shrinks and grows costs at every change. So a kernel whose outer loop is a `prange` can be compiled twice, and `threads_for` says
which of the two is meant.

Some processes and moments allow one thread alone, whatever is meant:

* A forked child has none of its parent's threads, but the state that waits for them. GNU OpenMP ends such a process or lets it
  wait for ever, so kernels of a forked child never share their work, and torch, which uses the same library, is told not to.
* numba's own layer of threads (`workqueue`, where there is no OpenMP) ends the process when two threads use it at once: there
  they go one after the other.

What a kernel computes does not depend on threads.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock, local
from typing import Any

from numba import get_num_threads, threading_layer

from solvers._compile import njit

__all__ = ["kernel", "njit", "threads_for"]

# nanoseconds of work from which on threads pay
_WORTH_SHARING = 1e6
_meant = local()
_in_turn = Lock()
_forked = False


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `numba.njit` with these options, cached, for many threads and for one."""

    def compile_both(function: Callable[..., Any]) -> Callable[..., Any]:
        settings = {"cache": True, "nogil": True, **options}
        shared = njit(parallel=True, **settings)(function)
        alone = njit(**settings)(_renamed(function, f"{function.__name__}_alone"))

        @wraps(function)
        def call(*arguments: Any) -> Any:
            if _forked or getattr(_meant, "alone", False):
                return alone(*arguments)
            if _threads_clash():
                with _in_turn:
                    return shared(*arguments)
            return shared(*arguments)

        return call

    return compile_both


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Kernels called inside share their work among threads only if it takes some time: `work`, nanoseconds on one thread."""
    before = getattr(_meant, "alone", False)
    _meant.alone = before or work < _WORTH_SHARING or _forked or get_num_threads() == 1
    try:
        yield
    finally:
        _meant.alone = before


def _threads_clash() -> bool:
    """Whether two threads must not share work at once. The layer is known, and loaded, once it is asked for its threads."""
    global _clash
    if _clash is None:
        get_num_threads()
        try:
            _clash = threading_layer() == "workqueue"
        except ValueError:  # without the compiler there is none
            _clash = False
    return _clash


_clash: bool | None = None


def _after_fork() -> None:
    global _forked
    _forked = True
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A copy under another name: numba keeps what it compiled by name, whatever its options."""
    assert isinstance(function, types.FunctionType)
    copy = types.FunctionType(function.__code__.replace(co_name=name), function.__globals__, name, function.__defaults__)
    copy.__qualname__, copy.__module__, copy.__doc__ = name, function.__module__, function.__doc__
    return copy
