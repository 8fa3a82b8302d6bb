"""Warping and resampling, by pull-back: moved(x) = moving(phi(x)) at the points x of the fixed grid.

Interpolation is linear for images, nearest for labels, cubic on request (interpolating cubic B-splines, mirrored borders).
A voxel reaches half a voxel beyond its centre; outside the voxels of the moving image the fill value stands. Both as in ITK.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from augreg import _affine_kernels, _kernels
from augreg._compile import threads_for
from augreg.grid import FloatArray, Grid, reals
from augreg.image import Image, Labels
from augreg.transforms import Affine, DisplacementField, Transform

Interpolation = Literal["nearest", "linear", "cubic"]
Raster = TypeVar("Raster", Image, Labels)

# points handled at a time where the map is not affine: they stay in the cache and large volumes need little memory
_SLAB = 1 << 17
# nanoseconds that one interpolation takes, about
_SAMPLE = 20


def warp(
    moving: Raster, transform: Transform, grid: Grid, *, interpolation: Interpolation | None = None, fill: float = 0.0
) -> Raster:
    """The moving image seen through a transform: moved(x) = moving(phi(x)) on `grid`.

    Parameters
    ----------
    moving : image or labels in the moving space
    transform : phi, fixed space to moving space
    grid : the fixed grid
    interpolation : default linear for images, nearest for labels; labels allow nothing else
    fill : value where phi(x) lies outside the moving image

    Returns
    -------
    An `Image` or `Labels` on `grid` with the pixel type of `moving`; integers are rounded and clipped to their range.

    Raises
    ------
    ValueError : for different dimensions or an unknown interpolation.
    """
    if not moving.ndim == transform.ndim == grid.ndim:
        raise ValueError(
            f"warp: expected one dimension, got a {moving.ndim}-D image, a {transform.ndim}-D transform, a {grid.ndim}-D grid"
        )
    way = _interpolation(moving, interpolation)
    if way == "nearest":
        values = _nearest(moving, transform, grid, fill)
    elif way == "linear" and isinstance(transform, Affine):
        values = _linear(moving, transform, grid, fill)
    else:
        values = _smooth(moving, transform, grid, way, fill)
    return type(moving)(values, grid)


def resample(image: Raster, grid: Grid, *, interpolation: Interpolation | None = None, fill: float = 0.0) -> Raster:
    """The image on another grid: `warp` with the identity."""
    return warp(image, Affine.identity(grid.ndim), grid, interpolation=interpolation, fill=fill)


def sample(
    image: Image | Labels,
    points: npt.ArrayLike,
    *,
    interpolation: Interpolation | None = None,
    fill: float = np.nan,
) -> FloatArray:
    """Values at world points: (..., D) mm -> (...) or, with channels, (..., C) float64; `fill` outside."""
    array = reals("points", points)
    if array.ndim == 0 or array.shape[-1] != image.ndim:
        raise ValueError(f"points: expected {image.ndim} coordinates on the last axis, got shape {array.shape}")
    flat = array.reshape(-1, image.ndim)
    way = _interpolation(image, interpolation)
    tail = image.values.shape[image.ndim :]
    if way == "nearest":
        source = np.ascontiguousarray(image.values, dtype=np.float64).reshape(_raster_shape(image))
        out = np.empty((len(flat), source.shape[-1]))
        with threads_for(_SAMPLE * out.size):
            _kernels.nearest_at(source, flat, *_frame(image.grid), fill, out)
    else:
        source = _source(image, way).astype(np.float64, copy=False)
        out = np.empty((len(flat), source.shape[-1]))
        with threads_for(_SAMPLE * out.size):
            _kernels.sample_at(source, flat, *_frame(image.grid), _TAPS[way], fill, out)
    return out.reshape(*array.shape[:-1], *tail)


def set_threads(count: int) -> None:
    """Number of threads of all parallel kernels of augreg.

    Raises
    ------
    ValueError : if count is below 1 or above the number of threads numba has (the cores, or NUMBA_NUM_THREADS).
    """
    _kernels.set_threads(count)


# pixel types with kernels of their own; others are rare and go through float64
_NATIVE = (np.uint8, np.int16, np.uint16, np.float32, np.float64)
_TAPS = {"linear": _kernels.LINEAR, "cubic": _kernels.CUBIC_MIRRORED}


def _interpolation(image: Image | Labels, wanted: Interpolation | None) -> Interpolation:
    if wanted is None:
        return "nearest" if isinstance(image, Labels) else "linear"
    if wanted not in ("nearest", "linear", "cubic"):
        raise ValueError(f"interpolation: expected nearest, linear or cubic, got {wanted!r}")
    if isinstance(image, Labels) and wanted != "nearest":
        raise ValueError(f"interpolation: expected nearest, labels have no values in between, got {wanted!r}")
    return wanted


def _source(image: Image | Labels, way: Interpolation) -> npt.NDArray[np.floating]:
    """Values, or for cubic interpolation their spline coefficients, as (n0, n1, n2, C) floats; 2-D has n0 = 1."""
    values = image.values
    if values.dtype not in (np.float32, np.float64):
        # float32 holds integers of 24 bits exactly
        values = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    if way == "cubic":
        from scipy.ndimage import spline_filter1d  # slow to import, and rarely needed

        values = values.astype(np.float64)
        for axis in range(image.ndim):
            if values.shape[axis] > 1:
                values = spline_filter1d(values, order=3, axis=axis, mode="mirror")
    return np.ascontiguousarray(values).reshape(_raster_shape(image))


def _linear(moving: Image | Labels, transform: Affine, grid: Grid, fill: float) -> npt.NDArray[Any]:
    """The commonest case, on the values as they are: no conversion, no coordinates in memory."""
    dtype = moving.values.dtype
    source = moving.values if dtype in _NATIVE else moving.values.astype(np.float64)
    out = np.empty((*grid.shape, *moving.values.shape[moving.ndim :]), dtype=source.dtype)
    rounded = source.dtype.kind in "iu"
    precision = np.zeros(1, dtype=np.result_type(source.dtype, np.float32))
    outside = float(_as_type(np.asarray(fill, dtype=float), source.dtype))
    raster = np.ascontiguousarray(source).reshape(_raster_shape(moving))
    lines = out.reshape(*(1, *grid.shape)[-3:], raster.shape[-1])
    _affine_kernels.linear_affine(raster, *_index_map(moving, transform, grid), outside, rounded, precision, lines)
    return _as_type(out, dtype)


def _smooth(moving: Image | Labels, transform: Transform, grid: Grid, way: Interpolation, fill: float) -> npt.NDArray[Any]:
    source = _source(moving, way)
    out = np.empty((*grid.shape, source.shape[-1]), dtype=source.dtype)
    if isinstance(transform, Affine):
        _affine_kernels.cubic_affine(source, *_index_map(moving, transform, grid), fill, _three_axes(out, grid.ndim))
    else:
        flat = out.reshape(-1, source.shape[-1])
        for rows, points in _slabs(transform, grid):
            _kernels.sample_at(source, points, *_frame(moving.grid), _TAPS[way], fill, flat[rows])
    return _as_type(out.reshape(*grid.shape, *moving.values.shape[moving.ndim :]), moving.values.dtype)


def _nearest(moving: Image | Labels, transform: Transform, grid: Grid, fill: float) -> npt.NDArray[Any]:
    # values are only moved: seen as unsigned integers of their size, four compiled kernels serve all types
    kind = np.dtype(f"u{moving.values.dtype.itemsize}")
    source = np.ascontiguousarray(moving.values).view(kind).reshape(_raster_shape(moving))
    outside = _as_type(np.asarray(fill), moving.values.dtype).view(kind)[()]
    out = np.empty((*grid.shape, source.shape[-1]), dtype=kind)
    if isinstance(transform, Affine):
        _affine_kernels.nearest_affine(source, *_index_map(moving, transform, grid), outside, _three_axes(out, grid.ndim))
    else:
        flat = out.reshape(-1, source.shape[-1])
        for rows, points in _slabs(transform, grid):
            _kernels.nearest_at(source, points, *_frame(moving.grid), outside, flat[rows])
    return out.reshape(*grid.shape, *moving.values.shape[moving.ndim :]).view(moving.values.dtype)


def _index_map(moving: Image | Labels, transform: Affine, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """The affine map from indices of the grid to indices of the moving image, padded to three axes: matrix, offset."""
    matrix, offset = np.eye(3), np.zeros(3)
    matrix[-grid.ndim :, -grid.ndim :] = moving.grid.world_to_index @ transform.matrix @ grid.index_to_world
    offset[-grid.ndim :] = moving.grid.indices_at(transform(np.asarray(grid.origin)))
    return matrix, offset


def _slabs(transform: Transform, grid: Grid) -> Iterator[tuple[slice, FloatArray]]:
    """The mapped points of the grid, (N, D), in pieces of whole layers of the first axis, with their flat positions."""
    layer = grid.size // grid.shape[0]
    thickness = max(1, _SLAB // layer)
    for start in range(0, grid.shape[0], thickness):
        count = min(thickness, grid.shape[0] - start)
        corner = grid.points_at([start] + [0] * (grid.ndim - 1))
        slab = Grid((count, *grid.shape[1:]), grid.spacing, tuple(corner), grid.direction)
        # a field on the whole grid is not interpolated, but cut
        if isinstance(transform, DisplacementField) and transform.grid == grid:
            part: Transform = DisplacementField(transform.values[start : start + count], slab)
        else:
            part = transform
        yield slice(start * layer, (start + count) * layer), part._map_grid(slab)


def _three_axes(values: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    return values if ndim == 3 else values[None]


def _raster_shape(image: Image | Labels) -> tuple[int, int, int, int]:
    n0, n1, n2 = (1, *image.grid.shape)[-3:]
    return n0, n1, n2, image.values.size // image.grid.size


def _frame(grid: Grid) -> tuple[FloatArray, FloatArray]:
    return np.asarray(grid.origin), grid.world_to_index


def _as_type(values: npt.NDArray[Any], dtype: np.dtype) -> npt.NDArray[Any]:
    if values.dtype == dtype:
        return values
    if dtype.kind == "b":
        return values >= 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return values.astype(dtype)
