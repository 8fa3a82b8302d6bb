"""What an agent sees, and how it moves: rigid or similar poses of the moving image, in millimetres about the middles of both.

    x = Q_f^T (p - c_f),   y = Q_m^T (q - c_m)      points of both worlds about the grids' centres, along their axes, mm
    y = T x                                         a pose, as a (D + 1) x (D + 1) matrix
    T' = T a                                        a move a: plus or minus a step along an axis, about it, or in size

So a move is one in the picture that is seen, however the moving image lies in its world. A step of s mm turns by s / r radians
and sizes change by a factor exp(s / r), with r the mean distance of what counts from the middle: all moves carry a point as far,
on average, as a shift does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import scipy.ndimage
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample
from augreg.geometry.transforms import Affine
from augreg.networks.warping import positions, sampled
from augreg.tensors import image_to_tensor

Kind = Literal["rigid", "similarity"]


@dataclass(frozen=True)
class View:
    """The lattice on which an agent sees the fixed image, centred there, and the moves that it can make.

    Parameters
    ----------
    shape : voxels along each axis
    spacing : of a voxel, mm, one number per axis
    radius : r, mean distance of what counts from the middle, mm
    kind : rigid, or similarity, which sizes as well

    Raises
    ------
    ValueError : for numbers that are not positive, or another kind.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    radius: float
    kind: Kind = "rigid"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        sizes = (*self.shape, *self.spacing, self.radius)
        if len(self.shape) not in (2, 3) or len(self.spacing) != len(self.shape) or not all(0 < s < math.inf for s in sizes):
            raise ValueError(
                "shape, spacing, radius: expected 2 or 3 voxel counts, as many mm and a radius, all positive, got "
                f"{self.shape}, {self.spacing} and {self.radius}"
            )

    @property
    def ndim(self) -> int:
        """D."""
        return len(self.shape)

    @property
    def actions(self) -> int:
        """Number of moves: plus and minus for every number of a pose."""
        D = self.ndim
        return 2 * (D + D * (D - 1) // 2 + (self.kind == "similarity"))

    def moves(self, step: float) -> FloatArray:
        """All moves of a step, (actions, D + 1, D + 1); each is followed by its inverse. Shifts, then turns, then sizes."""
        D = self.ndim
        found = []
        for axis in range(D):
            for sign in (1, -1):
                move = np.eye(D + 1)
                move[axis, D] = sign * step
                found.append(move)
        for a, b in combinations(range(D), 2):
            for sign in (1, -1):
                move, angle = np.eye(D + 1), sign * step / self.radius
                move[a, a] = move[b, b] = np.cos(angle)
                move[a, b], move[b, a] = -np.sin(angle), np.sin(angle)
                found.append(move)
        if self.kind == "similarity":
            for sign in (1, -1):
                move = np.eye(D + 1)
                move[:D, :D] *= np.exp(sign * step / self.radius)
                found.append(move)
        return np.stack(found)

    def lattice(self, grid: Grid) -> Grid:
        """Where an image is looked at as the fixed one."""
        return _centred(grid, self.shape, self.spacing)

    def whole(self, grid: Grid) -> Grid:
        """A lattice that covers all of an image, of even sides: such have their middles on each other whatever their sizes."""
        halves = np.maximum(1, np.ceil(grid.sides / np.asarray(self.spacing) / 2 - 1e-6)).astype(int)
        return _centred(grid, tuple(2 * halves), self.spacing)

    def seen(self, images: torch.Tensor, poses: torch.Tensor, outside: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, C, *any) on lattices of this spacing, seen at poses (B, D + 1, D + 1): (B, C, *shape).

        Parameters
        ----------
        images : the images
        poses : where their points are seen
        outside : what stands beyond an image, (B, C); by default its least value
        """
        D, device = self.ndim, images.device
        sides = torch.tensor(self.spacing, device=device)
        middles = [torch.tensor([(n - 1) / 2 for n in shape], device=device) for shape in (self.shape, images.shape[2:])]
        x = (positions(self.shape, device) - middles[0]) * sides
        poses = poses.to(device, torch.float32)
        there = torch.einsum("bij,...j->b...i", poses[:, :D, :D], x) + poses[:, :D, D].reshape(-1, *[1] * D, D)
        index = there / sides + middles[1]
        last = torch.tensor(images.shape[2:], device=device) - 0.5
        inside = ((index >= -0.5) & (index <= last)).all(dim=-1)[:, None]
        least = images.flatten(2).amin(dim=2) if outside is None else outside
        return torch.where(inside, sampled(images, index), least.reshape(*least.shape, *[1] * D))


def on_lattice(image: Image, lattice: Grid) -> torch.Tensor:
    """An image on a coarser lattice, (1, C, *shape): smoothed as far as voxels grow, its least value where it ends."""
    ratios = np.asarray(lattice.spacing) / np.asarray(image.grid.spacing)
    sigma = 0.5 * np.sqrt(np.maximum(0, ratios**2 - 1))
    values = image.values.astype(np.float32, copy=False)
    channels = (0.0,) * (values.ndim - image.ndim)
    smooth = image.with_values(scipy.ndimage.gaussian_filter(values, (*sigma, *channels)) if sigma.max() > 0 else values)
    return image_to_tensor(resample(smooth, lattice, fill=float(values.min())))


def framed(grid: Grid) -> FloatArray:
    """Points about a grid's centre along its axes to its world, (D + 1, D + 1): p = Q x + c."""
    D = grid.ndim
    frame = np.eye(D + 1)
    frame[:D, :D], frame[:D, D] = grid.axes, grid.center
    return frame


def pose_of(transform: Affine, fixed: Grid, moving: Grid) -> FloatArray:
    """An affine map of worlds as a pose."""
    D = fixed.ndim
    world = np.eye(D + 1)
    world[:D, :D], world[:D, D] = transform.matrix, transform.translation
    return np.linalg.inv(framed(moving)) @ world @ framed(fixed)


def affine_of(pose: FloatArray, fixed: Grid, moving: Grid) -> Affine:
    """The affine map of worlds, fixed to moving, that a pose is."""
    D = fixed.ndim
    world = framed(moving) @ pose @ np.linalg.inv(framed(fixed))
    return Affine(world[:D, :D], world[:D, D])


def points_of(mask: Labels, count: int, seed: int = 0) -> FloatArray:
    """Places of a mask, drawn with repetition, (count, D) world mm; what is not 0 counts."""
    where = np.argwhere(mask.values != 0)
    chosen = where[np.random.default_rng(seed).integers(len(where), size=count)]
    return np.asarray(mask.grid.points_at(chosen))


def _centred(grid: Grid, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
    middle = grid.axes @ (np.asarray(spacing) * (np.asarray(shape) - 1) / 2)
    return Grid(tuple(int(n) for n in shape), spacing, tuple(grid.center - middle), grid.direction)
