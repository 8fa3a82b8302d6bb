"""How well two images agree under all translations at once, by Fourier transforms that all candidates share.

`correlations` are normalised over the overlap only (Padfield 2012, IEEE TIP 21(5), eq. 7-12): they do not reward an image for
leaving the view. Where any contrast is allowed they see what is brighter here and darker there as nothing; `correlation_ratios`
(Roche et al., MICCAI 1998) do not: with classes k of one image's brightness, and n_k and s_k the number and the sum of the other
image's samples that lie on each,

    eta^2 = (sum_k s_k^2 / n_k  -  (sum_k s_k)^2 / n) / (sum of squares  -  (sum_k s_k)^2 / n),

a correlation each for every n_k, every s_k and the squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.fft

from augreg.geometry.grid import FloatArray, Grid
from augreg.keypoints.pyramid import Raster
from augreg.lp.profiles import sampled

# share of the fixed image that a translation must leave inside the moving one
_OVERLAP = 0.4
# classes of brightness, and the least variance that shows something, of images whose variance is 1
_CLASSES, _SHOWN = 8, 1e-3

Samples = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


def samples(raster: Raster, points: FloatArray) -> Samples:
    """Mean over channels of a raster at points (..., D) mm, 0 where it is not known, and where it is."""
    flat = np.ascontiguousarray(points.reshape(-1, raster.grid.ndim))
    # bundles of a single sample; of labels, too, a mean counts
    still = np.zeros_like(flat)
    values = sampled(replace(raster, nearest=False), flat, still, still[:, None], 0, 1.0).mean(axis=1).reshape(points.shape[:-1])
    valid = np.isfinite(values)
    return np.where(valid, values, np.float32(0.0)), valid


def plain_correlations(fixed: Samples, moving: Samples, grid: Grid, reach: float) -> FloatArray:
    """Of every candidate (K, *shape) the greatest correlation over all shifts, (K,), what lies outside taken for the mean."""
    shape = [scipy.fft.next_fast_len(n + int(reach * n), real=True) for n in grid.shape]
    axes = tuple(range(-grid.ndim, 0))

    def centred(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        mean = values.sum(axis=axes, keepdims=True) / np.maximum(valid.sum(axis=axes, keepdims=True), 1)
        out = np.where(valid, values - mean, np.float32(0.0)).astype(np.float32)
        return out / (np.sqrt((out**2).sum(axis=axes, keepdims=True)) + np.float32(1e-12))

    still = np.conj(scipy.fft.rfftn(centred(*fixed), shape, axes))
    sfg = scipy.fft.irfftn(scipy.fft.rfftn(centred(*moving), shape, axes) * still, shape, axes)
    near = _near(shape, grid, reach)[1]
    return np.where(near, sfg, -np.inf).reshape(len(sfg), -1).max(axis=1)


def _near(shape: Sequence[int], grid: Grid, reach: float) -> tuple[tuple[npt.NDArray[np.int64], ...], npt.NDArray[np.bool_]]:
    """Shifts of all places of a circular correlation, one array per axis, and which are within reach."""
    steps = np.meshgrid(*[_signed(size) for size in shape], indexing="ij")
    return steps, np.logical_and.reduce([np.abs(step) <= reach * size for step, size in zip(steps, grid.shape, strict=True)])


def correlations(fixed: Samples, moving: Samples, grid: Grid, reach: float) -> tuple[FloatArray, FloatArray]:
    """Of every candidate (K, *shape) the best score and its shift d (K, D), voxels: fixed(x) ~ moving(x + d)."""
    shape = [scipy.fft.next_fast_len(n + int(reach * n), real=True) for n in grid.shape]
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
    steps, near = _near(shape, grid, reach)
    good = near & (overlap >= _OVERLAP * fixed[1].sum()) & (variance > 1e-6 * variance.max())
    covariance = sfg - sf * sg / n
    return _best(np.where(good, covariance / np.sqrt(np.where(good, variance, 1)), -np.inf), steps)


def correlation_ratios(fixed: Samples, moving: Samples, grid: Grid, reach: float) -> tuple[FloatArray, FloatArray]:
    """As `correlations`, but of each shift the share of one image's variance that the other one's class of brightness explains.

    The better of both ways counts: a contrast may bring two tissues together in one image and part them in the other.
    """
    shape = [scipy.fft.next_fast_len(n + int(reach * n), real=True) for n in grid.shape]
    axes = tuple(range(-grid.ndim, 0))
    f, ff, *in_fixed = np.conj(_classified(*fixed, shape))
    inside_fixed = np.sum(in_fixed, axis=0)
    steps, near = _near(shape, grid, reach)
    scores = np.empty((len(moving[0]), *shape), dtype=np.float32)
    for k, samples_of_one in enumerate(zip(*moving, strict=True)):
        g, gg, *in_moving = _classified(*samples_of_one, shape)
        inside_moving = np.sum(in_moving, axis=0)
        of_fixed = [inside_moving * part for part in in_fixed], [g * part for part in in_fixed], [gg * inside_fixed]
        of_moving = [part * inside_fixed for part in in_moving], [part * f for part in in_moving], [inside_moving * ff]
        ratios = []
        for products in (of_fixed, of_moving):
            counts, sums, (squares,) = (scipy.fft.irfftn(np.stack(part), shape, axes) for part in products)
            overlap, total = np.maximum(counts.sum(axis=0), 1.0), sums.sum(axis=0)
            common = total**2 / overlap
            explained = (sums**2 / np.maximum(counts, 1.0)).sum(axis=0) - common
            # images are scaled to unit variance: what varies less than this shows nothing
            ratios.append(explained / np.maximum(squares - common, _SHOWN * overlap))
        good = near & (overlap >= _OVERLAP * fixed[1].sum())
        scores[k] = np.where(good, np.maximum(*ratios), -np.inf)
    return _best(scores, steps)


def _classified(
    values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], shape: Sequence[int]
) -> npt.NDArray[np.complexfloating]:
    """Spectra of the centred and scaled image, of its square, and of where each class of brightness is, (K + 2, *shape)."""
    inside = values[valid] if valid.any() else np.zeros(1, np.float32)
    centred = np.where(valid, (values - inside.mean()) / (inside.std() + np.float32(1e-12)), np.float32(0.0))
    bounds = np.unique(np.quantile(inside, np.linspace(0, 1, _CLASSES + 1)[1:-1]))
    number = np.where(valid, np.searchsorted(bounds, values), -1)
    classes = [(number == k).astype(np.float32) for k in range(len(bounds) + 1)]
    return scipy.fft.rfftn(np.stack([centred, centred**2, *classes]), shape, tuple(range(1, values.ndim + 1)))


def _best(scores: npt.NDArray[np.floating], steps: Sequence[npt.NDArray[np.int64]]) -> tuple[FloatArray, FloatArray]:
    """Of every candidate's scores (K, *shape) of all shifts the best one, (K,), and its shift, (K, D)."""
    flat = scores.reshape(len(scores), -1)
    best = np.argmax(flat, axis=1)
    shifts = np.stack([step.ravel()[best] for step in steps], axis=1).astype(float)
    return flat[np.arange(len(best)), best].astype(float), shifts


def _signed(size: int) -> npt.NDArray[np.int64]:
    """The shifts that the places of a circular correlation stand for."""
    steps = np.arange(size)
    return np.where(steps > size // 2, steps - size, steps)
