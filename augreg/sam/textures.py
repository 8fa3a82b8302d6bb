"""Textures: the intensities of images in the space of the template."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image
from augreg.geometry.resampling import sample
from augreg.geometry.transforms import Transform

# a compromise: without it instances have half of real images' power above 0.4 cycles per pixel, with it two thirds, with twice
# as much the middle of the spectrum exceeds real images by a third and more (benchmarks/synthesis/plausibility.py)
_CRISP = 0.02


def sample_texture(image: Image, psi: Transform, template: Grid) -> FloatArray:
    """image(psi(x)) at the points of the template, (N,), cubic; NaN where psi(x) lies outside the image."""
    values = sample(image.luminance(), psi(template.points().reshape(-1, template.ndim)), interpolation="cubic", fill=np.nan)
    return values.astype(np.float32)


def mirrored_points(points: FloatArray, grid: Grid) -> FloatArray:
    """Points reflected at the outer voxel centres of a grid, again and again, until they lie inside: textures have no end."""
    index = grid.indices_at(points)
    last = grid.last
    return grid.points_at(last - np.abs(np.mod(index, 2 * last) - last))


def equalised(textures: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Textures (n, N) scaled to a common intensity, and the gains (n,) that lead back.

    Places that an image does not cover take the mean of the others.
    """
    seen = np.isfinite(textures)
    filled = np.where(seen, textures, 0).astype(np.float64)
    gains = np.ones(len(textures))
    for _ in range(5):
        mean = (gains[:, None] * filled).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        gains = np.array([f @ (mean * s) / max(f @ f, 1e-300) for f, s in zip(filled, seen, strict=True)])
        gains /= np.exp(np.mean(np.log(np.maximum(gains, 1e-300))))
    mean = (gains[:, None] * filled).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, gains[:, None] * filled, mean).astype(np.float32), 1 / gains


def crisp(textures: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.float32]:
    """Textures (n, N) times 1 + 2 a (1 - cos omega) along each axis: two samplings take about that from high frequencies."""
    values = textures.reshape(-1, *grid.shape)
    for axis in range(1, values.ndim):
        values = scipy.ndimage.correlate1d(values, [-_CRISP, 1 + 2 * _CRISP, -_CRISP], axis=axis, mode="mirror")
    return np.clip(values.reshape(textures.shape), textures.min(), textures.max())
