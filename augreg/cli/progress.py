"""Progress bars on stderr; none where stderr is not a terminal.

While a bar stands, the first kernel that has to be compiled is told of, once a process: it takes seconds, and nothing else moves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WIDTH, _TIME = 20, len("0:00:00")
Update = Callable[[float, str], None]
_COMPILING = "first use on this machine: compiling, 10 to 20 seconds, kept for later (`augreg compile` does all of it ahead)"
_told: list[str] = []


def compiling_is_expected() -> None:
    """Where it is what the command is for, nobody need be told."""
    _told.append("")


@contextmanager
def bar(text: str, total: float | None) -> Iterator[Update]:
    """A bar; call the result with how much is done of `total` (None: not known), and a note."""
    from rich.console import Console
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
