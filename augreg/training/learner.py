"""Who learns: named parts, and one step. The loop, its checkpoints and teams of processes know nothing else.

    begin(place)                       once, before the first step
    step(number, rate) -> numbers      compute a step: losses, norms of gradients, errors
    update()                           take it, or, where `trouble(numbers)` says why it must not be taken, undo()

Everything that a run must remember is a tensor of a named module or of a named optimiser: a counter, a replay or a target network
is a module too, with buffers. Everything else is a function of the number of the step, also what is random: so a run that was
killed and goes on is the run that was never killed.

In a team every process computes its part of a step; gradients are means over the team (`Place.together`), what the parts have
seen is put together by `Team.gathered`. So the state is the same in all processes, and that of the first one is kept.

A learner of one network (an adversary, and an agent with replay and target network, are in `tests/support/learners.py`):

    class ShiftLearner(Learner):
        '''A network (B, 2, *shape) -> (B, 2) that learns by how many voxels two images are shifted.'''

        def __init__(self, network, batch_of):
            self.network, self.batch_of = network, batch_of
            self.adam = torch.optim.Adam(network.parameters())
            self.modules, self.optimisers, self.description = {"network": network}, {"adam": self.adam}, {}

        def begin(self, place):
            self.device, self.run = place.device, place.together(self.network, 2)

        def step(self, number, rate):
            pairs = self.batch_of(number)
            images = torch.cat([normalised(pairs.fixed), normalised(pairs.moving)], dim=1)
            found, known = self.run(images.to(self.device)), pairs.flow.mean((2, 3)).to(self.device)
            loss = (found - known).square().mean()
            return {"loss": loss, "gradient": descend(loss, self.adam, rate, clip=5.0)}

        def write(self, path):
            write_tensors(self.network.state_dict(), {}, path, "shifts")

    network = nn.Sequential(nn.Conv2d(2, 8, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2))
    for state in learn(ShiftLearner(network, batch_of), folder, TrainingOptions(steps=100, learning_rate=1e-3)):
        print(state.step, state.loss)
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from augreg.training.place import Place

# what a run has learned, in its folder
WEIGHTS = "weights.safetensors"


class Learner(ABC):
    """Who learns.

    Attributes
    ----------
    modules : all networks, and whatever else is tensors (targets, replay, counters), by names that files show; before `begin`
        they are moved to the device, in training mode
    optimisers : optimisers of parameters of these modules, by names that files show
    description : properties that a checkpoint must share with a learner that goes on from it, as JSON
    goal : name of the number of `look` that is to become small, for runs that end early; none by default
    """

    goal: str = ""

    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    description: Mapping[str, Any]

    @abstractmethod
    def begin(self, place: Place) -> None:
        """Settle where steps are computed: what is called in steps is made here, see `Place.together`."""

    @abstractmethod
    def step(self, number: int, rate: float) -> Mapping[str, torch.Tensor]:
        """Compute a step without taking it.

        Parameters
        ----------
        number : number of the step, from 0; decides all that is random
        rate : the learning rate of the step

        Returns
        -------
        numbers : scalars on the device, of this process's part, under the same names in every step. The loop takes the mean over
            the team and looks at the device once.
        """

    def trouble(self, numbers: Mapping[str, float]) -> str | None:
        """Why the step that was computed must not be taken: what was expected, what was got, and a remedy; None where it may be.

        By default all numbers must be finite.
        """
        return not_finite(numbers)

    def update(self) -> None:
        """Take the step that was computed; by default a step of every optimiser."""
        for optimiser in self.optimisers.values():
            optimiser.step()

    def undo(self) -> None:  # noqa: B027  # most steps change nothing before they are taken
        """Forget the step that was computed: all parts are as before it. Who changes a part already in `step` uses `kept`."""

    def look(self) -> Mapping[str, float]:
        """Numbers of what is not learned from, asked for now and then, of the first process of a team alone; by default none."""
        return {}

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write what has been learned, for use, atomically; after the last step, by the first process of a team alone."""


def not_finite(numbers: Mapping[str, float]) -> str | None:
    """What is wrong with numbers of which one is not finite; None if all are."""
    bad = [f"a {name} of {value}" for name, value in numbers.items() if not math.isfinite(value)]
    return f"expected finite numbers, got {' and '.join(bad)}; resume with a lower learning rate" if bad else None


def descend(loss: torch.Tensor, optimiser: torch.optim.Optimizer, rate: float, clip: float = math.inf) -> torch.Tensor:
    """Leave the gradient of a loss with an optimiser's parameters, for a step of that rate.

    Parameters
    ----------
    loss : a scalar
    optimiser : optimiser whose `step` shall follow
    rate : the learning rate
    clip : largest norm of the gradient, which is shortened to it

    Returns
    -------
    norm : of the gradient before, a scalar
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    return nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)


def measures_kept(module: nn.Module) -> Callable[[], None]:
    """A function that makes what a module has measured in passing, its buffers, again what it is now."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]

    @torch.no_grad()
    def restore() -> None:
        for buffer, value in before:
            buffer.copy_(value)

    return restore


def kept(*parts: nn.Module | torch.optim.Optimizer) -> Callable[[], None]:
    """A function that makes the parts again what they are now."""
    states = [copy.deepcopy(part.state_dict()) for part in parts]

    def restore() -> None:
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)

    return restore
