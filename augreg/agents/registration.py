"""Registration by an agent, move by move (after Ma et al., MICCAI 2017).

    T_(k+1) = T_k a,     a = argmax Q(F, M o T_k, s),     s = 8, 4, 2, 1 mm

It goes the way that promises most. Where no move promises anything, or a pose returns, which is the usual end, the step becomes
the next smaller one; after the last it stops. Poses are compared by how far apart they put the points about the middle: those
that are nearer to each other than half a step are one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from augreg.agents.files import read_agent
from augreg.agents.view import View, affine_of, on_lattice, pose_of
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, Transform
from augreg.registration import Clock, Method, Pair, State

# of a step: poses that are nearer are one
_SAME = 0.5


class Judge(Protocol):
    """What an agent asks: a `QNet`, or anything else that knows what moves are worth."""

    @property
    def view(self) -> View:
        """Lattice and moves."""

    @property
    def channels(self) -> int:
        """Of one image."""

    def prepared(self, images: torch.Tensor, *, moving: bool) -> torch.Tensor:
        """Images of one side as they are to be seen."""

    def __call__(self, fixed: torch.Tensor, moving: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Values (1, S, actions) of moves from the present pose."""


@dataclass(frozen=True, eq=False)
class AgentRegistration(Method):
    """Registration by an agent: a callable (fixed, moving) -> phi, an affine map that is rigid or a similarity.

    phi = initial @ (moves). There is a `State` for the start and one per move: `objective` is minus what the best next move
    promises, mm; the level is the number of the step.

    Parameters
    ----------
    network : what moves are worth
    sizes : of steps, mm, from large to small
    most : largest number of moves
    centred : whether the grids' centres are put on each other first, where no `initial` says how images lie: for images of two
        scanners, whose world coordinates have nothing in common

    Raises
    ------
    ValueError : for sizes that do not get smaller, or no moves.
    """

    network: Judge
    sizes: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0)
    most: int = 60
    centred: bool = False

    def __post_init__(self) -> None:
        sizes = (*self.sizes, 0.0)
        if not self.sizes or not all(a > b for a, b in itertools.pairwise(sizes)) or not np.isfinite(sizes).all():
            raise ValueError(f"sizes: expected positive mm, from large to small, got {self.sizes}")
        if self.most < 1:
            raise ValueError(f"most: expected 1 move or more, got {self.most}")

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> AgentRegistration:
        """The agent of a file, see `augreg.agents.read_agent`, with the steps that it has learned."""
        file = read_agent(path)
        return AgentRegistration(file.network, file.steps, centred=file.centred)

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """The start, and a state per move."""
        view, scenes = self.network.view, pair.scenes
        if pair.fixed.ndim != view.ndim:
            raise ValueError(f"fixed: expected a {view.ndim}-D image for this agent, got {pair.fixed.ndim}-D")
        warnings = pair.warnings
        if pair.known().keys() - {"initial"}:
            warnings = (*warnings, "masks, labels and landmarks are not used by an agent")
        images, start = (scenes.fixed, scenes.moving), self._start(pair)
        if not isinstance(start, Affine):
            # moves of a pose are affine maps: what is seen through another start has a pose of its own
            images = (scenes.fixed, pair.with_initial(start).through_start().scenes.moving)
        grids = images[0].grid, images[1].grid
        seen = Seen.of(self.network, *images)
        pose = pose_of(start if isinstance(start, Affine) else Affine.identity(view.ndim), *grids)

        def state(level: int, number: int, promise: float, said: str) -> State:
            found: Transform = affine_of(pose, *grids)
            found = found if isinstance(start, Affine) else start @ found
            return State(level, number, -promise, float("nan"), found, clock.seconds, warnings, stage=said)

        probes = _probes(view)
        moved, level, before, begun = 0, 0, [pose], False
        while True:
            step = self.sizes[level]
            values = seen.values(pose, step)
            best = int(np.argmax(values))
            promise = float(values[best]) * step
            if not begun:
                begun = True
                yield state(0, 0, promise, "start")
            after = pose @ view.moves(step)[best]
            returned = any(_apart(after, other, probes) < _SAME * step for other in before)
            if promise > 0 and not returned and moved < self.most:
                pose, moved = after, moved + 1
                before.append(pose)
                yield state(level, moved, promise, f"step {step:g} mm, move {moved}")
            elif level + 1 < len(self.sizes) and moved < self.most:
                level, before = level + 1, [pose]
            else:
                return

    def _start(self, pair: Pair) -> Transform:
        if not self.centred or pair.initial is not None:
            return pair.start
        return Affine(np.eye(pair.fixed.ndim), pair.moving.grid.center - pair.fixed.grid.center)


@dataclass(frozen=True, eq=False)
class Seen:
    """Two images as a judge sees them at any pose.

    Parameters
    ----------
    network : the judge
    fixed : on its lattice, prepared, (1, C, *shape)
    moving : on a lattice of all of it, prepared, (1, C, *any)
    """

    network: Judge
    fixed: torch.Tensor
    moving: torch.Tensor

    @staticmethod
    def of(network: Judge, fixed: Image, moving: Image) -> Seen:
        """Two images of one dimension.

        Raises
        ------
        ValueError : for images of other numbers of channels, but grey from colour.
        """
        view, pair = network.view, (fixed, moving)
        if fixed.channels != network.channels or moving.channels != network.channels:
            pair = (fixed.luminance(), moving.luminance())
        if pair[0].channels != network.channels:
            raise ValueError(f"fixed: expected {network.channels} channels for this agent, got {pair[0].channels}")
        lattices: tuple[Grid, Grid] = (view.lattice(fixed.grid), view.whole(moving.grid))
        device = _device(network)
        with torch.no_grad():
            seen = [
                network.prepared(on_lattice(image, lattice).to(device), moving=side)
                for image, lattice, side in zip(pair, lattices, (False, True), strict=True)
            ]
        return Seen(network, *seen)

    def values(self, pose: FloatArray, step: float) -> FloatArray:
        """What all moves of a step are worth from a pose, in steps."""
        with torch.no_grad():
            poses = torch.from_numpy(pose)[None]
            found = self.network(self.fixed, self.network.view.seen(self.moving, poses), torch.tensor([step]))
        return np.asarray(found[0, 0].cpu().numpy(), dtype=np.float64)


def _device(network: Judge) -> torch.device:
    if isinstance(network, torch.nn.Module):
        return next(network.parameters()).device
    return torch.device("cpu")


def _probes(view: View) -> FloatArray:
    """Points at the radius on all axes, homogeneous, (2 D, D + 1)."""
    points = view.radius * np.concatenate([np.eye(view.ndim), -np.eye(view.ndim)])
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _apart(a: FloatArray, b: FloatArray, probes: FloatArray) -> float:
    """Mean distance between the points of two poses, mm."""
    return float(np.linalg.norm((probes @ (a - b).T)[:, :-1], axis=1).mean())
