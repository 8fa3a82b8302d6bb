"""A network that learns maps from pairs: one objective, Adam, end-point errors on the way."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch

from augreg.networks import Map, Network, end_point_error, write_network
from augreg.synthesis import PairBatch
from augreg.training.batches import Batches
from augreg.training.batches import not_finite as not_finite_pairs
from augreg.training.learner import Learner, descend, measures_kept
from augreg.training.loop import TrainingOptions, TrainingState, learn
from augreg.training.objectives import Objective, supervised
from augreg.training.place import Place
from augreg.training.team import ALONE, Team

# pairs whose errors are looked at together
_LOOK = 8


@final
class FlowLearner(Learner):
    """A network that learns maps from pairs.

    Its numbers are `loss`, the norm of its `gradient`, and the mean end-point errors in voxels, NaN without a truth: `epe` and
    `epe_without` registration, of the step's pairs, and at looks `epe_held_out`.

    Parameters
    ----------
    network : trained in place
    batch_of : pairs of a step; in a team those of this process
    spacing : voxel size of the pairs, mm, kept with the weights
    objective : function that is minimised
    held_out : pairs that are looked at, not learned from; without a truth by the objective, `objective_held_out`
    weight_decay : weight decay of the original loss; divided by the network's unit, as the loss is, since it is not scale-free
    clip : largest norm of the gradient
    centred : whether the pairs' grids were centred first, kept with the weights
    prepared : whether the images of a step are as the network wants them already, as patches of prepared images are
    """

    def __init__(
        self,
        network: Network,
        batch_of: Batches,
        spacing: tuple[float, ...],
        *,
        objective: Objective = supervised,
        held_out: PairBatch | None = None,
        weight_decay: float = 4e-4,
        clip: float = 5.0,
        centred: bool = False,
        prepared: bool = False,
    ) -> None:
        self.centred, self.prepared = centred, prepared
        self.network, self.batch_of, self.spacing = network, batch_of, spacing
        self.objective, self.held_out, self.clip = objective, held_out, clip
        self.adam = torch.optim.Adam(network.parameters(), weight_decay=weight_decay / network.unit)
        self.modules, self.optimisers, self.description = {"network": network}, {"adam": self.adam}, network.description
        self.goal = goal_of(held_out)

    def begin(self, place: Place) -> None:
        """See `Learner`, as for the others."""
        self._place, self._run = place, place.together(self.network, self.network.ndim)

    def step(self, number: int, rate: float) -> dict[str, torch.Tensor]:
        """Maps of a batch, their loss and its gradient."""
        self._batch = batch = ready(self.network, self.batch_of(number), self._place, prepared=self.prepared)
        self._restore = measures_kept(self.network)
        with self._place.autocast():
            maps = self._run(batch.fixed, batch.moving)
        loss = self.objective(maps, batch)
        norm = descend(loss, self.adam, rate, self.clip)
        epe, without = errors(maps, batch)
        return {"loss": loss, "gradient": norm, "epe": epe, "epe_without": without}

    def trouble(self, numbers: Mapping[str, float]) -> str | None:
        """A loss or gradient that is not finite, and the pair that may be the cause; end-point errors may be unknown."""
        if math.isfinite(numbers["loss"]) and math.isfinite(numbers["gradient"]):
            return None
        if bad := spoilt(self._batch):
            return f"expected finite pairs, got NaN or infinity in number {bad[0]} of the batch"
        return f"expected a finite loss and gradient, got a loss of {numbers['loss']}; resume with a lower learning rate"

    def undo(self) -> None:
        """What the network has measured in passing is as before."""
        self._restore()

    def look(self) -> dict[str, float]:
        """The end-point error of what is held out; its objective where no truth is known."""
        return {} if self.held_out is None else looked_at(self.network, self.objective, self.held_out, self._place)

    def write(self, path: Path) -> None:
        """The network's file, see `augreg.networks.read_network`."""
        write_network(self.network, self.spacing, path, centred=self.centred)


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
    centred: bool = False,
) -> Iterator[TrainingState]:
    """Train a network, yielding a state after every step; the run's folder gets checkpoints, and the weights at the end.

    This is `learn` with a `FlowLearner`, which says what the numbers of a state are.

    Parameters
    ----------
    network : trained in place
    batch_of : pairs of a step; in a team those of this process
    spacing : voxel size of the pairs, mm, kept with the weights
    directory : folder of the run, made if it does not exist
    objective : function that is minimised
    held_out : pairs that are looked at, not learned from; with `options.patience` they say when to end
    team : the processes that train together
    resume : go on from the folder's checkpoint
    centred : whether the pairs' grids were centred first, kept with the weights

    Raises
    ------
    ValueError, FileNotFoundError, FloatingPointError : as `learn`.
    """
    learner = FlowLearner(
        network,
        batch_of,
        spacing,
        objective=objective,
        held_out=held_out,
        weight_decay=options.weight_decay,
        clip=options.clip,
        centred=centred,
    )
    yield from learn(learner, directory, options, team=team, resume=resume)


