"""A training as commands show it: a bar or lines, and curves where TensorBoard is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from augreg.cli.output import say
from augreg.progress import bar

if TYPE_CHECKING:
    # torch: loaded only where a command needs it
    from augreg.training import Team, TrainingState


def followed(
    states: Iterable[TrainingState],
    folder: str | os.PathLike[str],
    steps: int,
    team: Team,
    note: Callable[[TrainingState], str] = lambda state: f"loss {state.loss:.3f}",
) -> TrainingState | None:
    """The last of the states of a run, after all of them; None if there was none left. Of a team one process speaks and draws.

    Parameters
    ----------
    states : of `learn` or `train`
    folder : of the run
    steps : how many there will be, those of before included
    team : the processes
    note : what is said of a state
    """
    from augreg import training

    state = None
    first = team.rank == 0
    with training.tensorboard_log(Path(folder) / "logs") as log, bar("train", steps, shown=first) as update:
        for state in states:
            update(state.step, note(state))
            if log is not None and first:
                log(state)
    if log is None and first:
        say("augreg: no curves written: TensorBoard is not installed; pip install augreg[logs]")
    return state
