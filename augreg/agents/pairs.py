"""Pairs with known poses, and the states that an agent meets on them.

    T* :  the pose at which the images lie as they should, fitted to what is known of them
    d(T) = mean_i |T x_i - T* x_i|,                       points x_i of what counts, mm
    g(T, a) = (d(T) - d(T a)) / s                         what a move of step s gains: at most about 1

The sum of all gains is d(start) - d(end), whatever the way. So nothing has to be waited for: the best move is the one with the
largest gain now, and gains can be learned as they are (Liao et al., AAAI 2017).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch

from augreg.agents.network import QNet
from augreg.agents.view import Kind, View, on_lattice, points_of, pose_of
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Affine
from augreg.registration import Pair
from augreg.synthesis import PairBatch
from augreg.tensors import flow_to_displacement

# points of each pair
_POINTS = 64


@dataclass(frozen=True)
class Known:
    """Two images and the map of worlds, fixed to moving, at which they lie as they should.

    Parameters
    ----------
    fixed, moving : images
    truth : affine map, of worlds
    points : of what counts, (N, D) fixed world mm
    """

    fixed: Image
    moving: Image
    truth: Affine
    points: FloatArray


@dataclass(frozen=True, eq=False)
class PosePairs:
    """Pairs with known poses on an agent's lattices.

    Parameters
    ----------
    fixed : (N, C, *shape), as the network is to see them
    moving : all of them, (N, C, *any)
    outside : what stands beyond a moving image, (N, C)
    truth : T*, (N, D + 1, D + 1) float64
    points : x, (N, P, D) float64, mm about the fixed image's middle, along its axes
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    outside: torch.Tensor
    truth: torch.Tensor
    points: torch.Tensor

    def __len__(self) -> int:
        """N."""
        return len(self.fixed)

    def __getitem__(self, some: torch.Tensor) -> PosePairs:
        """Some of the pairs."""
        return replace(self, **{name: part[some] for name, part in vars(self).items()})

    @staticmethod
    def of(pairs: Sequence[Known], network: QNet) -> PosePairs:
        """Pairs as an agent's network sees them.

        Raises
        ------
        ValueError : for none, images of another dimension than the network's, or of other channels.
        """
        if not pairs:
            raise ValueError("pairs: expected one or more, got none")
        view = network.view
        fixed, moving, truths, points = [], [], [], []
        for pair in pairs:
            if pair.fixed.ndim != view.ndim:
                raise ValueError(f"pairs: expected {view.ndim}-D images for this agent, got {pair.fixed.ndim}-D")
            grids = pair.fixed.grid, pair.moving.grid
            lattices: tuple[Grid, Grid] = (view.lattice(grids[0]), view.whole(grids[1]))
            images = [on_lattice(image, lattice) for image, lattice in zip((pair.fixed, pair.moving), lattices, strict=True)]
            fixed.append(network.prepared(images[0], moving=False))
            moving.append(network.prepared(images[1], moving=True))
            truths.append(pose_of(pair.truth, *grids))
            points.append((pair.points - grids[0].center) @ grids[0].axes)
        outside = torch.cat([image.flatten(2).amin(dim=2) for image in moving])
        whole = tuple(max(image.shape[2 + axis] for image in moving) for axis in range(view.ndim))
        return PosePairs(
            torch.cat(fixed),
            torch.cat([_padded(image, whole, least) for image, least in zip(moving, outside, strict=True)]),
            outside,
            torch.from_numpy(np.stack(truths)),
            torch.from_numpy(np.stack(points)),
        )

    @property
    def content(self) -> str:
        """A hash of all."""
        digest = hashlib.sha256()
        for part in vars(self).values():
            digest.update(repr(tuple(part.shape)).encode())
            digest.update(np.ascontiguousarray(part.numpy()).data)
        return f"poses {digest.hexdigest()[:16]}"

    @property
    def radius(self) -> float:
        """Mean distance of the points from the middle, mm."""
        return float(torch.linalg.vector_norm(self.points, dim=2).mean())

    def distances(self, poses: torch.Tensor) -> torch.Tensor:
        """d of poses (N, ..., D + 1, D + 1): (N, ...) mm."""
        D = self.points.shape[2]
        between = tuple(1 for _ in poses.shape[1:-2])
        off = poses.double() - self.truth.reshape(len(self), *between, D + 1, D + 1)
        points = self.points.reshape(len(self), *between, -1, D)
        moved = points @ off[..., :D, :D].transpose(-1, -2) + off[..., None, :D, D]
        return torch.linalg.vector_norm(moved, dim=-1).mean(dim=-1)


