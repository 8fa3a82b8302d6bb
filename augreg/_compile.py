"""Compiling kernels: each one for many threads and for one.

A second thread costs more than it brings where there is little work, above all on a busy machine, and a team of threads that
shrinks and grows costs at every change. So a kernel whose outer loop is a `prange` is compiled twice, and `threads_for` says
which of the two is meant.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import local
from typing import Any

from numba import get_num_threads, njit

# nanoseconds of work from which on threads pay
_WORTH_SHARING = 1e6
_meant = local()


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `numba.njit` with these options, cached, for many threads and for one."""

    def compile_both(function: Callable[..., Any]) -> Callable[..., Any]:
        settings = {"cache": True, "nogil": True, **options}
        shared = njit(parallel=True, **settings)(function)
        alone = njit(**settings)(_renamed(function, f"{function.__name__}_alone"))

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return (alone if getattr(_meant, "alone", False) else shared)(*arguments)

        return call

    return compile_both


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Kernels called inside share their work among threads only if it takes some time: `work`, nanoseconds on one thread."""
    before = getattr(_meant, "alone", False)
    _meant.alone = before or work < _WORTH_SHARING or get_num_threads() == 1
    try:
        yield
    finally:
        _meant.alone = before


def _renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A copy under another name: numba keeps what it compiled by name, whatever its options."""
    assert isinstance(function, types.FunctionType)
    copy = types.FunctionType(function.__code__.replace(co_name=name), function.__globals__, name, function.__defaults__)
    copy.__qualname__, copy.__module__, copy.__doc__ = name, function.__module__, function.__doc__
    return copy
