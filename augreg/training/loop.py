"""The training loop.

The pairs of step t are a pure function of (seed, t), and a checkpoint holds weights, Adam's state and t: a run that was killed
and resumed ends with the same weights as an undisturbed one (on one machine, CPU).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from augreg.networks import FlowNet, FlowNetS, Map, Network, end_point_error, write_network
from augreg.synthesis import PairBatch
from augreg.training import checkpoints
from augreg.training.batches import Batches, not_finite
from augreg.training.machine import Machine, checked_device, torch_threads
from augreg.training.objectives import Objective, supervised
from augreg.training.team import ALONE, Team

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
# pairs whose errors are looked at together
_LOOK = 8


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    steps : of Adam
    learning_rate : at the start; halved `halvings` times, evenly over the second half of the steps
    halvings : of the learning rate
    warm_up : steps over which the rate grows from 0
    weight_decay : of the original loss; divided by the network's unit, as the loss is, since it is not scale-free
    clip : largest norm of the gradient
    checkpoint_seconds : between checkpoints; the first is written after the first step
    look_every : steps between looks at the held-out pairs; the last step has one too
    machine : where and how to compute
    """

    steps: int = 2000
    learning_rate: float = 1e-4
    halvings: int = 3
    warm_up: int = 20
    weight_decay: float = 4e-4
    clip: float = 5.0
    checkpoint_seconds: float = 120.0
    look_every: int = 100
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
    step : how many are done
    loss : of the step's pairs
    epe, epe_without : mean end-point error of the step's pairs, and that of no registration, voxels; NaN without a truth
    learning_rate : of the step
    seconds : since the start
    epe_held_out : at the last look at the held-out pairs, voxels; NaN before the first, without such pairs, and in processes of
        a team other than the first
    """

    step: int
    loss: float
    epe: float
    epe_without: float
    learning_rate: float
    seconds: float
    epe_held_out: float = math.nan


def seeded_network(
    seed: int,
    ndim: int,
    width: float,
    *,
    architecture: type[FlowNet] = FlowNetS,
    channels: int = 1,
    window: int | None = None,
) -> FlowNet:
    """A network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture(ndim, channels, width, window)


def pairs_error(network: Network | None, pairs: PairBatch) -> float:
    """Mean end-point error (voxels) over pairs that were not trained on; of no registration where there is no network."""
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(pairs), _LOOK):
            batch = pairs[begin : begin + _LOOK]
            flow = torch.zeros_like(batch.flow)
            if network is not None:
                flow = network.predict(network.prepare(batch.fixed), network.prepare(batch.moving)).flow().to(flow.device)
            total += len(batch) * float(end_point_error(flow, batch.flow, batch.mask))
    return total / len(pairs)


def train(
    network: Network,
    batch_of: Batches,
    spacing: tuple[float, ...],
    directory: str | os.PathLike[str],
    options: TrainingOptions,
    *,
    objective: Objective = supervised,
    held_out: PairBatch | None = None,
    team: Team = ALONE,
    resume: bool = False,
) -> Iterator[TrainingState]:
    """Train, yielding a state after every step; the run's folder gets a checkpoint now and then and the weights at the end.

    Parameters
    ----------
    network : trained in place
    batch_of : pairs of a step; in a team those of this process
    spacing : mm per voxel of the pairs, kept with the weights
    directory : of the run, made if it does not exist
    objective : what is minimised
    held_out : pairs that are looked at, not learned from
    team : the processes that train together
    resume : go on from the folder's checkpoint

    Raises
    ------
    ValueError, FileNotFoundError : for a device that is not here, a checkpoint that does not fit or is not there, or fewer steps
        than it has behind it.
    FloatingPointError : where loss or gradient are no longer finite; the checkpoint then is that of the last good step.
    """
    with torch_threads(options.machine.threads):
        yield from _steps(network, batch_of, spacing, Path(directory), options, objective, held_out, team, resume)


def _steps(
    network: Network,
    batch_of: Batches,
    spacing: tuple[float, ...],
    folder: Path,
    options: TrainingOptions,
    objective: Objective,
    held_out: PairBatch | None,
    team: Team,
    resume: bool,
) -> Iterator[TrainingState]:
    machine = options.machine
    device = checked_device(machine.device, team.local_rank)
    layout = machine.layout(device, network.ndim)
    network.to(device, memory_format=layout).train()  # type: ignore[call-overload]  # the stubs know only 4-D layouts
    adam = torch.optim.Adam(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay / network.unit)
    start = checkpoints.load(network, adam, folder / CHECKPOINT) if resume else 0
    if start > options.steps:
        raise ValueError(f"steps: expected at least the {start} that the run has behind it, got {options.steps}")
    run = team.together(network, device)
    if machine.compiled:
        run = torch.compile(run)  # type: ignore[assignment]  # a callable that calls the module
    writes = team.rank == 0
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
    begin, saved = time.perf_counter(), -math.inf  # the first step is kept: a run killed early can be resumed
    looked = math.nan
    for step in range(start, options.steps):
        batch = _ready(network, batch_of(step), device, layout)
        rate = options.rate(step)
        for group in adam.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=machine.reduced(device)):
            maps = run(batch.fixed, batch.moving)
        loss = objective(maps, batch)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        # one look at the device for all numbers
        numbers = team.mean(torch.stack([loss.detach(), norm, *_errors(maps, batch)])).tolist()
        if not (math.isfinite(numbers[0]) and math.isfinite(numbers[1])):
            if writes:
                checkpoints.save(network, adam, step, folder / CHECKPOINT)
            raise FloatingPointError(f"step {step}: {_trouble(batch, numbers[0])}; the checkpoint has the steps before it")
        adam.step()
        done, now = step + 1, time.perf_counter()
        if writes and (now - saved > options.checkpoint_seconds or done == options.steps):
            checkpoints.save(network, adam, done, folder / CHECKPOINT)
            saved = now
        if writes and held_out is not None and (done % options.look_every == 0 or done == options.steps):
            looked = pairs_error(network, held_out)
        yield TrainingState(done, numbers[0], numbers[2], numbers[3], rate, now - begin, looked)
    network.eval()
    if writes:
        write_network(network, spacing, folder / WEIGHTS)


def _ready(network: Network, batch: PairBatch, device: torch.device, layout: torch.memory_format) -> PairBatch:
    """The batch on a device, its images as the network wants them."""
    images = [network.prepare(part.to(device)).contiguous(memory_format=layout) for part in (batch.fixed, batch.moving)]
    return replace(batch, fixed=images[0], moving=images[1], flow=batch.flow.to(device), mask=batch.mask.to(device))


@torch.no_grad()
def _errors(maps: Sequence[Map], batch: PairBatch) -> list[torch.Tensor]:
    """End-point errors of the finest map and of no registration."""
    full = maps[0].flow()
    return [end_point_error(flow, batch.flow, batch.mask) for flow in (full, torch.zeros_like(full))]


def _trouble(batch: PairBatch, loss: float) -> str:
    """What may have made a loss or its gradient NaN or infinite."""
    images = [torch.isfinite(part).flatten(1).all(dim=1) for part in (batch.fixed, batch.moving)]
    bad = [number for number, good in enumerate(torch.logical_and(*images).tolist()) if not good]
    # pairs without a truth have NaN everywhere, on purpose
    if not bad and not torch.isnan(batch.flow).all():
        bad = not_finite(batch)
    if bad:
        return f"expected finite pairs, got NaN or infinity in number {bad[0]} of the batch"
    return f"expected a finite loss and gradient, got a loss of {loss}; resume with a lower learning rate"
