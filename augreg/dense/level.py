"""One level: what two images want of a displacement field on blocks, and a step towards it.

Windows, forces and the field live on blocks of voxels: in 2-D a quarter of the work of one vector per voxel, in 3-D an eighth,
and nearly as exact. With m(x) = moving(A (x + u(x))) and, in the cube of blocks around y, means, variances and the covariance

    a = var f + floor,   b = var m + floor,   c = cov,   ncc = c / sqrt(a b),        maximise sum_y w ncc+^2 / 2,

w the shares of the variances that are not noise. The derivative by m at a voxel x is, with sums over the windows of x,

    s = A f - B m - C,   A = sum g / sqrt(a b),   B = sum g ncc / b,   C = sum (g mean f / sqrt(a b) - g ncc mean m / b),

g = w ncc+ / n. Of images with channels variances and covariances are sums over channels, which share A and B. With J = D m,
G = sum s J and T = sum B J J^T over the voxels of a block and the channels a step is, as Lucas' and Kanade's,

    v = S_fluid * (S * T + eps I)^-1 (S * G),   |v| at most `cap`,       u <- S_elastic * (v + u o (id + v)),

S Gaussians. Lengths are in units of two of the finest voxels, mm along each axis, so that thick slices are no shorter than thin
ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from augreg.dense import _field_kernels, _force_kernels
from augreg.dense.known import KnownImage, Values, along_three, noise
from augreg.geometry.grid import Grid
from augreg.geometry.transforms import Affine
from augreg.threads import shared

Field = npt.NDArray[np.float32]
# Gaussians and longest step, in units; damping, as a share of the system's trace
_SYSTEM, _FLUID, _ELASTIC, _CAP, _DAMPING = 0.75, 0.5, 0.35, 0.4, 0.1
# of images of variance 1: what is no structure
_NOTHING = 1e-4
# share of its voxels that a window must know
_LEAST = 1 / 8
# nanoseconds, about, of a voxel and of a number of a block
_VOXEL, _NUMBER = 15, 2


@dataclass(frozen=True, eq=False)
class Level:
    """Two images of about one resolution.

    Parameters
    ----------
    fixed, moving : the fixed one has whole blocks
    affine : A, fixed space to the moving image's
    radius : of a window, in units
    wiener : how many times the variance of noise counts as none
    floor : what is added to variances, of images of variance 1
    """

    fixed: KnownImage
    moving: KnownImage
    affine: Affine
    radius: int
    wiener: float
    floor: float

    @cached_property
    def blocks(self) -> npt.NDArray[np.int64]:
        """Voxels of a block, (3,)."""
        return self.fixed.blocks

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks along three axes."""
        h0, h1, h2 = (int(n) for n in np.asarray(self.fixed.shape) // self.blocks)
        return h0, h1, h2

    @property
    def grid(self) -> Grid:
        """Of the blocks."""
        voxels, ndim = self.fixed.grid, self.fixed.grid.ndim
        steps = self.blocks if ndim == 3 else self.blocks[[0, 2]]
        shape = np.asarray(voxels.shape) // steps
        return Grid(
            tuple(shape), tuple(np.asarray(voxels.spacing) * steps), tuple(voxels.points_at((steps - 1) / 2)), voxels.direction
        )

    @cached_property
    def _units(self) -> npt.NDArray[np.float64]:
        """The unit in blocks of each of three axes."""
        spacing = self.fixed.grid.spacing
        return 2 * min(spacing) / (along_three(spacing, 2 * min(spacing)) * self.blocks)

    @cached_property
    def _window(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Taps and reach of a window, as near to a cube as blocks allow."""
        reach = np.rint(np.maximum((self.radius + 0.5) * self._units - 0.5, 0)).astype(np.int64)
        if self.fixed.grid.ndim == 2:
            reach[1] = 0
        return np.ones((3, reach.max() + 1), dtype=np.float32), reach

    @cached_property
    def _numbers(self) -> npt.NDArray[np.float32]:
        least = _LEAST * np.prod((2 * self._window[1] + 1) * self.blocks)
        parts = [self.wiener * noise(image) if self.wiener else 0.0 for image in (self.fixed, self.moving)]
        return np.array([least, *(_NOTHING + part for part in parts), self.floor], dtype=np.float32)

    @cached_property
    def _span(self) -> npt.NDArray[np.int64]:
        """First and end, (h0, h1, 2), of those blocks of each line that windows with structure in the fixed image have."""
        whole = np.zeros((*self.shape[:2], 2), dtype=np.int64)
        whole[..., 1] = self.shape[2]
        sums = self._summed(self._moments(self.fixed.values, whole))
        count = np.maximum(sums[:, 0], 1)
        variance = (sums[:, 2] / count - (sums[:, 1] / count) ** 2).sum(axis=0)
        seen = ((variance > self._numbers[1]) & (sums[0, 0] >= self._numbers[0])).astype(np.float32)
        wide = self._window[1] + (np.asarray(seen.shape) > 1)
        near = self._filtered(seen[None], np.ones((3, wide.max() + 1), dtype=np.float32), wide, repeat=False)[0] > 0.5
        span = np.stack([near.argmax(axis=2), near.shape[2] - near[..., ::-1].argmax(axis=2)], axis=-1)
        span[~near.any(axis=2)] = 0
        return np.ascontiguousarray(span, dtype=np.int64)

    @cached_property
    def _to_moving(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """A from index to index, as three axes: matrix, offset."""
        fixed, moving = self.fixed.grid, self.moving.grid
        matrix = moving.world_to_index @ self.affine.matrix @ fixed.index_to_world
        offset = moving.indices_at(self.affine(np.asarray(fixed.origin)))
        axes = [0, 1, 2] if fixed.ndim == 3 else [0, 2]
        wide = np.eye(3)
        wide[np.ix_(axes, axes)] = matrix
        return wide.astype(np.float32), along_three(offset, 0).astype(np.float32)

    def _taps(self, sigma: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """A Gaussian of so many units along three axes."""
        sizes = sigma * self._units
        reach = np.maximum(np.ceil(2.5 * sizes), 1).astype(np.int64)
        if self.fixed.grid.ndim == 2:
            reach[1] = 0
        taps = np.zeros((3, reach.max() + 1))
        for row, size, last in zip(taps, sizes, reach, strict=True):
            row[: last + 1] = np.exp(-0.5 * (np.arange(last + 1) / size) ** 2)
            row /= row[0] + 2 * row[1:].sum()
        return taps.astype(np.float32), reach

    @cached_property
    def _gaussians(self) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        return [self._taps(sigma) for sigma in (_SYSTEM, _FLUID, _ELASTIC)]

    def _filtered(
        self, values: Field, taps: npt.NDArray[np.float32], reach: npt.NDArray[np.int64], *, repeat: bool = True
    ) -> Field:
        out = np.empty_like(values)
        count, h0, h1, h2 = values.shape
        shared(_field_kernels.filtered, count * h0, _NUMBER * h1 * h2, values, taps, reach, repeat, out)
        return out

    def _summed(self, values: Field) -> Field:
        """Sums over windows."""
        return self._filtered(values.reshape(-1, *self.shape), *self._window, repeat=False).reshape(values.shape)

    def _moments(self, moved: Values, span: npt.NDArray[np.int64]) -> Field:
        """(C, 6, h0, h1, h2)."""
        out = np.empty((len(moved), 6, *self.shape), dtype=np.float32)
        lines = out.shape[2] * out.shape[3]
        for fixed, seen, target in zip(self.fixed.values, moved, out, strict=True):
            shared(_force_kernels.moments, lines, self._line, fixed, seen, self.blocks, span, target)
        return out

    @property
    def _line(self) -> float:
        """Nanoseconds of a line of blocks of voxels."""
        return _VOXEL * self.fixed.shape[2] * float(self.blocks[0] * self.blocks[1])

    def _seen(self, field: Field) -> Values:
        """m."""
        out = np.empty_like(self.fixed.values)
        _, n0, n1, n2 = out.shape
        sizes = np.array(self.moving.shape, dtype=np.int64)
        for moving, target in zip(self.moving.values, out, strict=True):
            arguments = (moving.reshape(-1), sizes, field, *self._to_moving, self.blocks, self._span, target)
            shared(_force_kernels.warped, n0 * n1, _VOXEL * n2, *arguments)
        return out

    def _compared(self, field: Field) -> tuple[Values, Field, float]:
        """m, the parts of A, B, C of every window, and the mean ncc by weight, 0 where there is none."""
        moved = self._seen(field)
        sums = self._summed(self._moments(moved, self._span))
        parts = np.empty((2 + len(moved), *self.shape), dtype=np.float32)
        lines, h2 = parts.shape[1] * parts.shape[2], parts.shape[3]
        totals = np.empty((lines, 2), dtype=np.float32)
        shared(_force_kernels.coefficients, lines, 10 * _NUMBER * len(moved) * h2, sums, self._numbers, parts, totals)
        total, weight = totals.sum(axis=0, dtype=np.float64)
        return moved, parts, float(total / weight) if weight > 0 else 0.0

    def agreement(self, field: Field) -> float:
        """The mean local correlation, by weight."""
        return self._compared(field)[2]

    def zeros(self) -> Field:
        """No displacement."""
        return np.zeros((self.fixed.grid.ndim, *self.shape), dtype=np.float32)

    def system(self, field: Field) -> tuple[Field, float]:
        """G and T of every block, (D + D (D + 1) / 2, h0, h1, h2), per length of the finest voxel; and the agreement."""
        ndim = self.fixed.grid.ndim
        moved, parts, agreement = self._compared(field)
        parts = self._summed(parts)
        out = np.empty((ndim + ndim * (ndim + 1) // 2, *self.shape), dtype=np.float32)
        scale = (self._units * self.blocks / 2).astype(np.float32)
        lines = out.shape[1] * out.shape[2]
        for channel, (fixed, seen) in enumerate(zip(self.fixed.values, moved, strict=True)):
            arguments = (fixed, seen, channel, parts, self.blocks, scale, self._span, out)
            shared(_force_kernels.forces, lines, self._line, *arguments)
        return out, agreement

    def damping(self, system: Field) -> float:
        """eps, before it is scaled: a share of the trace of T, by its own weight."""
        trace = system[[2, 4] if len(system) == 5 else [3, 6, 8]].sum(axis=0)
        total = float(trace.sum(dtype=np.float64))
        return _DAMPING * float((trace * trace).sum(dtype=np.float64)) / max(total, 1e-20) + 1e-12

    def moved_on(self, field: Field, system: Field, damping: float) -> Field:
        """The field after a step."""
        smooth = self._filtered(system, *self._gaussians[0])
        step = np.empty_like(field)
        _, h0, h1, h2 = field.shape
        # of two of the finest voxels
        scale = (self._units / 2).astype(np.float32)
        arguments = (smooth, np.float32(damping), np.float32(2 * _CAP), scale, step)
        shared(_force_kernels.steps, h0 * h1, 10 * _NUMBER * h2, *arguments)
        step = self._filtered(step, *self._gaussians[1])
        out = np.empty_like(field)
        shared(_field_kernels.composed, h0 * h1, 20 * _NUMBER * h2, field, step, out)
        return self._filtered(out, *self._gaussians[2])


def refined(field: Field, blocks: npt.NDArray[np.int64]) -> Field:
    """A field on the blocks of a level as one on those of the next finer level, of which it took `blocks` (3,): linear."""
    for axis in np.flatnonzero(blocks == 2) + 1:
        rows = np.moveaxis(field, axis, 0)
        before, after = np.concatenate([rows[:1], rows[:-1]]), np.concatenate([rows[1:], rows[-1:]])
        both = np.stack([0.25 * before + 0.75 * rows, 0.75 * rows + 0.25 * after], axis=1)
        field = np.moveaxis(both.reshape(-1, *rows.shape[1:]), 0, axis)
    steps = blocks if len(field) == 3 else blocks[[0, 2]]
    return np.ascontiguousarray(field * steps[:, None, None, None], dtype=np.float32)
