"""Who is told before a kernel is compiled for the first time: it takes seconds, and nobody else says so. Imports no compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], None]] = []


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Inside, `listener` is called with the name of each kernel before it is compiled; not of those that are only loaded.

    The call comes from the thread that compiles.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(name: str) -> None:
    """Call them."""
    for listener in tuple(_listeners):
        listener(name)