def pairs_error(network: Network | None, pairs: PairBatch) -> float:
    """Mean end-point error (voxels) over pairs that were not trained on; of no registration where there is no network."""
    total, learning = 0.0, network is not None and network.training
    if network is not None:
        network.eval()
    with torch.no_grad():
        for begin in range(0, len(pairs), _LOOK):
            batch = pairs[begin : begin + _LOOK]
            flow = torch.zeros_like(batch.flow)
            if network is not None:
                flow = network.predict(network.prepare(batch.fixed), network.prepare(batch.moving)).flow().to(flow.device)
            total += len(batch) * float(end_point_error(flow, batch.flow, batch.mask))
    if network is not None:
        network.train(learning)
    return total / len(pairs)


def goal_of(held_out: PairBatch | None) -> str:
    """The number that `looked_at` says, if there is something to look at."""
    if held_out is None:
        return ""
    return "objective_held_out" if bool(torch.isnan(held_out.flow).all()) else "epe_held_out"


@torch.no_grad()
def looked_at(network: Network, objective: Objective, pairs: PairBatch, place: Place) -> dict[str, float]:
    """How good a network is on pairs that are not learned from: the end-point error, without a truth the objective."""
    if goal_of(pairs) == "epe_held_out":
        return {"epe_held_out": pairs_error(network, pairs)}
    total, learning = 0.0, network.training
    network.eval()
    for begin in range(0, len(pairs), _LOOK):
        batch = ready(network, pairs[begin : begin + _LOOK], place)
        total += len(batch) * float(objective(network(batch.fixed, batch.moving), batch))
    network.train(learning)
    return {"objective_held_out": total / len(pairs)}


def ready(network: Network, batch: PairBatch, place: Place, *, prepared: bool = False) -> PairBatch:
    """The batch at its place, its images as the network wants them; what no objective looks at stays where it is."""

    def seen(images: torch.Tensor) -> torch.Tensor:
        return images if prepared else network.prepare(images)

    device, layout = place.device, place.layout(network.ndim)
    images: dict[str, Any] = {
        name: seen(getattr(batch, name).to(device)).contiguous(memory_format=layout) for name in ("fixed", "moving")
    }
    images |= {name: getattr(batch, name).to(device) for name in ("flow", "mask")}
    return replace(batch, **images, labels=None if batch.labels is None else batch.labels.then(lambda part: part.to(device)))


@torch.no_grad()
def errors(maps: Sequence[Map], batch: PairBatch) -> list[torch.Tensor]:
    """End-point errors of the finest map and of no registration."""
    full = maps[0].flow()
    return [end_point_error(flow, batch.flow, batch.mask) for flow in (full, torch.zeros_like(full))]


def spoilt(batch: PairBatch) -> list[int]:
    """Which pairs of a batch are not finite."""
    images = [torch.isfinite(part).flatten(1).all(dim=1) for part in (batch.fixed, batch.moving)]
    bad = [number for number, good in enumerate(torch.logical_and(*images).tolist()) if not good]
    # pairs without a truth have NaN everywhere, on purpose
    return bad if bad or torch.isnan(batch.flow).all() else not_finite_pairs(batch)
