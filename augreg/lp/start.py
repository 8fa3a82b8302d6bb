"""A robust start: rotations, scales and all translations tried at a very coarse level.

For every candidate rotation and scale the moving image is warped about the centre and correlated with the fixed one for all
translations at once; the normalised correlation over the overlap only (Padfield 2012, IEEE TIP 21(5), eq. 7-12) does not
reward an image for leaving the view. All candidates share their Fourier transforms.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import scipy.fft

from augreg._compile import threads_for
from augreg.grid import FloatArray, Grid
from augreg.lp import _kernels
from augreg.lp.pyramid import Raster
from augreg.transforms import Affine, Transform

# degrees between rotations, and scales
_TURN = {2: 5.0, 3: 10.0}
_SCALES = {2: (0.85, 1.0, 1.15), 3: (1.0,)}
_OVERLAP = 0.4
_REACH = 0.3
# nanoseconds per sample, about
_SAMPLE = 20

Samples = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


def candidates(fixed: Raster, moving: Raster, initial: Transform, *, rigid: bool, degrees: float, count: int) -> list[Affine]:
    """The best `count` affine starts A on the fixed side (phi = initial @ A), best first.

    Parameters
    ----------
    fixed, moving : a level of some 32 voxels along the longest axis
    rigid : no scales
    degrees : rotations up to so many are tried
    """
    grid, ndim = fixed.grid, fixed.grid.ndim
    scales = (1.0,) if rigid else _SCALES[ndim]
    matrices = [factor * turn for turn in _rotations(ndim, degrees) for factor in scales]
    turned = [Affine.about(matrix, grid.center) for matrix in matrices]
    points = grid.points()
    everywhere = initial(np.stack([affine(points) for affine in turned]))
    scores, shifts = _correlations(_samples(fixed, points), _samples(moving, everywhere), grid)
    found = []
    for number in np.argsort(-scores, kind="stable")[:count]:
        affine = turned[number]
        found.append(Affine(affine.matrix, affine(grid.index_to_world @ shifts[number])))
    return found


def _rotations(ndim: int, degrees: float) -> list[FloatArray]:
    """Products of rotations in all coordinate planes."""
    steps = int(degrees // _TURN[ndim])
    angles = np.deg2rad(_TURN[ndim]) * np.arange(-steps, steps + 1)
    planes = list(itertools.combinations(range(ndim), 2))
    products: list[FloatArray] = []
    for turns in itertools.product(angles, repeat=len(planes)):
        matrix = np.eye(ndim)
        for (a, b), angle in zip(planes, turns, strict=True):
            turn = np.eye(ndim)
            turn[[a, b], [a, b]] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        products.append(matrix)
    return products


def _samples(raster: Raster, points: FloatArray) -> Samples:
    """Mean over channels at points (..., D), 0 where it is not known, and where it is."""
    flat = np.ascontiguousarray(points.reshape(-1, raster.grid.ndim))
    out = np.empty((len(flat), raster.values.shape[-1], 1, 1), dtype=np.float32)
    # bundles of a single sample
    still = np.zeros_like(flat)
    with threads_for(_SAMPLE * out.size):
        image = (raster.values, raster.allowed, False, *raster.frame)
        _kernels.sample_lines(*image, flat, still, still[:, None], 0.0, 1.0, out)
    values = out.mean(axis=1).reshape(points.shape[:-1])
    valid = np.isfinite(values)
    return np.where(valid, values, np.float32(0.0)), valid


def _correlations(fixed: Samples, moving: Samples, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Of every candidate (K, *shape) the best score and its shift d (K, D), voxels: fixed(x) ~ moving(x + d)."""
    shape = [scipy.fft.next_fast_len(n + int(_REACH * n), real=True) for n in grid.shape]
    axes = tuple(range(-grid.ndim, 0))

    def spectra(samples: Samples) -> list[npt.NDArray[np.complexfloating]]:
        values, valid = samples
        # centred and scaled: single precision suffices
        inside = values[valid] if valid.any() else np.zeros(1, np.float32)
        centred = np.where(valid, (values - inside.mean()) / (inside.std() + np.float32(1e-12)), np.float32(0.0))
        return [scipy.fft.rfftn(part, shape, axes) for part in (valid.astype(np.float32), centred, centred**2)]

    fm, f, ff = (np.conj(part) for part in spectra(fixed))
    m, g, gg = spectra(moving)
    products = (m * fm, m * f, m * ff, g * fm, gg * fm, g * f)
    overlap, sf, sff, sg, sgg, sfg = (scipy.fft.irfftn(product, shape, axes) for product in products)
    n = np.maximum(overlap, 1.0)
    variance = np.maximum(sff - sf**2 / n, 0) * np.maximum(sgg - sg**2 / n, 0)
    steps = np.meshgrid(*[_signed(size) for size in shape], indexing="ij")
    near = np.logical_and.reduce([np.abs(step) <= _REACH * size for step, size in zip(steps, grid.shape, strict=True)])
    good = near & (overlap >= _OVERLAP * fixed[1].sum()) & (variance > 1e-6 * variance.max())
    score = np.where(good, (sfg - sf * sg / n) / np.sqrt(np.where(good, variance, 1)), -np.inf).reshape(len(overlap), -1)
    best = np.argmax(score, axis=1)
    shifts = np.stack([step.ravel()[best] for step in steps], axis=1).astype(float)
    return score[np.arange(len(best)), best].astype(float), shifts


def _signed(size: int) -> npt.NDArray[np.int64]:
    """The shifts that the places of a circular correlation stand for."""
    steps = np.arange(size)
    return np.where(steps > size // 2, steps - size, steps)
