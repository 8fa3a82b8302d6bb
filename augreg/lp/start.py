"""A robust start: rotations, scales and all translations tried at the coarsest level.

For every candidate rotation and scale the moving image is warped about the centre and correlated with the fixed one for all
translations at once; the normalised correlation over the overlap only (Padfield 2012, IEEE TIP 21(5), eq. 7-12) does not
reward an image for leaving the view.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import scipy.fft

from augreg.grid import FloatArray, Grid
from augreg.image import Image
from augreg.lp.pyramid import Raster
from augreg.transforms import Affine, Transform
from augreg.warp import warp

# longest axis of the search grid: all translations of one candidate cost a few Fourier transforms of twice that size
_SIZE = {2: 64, 3: 32}
_TURNS = {2: (-15, -10, -5, 0, 5, 10, 15), 3: (-10, 0, 10)}
_SCALES = {2: (0.85, 1.0, 1.15), 3: (1.0,)}
_OVERLAP = 0.4
_REACH = 0.3


def candidates(fixed: Raster, moving: Raster, initial: Transform, *, rigid: bool, count: int) -> list[Affine]:
    """The best `count` affine starts A on the fixed side (phi = initial @ A), best first; the identity is always among them."""
    ndim = fixed.grid.ndim
    scale = max(fixed.grid.shape) / _SIZE[ndim]
    grid = fixed.grid.with_spacing(fixed.step * max(scale, 1.0))
    images = [Image(raster.values.reshape(*raster.grid.shape, -1).mean(axis=-1), raster.grid) for raster in (fixed, moving)]
    masks = [Image(raster.allowed.reshape(raster.grid.shape).astype(np.float32), raster.grid) for raster in (fixed, moving)]
    identity = Affine.identity(ndim)
    correlate = _Correlation(_values(images[0], masks[0], identity, grid), grid)
    found: list[tuple[float, Affine]] = []
    scales = (1.0,) if rigid else _SCALES[ndim]
    pairs = list(itertools.combinations(range(ndim), 2))
    for turns in itertools.product(_TURNS[ndim], repeat=len(pairs)):
        for factor in scales:
            matrix = factor * np.eye(ndim)
            for (a, b), turn in zip(pairs, turns, strict=True):
                matrix = matrix @ _rotation(ndim, a, b, np.deg2rad(turn))
            turned = Affine.about(matrix, grid.center)
            score, shift = correlate(_values(images[1], masks[1], initial @ turned, grid))
            step = grid.index_to_world @ shift
            found.append((score, Affine(turned.matrix, turned(step))))
    found.sort(key=lambda pair: -pair[0])
    return [affine for _, affine in found[:count]] + [identity]


def _values(image: Image, mask: Image, transform: Transform, grid: Grid) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    values = warp(image, transform, grid, fill=np.nan).values.astype(np.float64)
    inside = warp(mask, transform, grid, fill=0.0).values.astype(np.float64) > 0.5
    valid = np.isfinite(values) & inside
    return np.where(valid, values, 0.0), valid


class _Correlation:
    """Masked normalised correlation with one fixed image, for all translations."""

    def __init__(self, fixed: tuple[FloatArray, npt.NDArray[np.bool_]], grid: Grid) -> None:
        values, valid = fixed
        self.mean = values[valid].mean() if valid.any() else 0.0
        self.shape = [scipy.fft.next_fast_len(2 * n - 1, real=True) for n in grid.shape]
        centred = np.where(valid, values - self.mean, 0.0)
        self.fixed = [np.conj(self._transform(part)) for part in (valid.astype(float), centred, centred**2)]
        self.least = _OVERLAP * valid.sum()
        reach = []
        for axis, (n, padded) in enumerate(zip(grid.shape, self.shape, strict=True)):
            shift = np.arange(padded)
            shift[shift > padded // 2] -= padded
            reach.append((np.abs(shift) <= _REACH * n).reshape([-1 if a == axis else 1 for a in range(grid.ndim)]))
        self.allowed = np.logical_and.reduce(np.broadcast_arrays(*reach))

    def _transform(self, values: FloatArray) -> npt.NDArray[np.complexfloating]:
        return scipy.fft.rfftn(values, self.shape)

    def __call__(self, moving: tuple[FloatArray, npt.NDArray[np.bool_]]) -> tuple[float, FloatArray]:
        """The best score and its shift d (voxels): fixed(x) ~ moving(x + d)."""
        values, valid = moving
        centred = np.where(valid, values - self.mean, 0.0)
        m, g, gg = (self._transform(part) for part in (valid.astype(float), centred, centred**2))
        fm, f, ff = self.fixed
        overlap, sf, sff, sg, sgg, sfg = (
            scipy.fft.irfftn(product, self.shape) for product in (m * fm, m * f, m * ff, g * fm, gg * fm, g * f)
        )
        n = np.maximum(overlap, 1.0)
        variance = np.maximum(sff - sf**2 / n, 0) * np.maximum(sgg - sg**2 / n, 0)
        good = self.allowed & (overlap >= self.least) & (variance > 1e-6 * variance.max())
        score = np.where(good, (sfg - sf * sg / n) / np.sqrt(np.where(variance > 0, variance, 1)), -np.inf)
        best = np.unravel_index(np.argmax(score), score.shape)
        shift = [i - n if i > n // 2 else i for i, n in zip(best, self.shape, strict=True)]
        return float(score[best]), np.array(shift, dtype=float)


def _rotation(ndim: int, a: int, b: int, angle: float) -> FloatArray:
    matrix = np.eye(ndim)
    matrix[[a, b], [a, b]] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix
