"""Which results to look at first: those that differ from the cohort's others in the bad direction.

    doubt = 3 [it has warnings] + max over measures of  max(0, (x - median) / max(least, 1.4826 median |x - median|))

with the sign of each measure such that larger is worse: a lower similarity or Dice, a larger objective or share of folds, and a
growth on either side. What has failed comes before all. A number above 3 or so is rare where all went alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from augreg.cohort.lines import Line

# robust standard deviations that a warning counts
_WARNED = 3.0
# from so many on a median absolute deviation tells something
_FEWEST = 4
_MAD = 1.4826
# each measure, larger where it is worse, and the least standard deviation it is taken to have: smaller differences do not matter
_WORSE: dict[str, tuple[Callable[[Line], float], float]] = {
    "similarity": (lambda line: -line.similarity, 0.005),
    "dice": (lambda line: -line.dice, 0.005),
    "objective": (lambda line: line.objective, 1e-4),
    "folding": (lambda line: line.folding, 1e-3),
}
_GROWTH = 0.01


def doubts_of(lines: Sequence[Line]) -> list[float]:
    """The doubt of each line, at least 0; infinite for what has failed."""
    done = [line for line in lines if not line.failed]
    off = iter(np.max([np.zeros(len(done)), *_measures(done).values()], axis=0))
    return [math.inf if line.failed else _WARNED * bool(line.warnings) + float(next(off)) for line in lines]


def off_in(line: Line, lines: Sequence[Line]) -> str:
    """The measure in which a line that has not failed is off the others most, its value, and the others' median."""
    done = [one for one in lines if not one.failed]
    measures = _measures(done)
    name = max(measures, key=lambda one: measures[one][done.index(line)])
    return f"{name} {getattr(line, name):.3g}, the median is {np.nanmedian([getattr(one, name) for one in done]):.3g}"


def _measures(done: Sequence[Line]) -> dict[str, npt.NDArray[np.floating]]:
    """How far each line is off in each measure."""
    growth = np.array([math.log(line.growth) if line.growth > 0 else math.nan for line in done])
    measures = {name: _off(np.array([worse(line) for line in done]), least) for name, (worse, least) in _WORSE.items()}
    return {**measures, "growth": np.abs(_off(growth, _GROWTH))}


def _off(values: npt.NDArray[np.floating], least: float) -> npt.NDArray[np.floating]:
    """How far each is from the median, in robust standard deviations of at least so much; 0 where that is not known."""
    known = values[np.isfinite(values)]
    if len(known) < _FEWEST:
        return np.zeros(len(values))
    median = float(np.median(known))
    spread = max(_MAD * float(np.median(np.abs(known - median))), least)
    return np.where(np.isfinite(values), (values - median) / spread, 0.0)
