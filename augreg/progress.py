"""How far a long call is, on stderr: a bar on a terminal, elsewhere (logs, notebooks, pipes) a line every ten seconds.

    for state in ar.progress.over(states, "train", total=2000, note=lambda state: f"loss {state.loss:.3f}"):
        ...
    with ar.progress.bar("fit", None):
        model = ar.fit_appearance_model(images)

What takes less than ten seconds says nothing where there is no terminal. While a bar stands on one, the first kernel that has to
be compiled is told of, once a process: it takes seconds, and nothing else moves. Lines say so as long as kernels are compiled.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH, _TIME = 20, len("0:00:00")
# seconds between lines
EVERY = 10.0
Update = Callable[[float, str], None]
T = TypeVar("T")
_COMPILING = "first use on this machine: compiling, 10 to 20 seconds, kept for later (`augreg compile` does all of it ahead)"
_COMPILED = "compiling, first use on this machine"
_told: list[str] = []


def compiling_is_expected() -> None:
    """Where it is what the command is for, nobody need be told."""
    _told.append("")


def over(states: Iterable[T], text: str, total: float | None = None, *, note: Callable[[T], str] | None = None) -> Iterator[T]:
    """The same states, shown as they come.

    Parameters
    ----------
    states : of training, of a registration, of shards: whatever is iterated
    text : what is done, a word or two
    total : how many there will be; None if that is not known
    note : what is said of a state, beside how many there were
    """
    with bar(text, total) as update:
        for count, state in enumerate(states, 1):
            update(count, note(state) if note is not None else "")
            yield state


@contextmanager
def bar(text: str, total: float | None, *, shown: bool = True) -> Iterator[Update]:
    """A bar, or lines; call the result with how much is done of `total` (None: not known), and a note.

    Parameters
    ----------
    shown : if not, nothing is: of a team of processes only the first one speaks
    """
    from rich.console import Console

    console = Console(file=sys.stderr)
    if not shown:
        yield _unheard
    elif console.is_terminal:
        with _drawn(console, text, total) as update:
            yield update
    else:
        with _written(text, total) as update:
            yield update


def _unheard(done: float, note: str = "") -> None:
    """For whom nobody listens to."""


@contextmanager
def _drawn(console: Console, text: str, total: float | None) -> Iterator[Update]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    from solvers.compiling import listening

    columns = (
        TextColumn("{task.description}"),
        BarColumn(_WIDTH),
        TaskProgressColumn(),
        # where a terminal is narrow the note is cut, and not the time that is left
        TimeElapsedColumn(table_column=Column(min_width=_TIME)),
        TimeRemainingColumn(table_column=Column(min_width=_TIME)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(text, total=total, note="")

        def update(done: float, note: str = "") -> None:
            progress.update(task, completed=done, note=note)

        def compiling(kernel: str) -> None:
            if not _told:
                console.print(_COMPILING, style="dim", highlight=False)
            _told.append(kernel)

        with listening(compiling):
            yield update


@contextmanager
def _written(text: str, total: float | None) -> Iterator[Update]:
    from solvers.compiling import listening

    stream, started, ended = sys.stderr, time.monotonic(), threading.Event()
    compiled: list[str] = []
    last: list[Any] = [0.0, ""]

    def update(done: float, note: str = "") -> None:
        last[:] = done, note

    def write() -> None:
        # a clock of its own: calls that report nothing on their way are told of too
        while not ended.wait(EVERY):
            note = _COMPILED if compiled and "" not in _told else last[1]
            compiled.clear()
            print(line(text, last[0], total, time.monotonic() - started, note), file=stream, flush=True)

    clock = threading.Thread(target=write, name=f"progress of {text}", daemon=True)
    clock.start()
    try:
        with listening(compiled.append):
            yield update
    finally:
        ended.set()
        clock.join()


def line(text: str, done: float, total: float | None, seconds: float, note: str) -> str:
    """What a log is told: the share that is done, the time since the start, what is left of it at this pace, and the note."""
    parts = [f"{_clock(seconds)} since the start"]
    if total and done > 0:
        share = min(done / total, 1.0)
        parts = [f"{100 * share:.0f} %", *parts, f"about {_clock(seconds * (1 - share) / share)} left"]
    return f"augreg: {text}: {', '.join(parts)}" + (f"; {note}" if note else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
