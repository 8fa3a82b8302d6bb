"""The loop that any `Learner` learns in.

A step is a function of the learner's state and of the step's number t, and a checkpoint holds this state and t: a run that was
killed and resumed ends with the same state as an undisturbed one (on one machine, CPU).

A run with patience ends where what is held out gets no better for so many looks, and gives and writes the best state, of all
networks and optimisers of the learner alike (`augreg.training.best`). Its checkpoint has the last state as well: with more
patience it goes on as if it had not ended. What is not finite never takes the place of a checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from augreg.training import checkpoints
from augreg.training.best import Best
from augreg.training.checkpoints import CHECKPOINT
from augreg.training.learner import WEIGHTS, Learner
from augreg.training.machine import Machine, torch_threads
from augreg.training.place import Place
from augreg.training.team import ALONE, Team


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    steps : number of steps of the learner
    learning_rate : at the start; halved `halvings` times, evenly over the second half of the steps
    halvings : number of halvings of the learning rate
    warm_up : steps over which the rate grows from 0
    weight_decay, clip : parameters of the `FlowLearner` that `train` makes; other learners have their own
    checkpoint_seconds : between checkpoints; the first is written after the first step
    look_every : steps between looks at what is held out; the last step has one too
    patience : looks without a better one after which the run ends, with the best state; None for all steps and the last state
    machine : device and manner of the computation
    """

    steps: int = 2000
    learning_rate: float = 1e-4
    halvings: int = 3
    warm_up: int = 20
    weight_decay: float = 4e-4
    clip: float = 5.0
    checkpoint_seconds: float = 120.0
    look_every: int = 100
    patience: int | None = None
    machine: Machine = field(default_factory=Machine)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        late = max(0.0, 2 * step / self.steps - 1)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * 0.5 ** math.floor(late * (self.halvings + 1))


@dataclass(frozen=True)
class TrainingState:
    """Progress after a step.

    Parameters
    ----------
    step : number of steps that are done
    numbers : numbers that the learner says of the step, means over the team, and of its last look at what is held out, which only
        the first process of a team has
    learning_rate : learning rate of the step
    seconds : since the start
    best_step : number of steps behind the best look so far; None without patience, or where no look was finite
    """

    step: int
    numbers: Mapping[str, float]
    learning_rate: float
    seconds: float
    best_step: int | None = None

    @property
    def loss(self) -> float:
        """Of the step; NaN for a learner without a number of this name, as for those below."""
        return self.numbers.get("loss", math.nan)

    @property
    def epe(self) -> float:
        """Mean end-point error of the step's pairs, voxels; NaN without a truth."""
        return self.numbers.get("epe", math.nan)

    @property
    def epe_without(self) -> float:
        """That of no registration."""
        return self.numbers.get("epe_without", math.nan)

    @property
    def epe_held_out(self) -> float:
        """That of pairs which are not learned from, at the last look; NaN before the first."""
        return self.numbers.get("epe_held_out", math.nan)


def learn(
    learner: Learner,
    directory: str | os.PathLike[str],
    options: TrainingOptions,
    *,
    team: Team = ALONE,
    resume: bool = False,
) -> Iterator[TrainingState]:
    """Let a learner learn, yielding a state after every step; the run's folder gets a checkpoint now and then and at the end what
    has been learned, with patience the best of it.

    Parameters
    ----------
    learner : changed in place
    directory : folder of the run, made if it does not exist
    team : the processes that learn together
    resume : go on from the folder's checkpoint

    Raises
    ------
    ValueError, FileNotFoundError : for a device that is not here, a checkpoint that does not fit or is not there, fewer steps
        than it has behind it, or patience with a learner that does not look at what is held out.
    FloatingPointError : where the learner says that a step must not be taken, or a step that was taken has left what is not
        finite; the learner and the checkpoint then are those of the last good step.
    """
    with torch_threads(options.machine.threads):
        yield from _steps(learner, Path(directory), options, team, resume)


def _steps(learner: Learner, folder: Path, options: TrainingOptions, team: Team, resume: bool) -> Iterator[TrainingState]:
    place = Place.of(options.machine, team)
    for module in learner.modules.values():
        module.to(place.device).train()
    start, best = 0, Best()
    if resume:
        start, state, about = checkpoints.load(learner, folder / CHECKPOINT)
        best = Best.of(state, about)
    if start > options.steps:
        raise ValueError(f"steps: expected at least the {start} that the run has behind it, got {options.steps}")
    learner.begin(place)
    writes = team.rank == 0
    if writes and options.patience is not None and not learner.goal:
        raise ValueError(
            "patience: expected pairs that are held out, by which the best state is known, got none; hold some out (a model or a "
            "folder of pairs has them), or leave patience out"
        )
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
    begin, saved = time.perf_counter(), -math.inf  # the first step is kept: a run killed early can be resumed
    looked: Mapping[str, float] = {}
    for step in range(start, options.steps):
        if best.has_ended(options.patience):
            break
        rate = options.rate(step)
        numbers = _means(learner.step(step, rate), place)
        if (trouble := learner.trouble(numbers)) is not None:
            learner.undo()
            raise FloatingPointError(f"step {step}: {trouble}; {_gone_back(learner, step, folder, best, writes)}")
        learner.update()
        done, now = step + 1, time.perf_counter()
        looks = done % options.look_every == 0 or done == options.steps
        if looks and writes:
            looked = learner.look()
        if looks and options.patience is not None:
            best = best.after(learner, done, team.told(looked[learner.goal] if writes else math.nan, place.device))
        last = done == options.steps or best.has_ended(options.patience)
        # the best state so far is on disk
        due = last or (writes and (now - saved > options.checkpoint_seconds or best.step == done))
        if due and (bad := checkpoints.spoilt(learner)):
            said = f"expected finite numbers, got {bad[0]} that is not; resume with a lower learning rate"
            raise FloatingPointError(f"step {step}: {said}; {_gone_back(learner, done, folder, best, writes)}")
        if writes and due:
            checkpoints.save(learner, done, folder / CHECKPOINT, best.state, **best.told())
            saved = now
        known = best.step if best.state else None
        yield TrainingState(done, {**numbers, **looked}, rate, now - begin, known)
    if options.patience is not None:
        best.put_into(learner)
    for module in learner.modules.values():
        module.eval()
    if writes:
        learner.write(folder / WEIGHTS)


def _gone_back(learner: Learner, step: int, folder: Path, best: Best, writes: bool) -> str:
    """Keep the state before a step that was refused; if it is spoilt itself go back to the checkpoint. What is said of it."""
    path = folder / CHECKPOINT
    if not checkpoints.spoilt(learner):
        if writes:
            checkpoints.save(learner, step, path, best.state, **best.told())
        return "the checkpoint has the steps before it"
    if not path.is_file():
        return "there is no checkpoint"
    return f"the checkpoint has the {checkpoints.load(learner, path)[0]} steps that were good"


def _means(numbers: Mapping[str, torch.Tensor], place: Place) -> dict[str, float]:
    """Means over the team, by one look at the device for all numbers."""
    told = torch.stack([number.detach().to(place.device, torch.float32) for number in numbers.values()])
    return dict(zip(numbers, place.team.mean(told).tolist(), strict=True))
