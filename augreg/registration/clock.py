"""Time against a budget: how much is left, and whether the next step would end in time.

One clock goes through a whole registration. Whoever makes a step says what it should take, w seconds on one core of a usual
machine, and the clock learns from every step what it takes here:

    expected(kind, w) = w * r,        r = time / w of the last steps of its kind, of all steps where there were none.

A step is begun only if it is expected to end in time, so that a budget is a promise and not a reason to look at the clock after.
What a kernel costs the first time, when it is compiled or read from a cache, counts like everything else: budgets are for
processes that have registered before, or for those who can wait (`augreg compile`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

# what may come on top of a step's expected time, as a share of it
_RESERVE = 0.15
# a step that takes so many times longer than it should has waited for something that is no measure, such as a compiler
_SLOWEST = 6.0
# weight of the last step of a kind against those before
_NEW = 0.6
# a budget is kept if it is exceeded by so much at most: a share of it, or seconds, whichever is larger
_LATE_SHARE, _LATE_SECONDS = 0.1, 0.005


@dataclass
class Pace:
    """How long steps take here, as multiples of what they should; kept by kind of step, and of all of them.

    Parameters
    ----------
    ratios : of every kind met so far
    usual : of all steps
    """

    ratios: dict[str, float] = field(default_factory=dict)
    usual: float = 1.0

    def of(self, kind: str) -> float:
        """The ratio r to be expected."""
        return self.ratios.get(kind, self.usual)

    def learn(self, kind: str, ratio: float) -> None:
        """One more step has taken so much."""
        before, ratio = self.ratios.get(kind), min(ratio, _SLOWEST)
        # a step slower than those before is believed at once
        known = ratio if before is None or ratio > before else _NEW * ratio + (1 - _NEW) * before
        self.ratios[kind] = known
        self.usual = max(0.5, float(np.median(list(self.ratios.values()))))


@dataclass(frozen=True)
class Clock:
    """Starts when it is made.

    Parameters
    ----------
    budget : seconds after which the best transform so far is wanted; None for no limit
    now : tells the time, seconds
    begin : time of the start
    pace : what the steps so far have taken
    """

    budget: float | None = None
    now: Callable[[], float] = time.perf_counter
    begin: float = math.nan
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        if math.isnan(self.begin):
            object.__setattr__(self, "begin", self.now())

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self.now() - self.begin

    @property
    def left(self) -> float:
        """Seconds of the budget; infinite without one."""
        return math.inf if self.budget is None else self.budget - self.seconds

    @property
    def spent(self) -> bool:
        """Whether the budget is."""
        return self.left <= 0

    @property
    def told(self) -> str:
        """The budget, to be read."""
        return "no budget" if self.budget is None else f"the budget of {self.budget:.3g} s"

    @property
    def limited(self) -> bool:
        """Whether there is a budget."""
        return self.budget is not None and self.budget < math.inf

    def within(self, budget: float | None) -> Clock:
        """The same time against another budget, if that is less."""
        return self if budget is None or (self.budget is not None and self.budget <= budget) else replace(self, budget=budget)

    def onward(self) -> Clock:
        """What is left, for a part that begins now."""
        return replace(self, begin=self.now(), budget=None if self.budget is None else max(self.left, 0.0))

    def expected(self, kind: str, work: float) -> float:
        """Seconds that a step should take here, given what it takes on a usual core."""
        return (1 + _RESERVE) * work * self.pace.of(kind)

    def allows(self, kind: str, work: float, share: float = 1.0) -> bool:
        """Whether such a step would end within a share of the time that is left."""
        return not self.limited or self.expected(kind, work) <= share * self.left

    @contextmanager
    def timed(self, kind: str, work: float) -> Iterator[None]:
        """Around a step that should take so many seconds on a usual core: the clock learns from it."""
        begin = self.now()
        yield
        self.learn(kind, work, begin)

    def learn(self, kind: str, work: float, begin: float) -> None:
        """A step that should take so many seconds on a usual core, and has begun then, has ended."""
        if self.limited:
            self.pace.learn(kind, (self.now() - begin) / work)


def as_budget(value: Any) -> float | None:
    """A budget as it may be given: a positive number of seconds, or None; infinity is no limit.

    Raises
    ------
    TypeError : for anything but a number. ValueError : for numbers that are not positive.
    """
    if value is None:
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"budget: expected a number of seconds, got {type(value).__name__}; None is no limit")
    if not value > 0:
        raise ValueError(f"budget: expected a positive number of seconds, got {value}; None is no limit")
    return float(value)


def kept(budget: float, seconds: float) -> bool:
    """Whether a result after so many seconds has come in time: at most a tenth of the budget or 5 ms late, the larger one."""
    return seconds <= budget + max(_LATE_SHARE * budget, _LATE_SECONDS)
