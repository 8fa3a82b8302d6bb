"""Time since the start of a registration, against a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Clock:
    """Starts when it is made.

    Parameters
    ----------
    budget : time after which the best transform so far is wanted, seconds; None for no limit
    """

    budget: float | None = None
    begin: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.begin

    @property
    def spent(self) -> bool:
        """Whether the budget is."""
        return self.budget is not None and self.seconds >= self.budget