def gains(pairs: PosePairs, poses: torch.Tensor, moves: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """g of all moves at poses (N, D + 1, D + 1), (N, S, actions).

    Parameters
    ----------
    pairs : N pairs
    poses : of each
    moves : of S steps, (S, actions, D + 1, D + 1)
    steps : their sizes, mm, (S,)
    """
    after = poses.double()[:, None, None] @ moves[None]
    return (pairs.distances(poses)[:, None, None] - pairs.distances(after)) / steps[:, None]


@dataclass(frozen=True)
class Offsets:
    """Poses at chance, about those that are known.

    Parameters
    ----------
    shift : longest shift, mm
    rotation : largest angle, degrees, in 3-D about an axis of chance
    scale : largest logarithm of the size, for similarities

    Raises
    ------
    ValueError : for negative numbers.
    """

    shift: float = 20.0
    rotation: float = 20.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= value < math.inf for value in (self.shift, self.rotation, self.scale)):
            raise ValueError(
                f"shift, rotation, scale: expected numbers of at least 0, got {self.shift}, {self.rotation}, {self.scale}"
            )

    def draw(self, rng: np.random.Generator, ndim: int, near: float = 1.0) -> FloatArray:
        """A pose, (D + 1, D + 1); `near` multiplies all of it."""
        D, pose = ndim, np.eye(ndim + 1)
        way, angle = rng.standard_normal(D), np.deg2rad(near * self.rotation * rng.uniform(-1, 1))
        axis = rng.standard_normal(3)
        pose[:D, :D] = turned(angle, axis, D) * np.exp(near * self.scale * rng.uniform(-1, 1))
        pose[:D, D] = near * self.shift * rng.random() * way / np.linalg.norm(way)
        return pose


def turned(angle: float, axis: FloatArray, ndim: int) -> FloatArray:
    """A rotation by an angle, in 3-D about an axis (Rodrigues)."""
    if ndim == 2:
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def fitted(source: FloatArray, target: FloatArray, kind: Kind, weights: FloatArray | None = None) -> Affine:
    """The rigid or similar map that brings points (N, D) nearest to others, weighted least squares (Umeyama 1991)."""
    shares = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    a, b = shares @ source, shares @ target
    u, sizes, v = np.linalg.svd((target - b).T @ (shares[:, None] * (source - a)))
    signs = np.ones(len(sizes))
    signs[-1] = np.sign(np.linalg.det(u @ v))
    matrix = (u * signs) @ v
    if kind == "similarity":
        matrix *= (sizes * signs).sum() / (shares @ np.square(source - a).sum(axis=1))
    return Affine(matrix, b - matrix @ a)


def from_truth(pairs: PairBatch, grid: Grid, kind: Kind = "rigid", seed: int = 0) -> list[Known]:
    """Pairs with a dense truth, the pose fitted to it where it is known."""
    found = []
    for number in range(len(pairs)):
        mask = Labels(pairs.mask[number, 0].numpy().astype(np.uint8), grid)
        u = flow_to_displacement(torch.where(pairs.mask, pairs.flow, 0)[number : number + 1], grid)
        here = mask.values != 0
        source = grid.points()[here]
        fixed, moving = (Image(side[number, 0].numpy(), grid) for side in (pairs.fixed, pairs.moving))
        found.append(Known(fixed, moving, fitted(source, source + u[here], kind), points_of(mask, _POINTS, seed + number)))
    return found


