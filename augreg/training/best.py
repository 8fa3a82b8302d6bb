"""The best state of a run by what is held out, of all its parts alike, and when a run ends that gets no better.

    look k = 1, 2, ...:   b_k = argmin over l <= k of m_l,      the run ends at the first k with k - b_k >= patience

m_l is the number that the learner's `goal` names, less is better; one that is not finite is no better, nor is a state that is
not. In a team the first process looks and tells the others, so that all of them keep and end alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from augreg.training.checkpoints import named_state, restore, spoilt
from augreg.training.learner import Learner


@dataclass(frozen=True, eq=False)
class Best:
    """What is known of the best state so far.

    Parameters
    ----------
    measure : m of its look
    step : number of steps behind it
    since : looks since then
    state : all that the learner remembered, networks and optimisers; empty before the first finite measure
    """

    measure: float = math.inf
    step: int = 0
    since: int = 0
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def after(self, learner: Learner, step: int, measure: float) -> Best:
        """The best one after a look with so many steps behind it."""
        # a step may have spoilt one player, and the measure of another does not tell
        if not measure < self.measure or spoilt(learner):
            return Best(self.measure, self.step, self.since + 1, self.state)
        return Best(measure, step, 0, {name: tensor.detach().clone() for name, tensor in named_state(learner).items()})

    def told(self) -> dict[str, float]:
        """Its numbers as JSON, for a checkpoint."""
        return {"since": self.since, **({"best_measure": self.measure, "best_step": self.step} if self.state else {})}

    @classmethod
    def of(cls, state: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> Best:
        """That of a checkpoint with such a state and numbers; those without patience have none."""
        return cls(about.get("best_measure", math.inf), about.get("best_step", 0), about.get("since", 0), state)

    def put_into(self, learner: Learner) -> None:
        """Give a learner the best state, if there is one."""
        if self.state:
            restore(learner, self.state)

    def has_ended(self, patience: int | None) -> bool:
        """Whether a run of such patience goes no further."""
        return patience is not None and self.since >= patience
