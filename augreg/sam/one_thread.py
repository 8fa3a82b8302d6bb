"""LAPACK with one thread, where matrices are thin."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_thread() -> threadpool_limits:
    """One thread inside a block: more would wait for each other longer than they work, on a busy machine ten times longer."""
    return threadpool_limits(limits=1, user_api="blas")