def from_pair(pair: Pair, kind: Kind = "rigid", seed: int = 0) -> Known:
    """A real pair: centroids of the structures that both label maps have are put on each other, without label maps it lies as it
    should. Fewer structures than D + 1 say nothing of angles and sizes: then it is a shift of the pair's start.

    Raises
    ------
    ValueError : for label maps without a structure in common, and a start that is not affine.
    """
    start = pair.start
    if not isinstance(start, Affine):
        raise ValueError(f"initial: expected an affine start for an agent, got {type(start).__name__}")
    scenes = pair.scenes
    images = [
        image.with_values(image.values.astype(np.float32, copy=False)).luminance() for image in (scenes.fixed, scenes.moving)
    ]
    fixed, moving = pair.fixed_labels, pair.moving_labels
    if fixed is None or moving is None:
        everywhere = Labels(np.ones(pair.fixed.grid.shape, np.uint8), pair.fixed.grid)
        return Known(images[0], images[1], start, points_of(everywhere, _POINTS, seed))
    common = sorted(set(fixed.unique()) & set(moving.unique()))
    if not common:
        raise ValueError("labels: expected a structure that both label maps have, got none in common; check their numbers")
    here, there = (np.stack([_centroid(labels, one) for one in common]) for labels in (fixed, moving))
    if len(common) > fixed.ndim:
        sizes = np.array([(fixed.values == one).sum() for one in common], dtype=float)
        truth = fitted(here, there, kind, sizes)
    else:
        shift = (start.solve(there) - here).mean(axis=0)
        truth = start.after(Affine(np.eye(fixed.ndim), shift))
    shared = Labels(np.isin(fixed.values, common).astype(np.uint8), fixed.grid)
    return Known(images[0], images[1], truth, points_of(shared, _POINTS, seed))


def view_of(pairs: Sequence[Known], spacing: float | Sequence[float] | None = None, kind: Kind = "rigid") -> View:
    """A view for pairs: as large as the first fixed image, with the mean distance of all points from the middle.

    Parameters
    ----------
    pairs : pairs with known poses
    spacing : of a voxel, mm; by default the longest side has 64 voxels in 2-D, 32 in 3-D, or the image's own if it has fewer
    kind : of pose
    """
    grid = pairs[0].fixed.grid
    D = grid.ndim
    if spacing is None:
        spacing = max(float(grid.sides.max()) / {2: 64, 3: 32}[D], min(grid.spacing))
    sides = np.broadcast_to(np.asarray(spacing, dtype=float), (D,))
    shape = tuple(int(n) for n in np.maximum(2, np.rint(grid.sides / sides)))
    middles = [np.linalg.norm(pair.points - pair.fixed.grid.center, axis=1).mean() for pair in pairs]
    return View(shape, tuple(sides.tolist()), float(np.mean(middles)), kind)


def jitters(rng: np.random.Generator, ndim: int, *, rotation: float, shift: float, scale: float) -> FloatArray:
    """A map of chance, (D + 1, D + 1), with these deviations of angles (degrees), shifts (mm) and logarithms of sizes."""
    pose = np.eye(ndim + 1)
    pose[:ndim, :ndim] = np.diag(np.exp(scale * rng.standard_normal(ndim)))
    for a, b in combinations(range(ndim), 2):
        turn, angle = np.eye(ndim), np.deg2rad(rotation * rng.standard_normal())
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        pose[:ndim, :ndim] = turn @ pose[:ndim, :ndim]
    pose[:ndim, ndim] = shift * rng.standard_normal(ndim)
    return pose


def _centroid(labels: Labels, number: int) -> FloatArray:
    return np.asarray(labels.grid.points_at(np.argwhere(labels.values == number).mean(axis=0)))


def _padded(image: torch.Tensor, whole: tuple[int, ...], least: torch.Tensor) -> torch.Tensor:
    """An image in the middle of a larger lattice; all have even sides."""
    shape = image.shape[2:]
    out = least.reshape(1, -1, *[1] * len(shape)).expand(1, -1, *whole).clone()
    begin = [(n - m) // 2 for n, m in zip(whole, shape, strict=True)]
    out[(slice(None), slice(None), *(slice(b, b + m) for b, m in zip(begin, shape, strict=True)))] = image
    return out
