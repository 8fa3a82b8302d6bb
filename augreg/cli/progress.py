"""Progress bars on stderr; none where stderr is not a terminal.

While a bar stands, the first kernel that has to be compiled is told of, once a process: it takes seconds, and nothing else moves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from solvers.compiling import listening

Update = Callable[[float, str], None]
_COMPILING = "first use on this machine: compiling, 10 to 20 seconds, kept for later (`augreg compile` does all of it ahead)"
_told: list[str] = []


@contextmanager
def bar(text: str, total: float | None) -> Iterator[Update]:
    """A bar; call the result with how much is done of `total` (None: not known), and a note."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=total, note="")

        def update(done: float, note: str = "") -> None:
            progress.update(task, completed=done, note=note)

        def compiling(kernel: str) -> None:
            if console.is_terminal and not _told:
                console.print(_COMPILING, style="dim", highlight=False)
            _told.append(kernel)

        with listening(compiling):
            yield update
