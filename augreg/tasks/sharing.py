"""Who else writes into a folder: processes that work on it hold a lock on the folder together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # systems without such locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def at_work(folder: Path) -> Iterator[Callable[[], bool]]:
    """Hold the folder with all others at work on it; what is yielded says whether none is.

    Where the file system knows no locks nobody can be known to be alone.
    """
    if fcntl is None:
        yield lambda: False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        held = _locked(handle, fcntl.LOCK_SH)
        yield lambda: held and _locked(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
