"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from augreg.training.loop import TrainingState

Log = Callable[[TrainingState], None]


@contextmanager
def tensorboard_log(directory: str | os.PathLike[str]) -> Iterator[Log | None]:
    """A function that adds a state to the curves in a folder, one of every number; None where TensorBoard is not installed.

    A run that is resumed adds to the same folder; steps that are taken again replace the earlier ones.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield None
        return
    writer: SummaryWriter | None = None

    def log(state: TrainingState) -> None:
        nonlocal writer
        # only now is it known where the run goes on
        writer = writer or SummaryWriter(str(directory), purge_step=state.step)
        for name, value in {**state.numbers, "learning_rate": state.learning_rate}.items():
            if math.isfinite(value):
                writer.add_scalar(name.replace("_", " "), value, state.step)

    try:
        yield log
    finally:
        if writer is not None:
            writer.close()
