"""How long a training takes, and what memory: measured by its first steps, by another learner of its kind, before it begins.

What is learned from is a function of the step's number, so the training that follows is the same as without.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

import torch

from augreg.training.learner import Learner
from augreg.training.loop import TrainingOptions
from augreg.training.machine import torch_threads
from augreg.training.place import Place
from augreg.training.team import ALONE, Team

# of which the first, which is slower, does not count
_TRIED = 4


@dataclass(frozen=True)
class Pace:
    """How fast steps are.

    Parameters
    ----------
    seconds : of a step, the mean over a team
    memory : largest that the process, or on CUDA the card, has held, bytes; NaN where the system does not say it
    device : where it computes
    """

    seconds: float
    memory: float
    device: str

    def steps(self, minutes: float) -> int:
        """As many as fit, at least one."""
        return max(1, int(60 * minutes / self.seconds))

    def said(self, steps: int) -> str:
        """In words."""
        total = self.seconds * steps
        for size, unit in ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds")):
            if total >= 2 * size or unit == "seconds":
                break
        memory = f", {self.memory / 2**30:.1f} GiB of memory" if math.isfinite(self.memory) else ""
        return f"{steps} steps take about {total / size:.3g} {unit}{memory} ({self.device}; measured on the first steps)"


def pace_of(learner: Learner, options: TrainingOptions, team: Team = ALONE) -> Pace:
    """The pace of a training that has not begun, of a learner that is not needed afterwards: it takes some steps.

    Raises
    ------
    ValueError : for a device that is not here, and pairs that the objective cannot look at.
    """
    place = Place.of(options.machine, team)
    for module in learner.modules.values():
        module.to(place.device).train()
    taken = []
    with torch_threads(options.machine.threads):
        learner.begin(place)
        for step in range(_TRIED):
            begin = time.perf_counter()
            numbers = learner.step(step, options.rate(step))
            learner.update()
            # the device has done it when it can tell
            float(numbers["loss"].detach())
            taken.append(time.perf_counter() - begin)
    seconds = team.mean(torch.tensor([sum(taken[1:]) / len(taken[1:])], device=place.device))
    return Pace(max(float(seconds), 1e-6), _memory(place.device), place.device.type)


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:
        # on Windows
        return math.nan
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else 1024 * most)
