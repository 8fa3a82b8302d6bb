"""Warping and resampling, by pull-back: moved(x) = moving(phi(x)) at the points x of the fixed grid.

Interpolation is linear for images, nearest for labels, cubic on request (interpolating cubic B-splines, mirrored borders).
A voxel reaches half a voxel beyond its centre; outside the voxels of the moving image the fill value stands. Both as in ITK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.image import Image, Labels, as_image
from augreg.geometry.kernels import lines as lines_kernels
from augreg.geometry.kernels import points as points_kernels
from augreg.geometry.transforms import Affine, DisplacementField, Transform
from augreg.threads import shared

Interpolation = Literal["nearest", "linear", "cubic"]
Voxels = TypeVar("Voxels", Image, Labels)

# voxels handled at a time: they stay in the cache, and large volumes need little memory
_SLAB = 1 << 16
# nanoseconds that one interpolation takes, about
_SAMPLE = 20


@overload
def warp(
    moving: Voxels, transform: Transform, grid: Grid, *, interpolation: Interpolation | None = None, fill: npt.ArrayLike = 0.0
) -> Voxels: ...


@overload
def warp(
    moving: npt.NDArray[Any],
    transform: Transform,
    grid: Grid | None = None,
    *,
    interpolation: Interpolation | None = None,
    fill: npt.ArrayLike = 0.0,
) -> npt.NDArray[Any]: ...


def warp(
    moving: Image | Labels | npt.NDArray[Any],
    transform: Transform,
    grid: Grid | None = None,
    *,
    interpolation: Interpolation | None = None,
    fill: npt.ArrayLike = 0.0,
) -> Any:
    """The moving image seen through a transform: moved(x) = moving(phi(x)) on `grid`.

    Parameters
    ----------
    moving : image or labels in the moving space; an array is an image with spacing 1 (see `augreg.geometry.image.as_image`)
    transform : phi, fixed space to moving space
    grid : the fixed grid; may be left out for arrays of one shape
    interpolation : default linear for images, nearest for labels; labels allow nothing else
    fill : value where phi(x) lies outside the moving image, or one of each channel (see `background`)

    Returns
    -------
    `Image`, `Labels` (on `grid`) or array with the pixel type of `moving`; integers are rounded and clipped to their range.

    Raises
    ------
    ValueError : for different dimensions or an unknown interpolation. TypeError : for an image without a grid to warp to.
    """
    if isinstance(moving, np.ndarray):
        image = as_image("moving", moving)
        grid = image.grid if grid is None else grid
        return warp(image, transform, grid, interpolation=interpolation, fill=fill).values
    if grid is None:
        raise TypeError("grid: expected the grid of the fixed image, got none; only arrays do without")
    if not moving.ndim == transform.ndim == grid.ndim:
        raise ValueError(
            f"warp: expected one dimension, got a {moving.ndim}-D image, a {transform.ndim}-D transform, a {grid.ndim}-D grid"
        )
    way = _interpolation(moving, interpolation)
    out = np.empty((*grid.shape, *moving.values.shape[moving.ndim :]), dtype=moving.values.dtype)
    fill_slab = _nearest(moving, transform, grid, fill) if way == "nearest" else _smooth(moving, transform, grid, way, fill)
    layer = grid.size // grid.shape[0]
    thickness = max(1, _SLAB // layer)
    starts = range(0, grid.shape[0], thickness)

    def slabs(begin: int, end: int) -> None:
        for start in starts[begin:end]:
            fill_slab(start, out[start : start + thickness])

    shared(slabs, len(starts), _SAMPLE * thickness * layer)
    return type(moving)(out, grid)


def resample(image: Voxels, grid: Grid, *, interpolation: Interpolation | None = None, fill: npt.ArrayLike = 0.0) -> Voxels:
    """The image on another grid: `warp` with the identity."""
    return warp(image, Affine.identity(grid.ndim), grid, interpolation=interpolation, fill=fill)


def background(image: Image) -> FloatArray:
    """What stands outside an image if nothing else is said, one value of each channel (C,).

    Where at least half of the border of a picture (2-D) has one light colour, as slides of tissue and scanned pages have it, that
    colour; else the minimum if that is negative, as air in CT; else 0. One colour: within a sixteenth of the range of all values
    of the border's median, light: above the middle of that range.
    """
    flat = image.values.reshape(image.grid.size, -1)
    kind, channels = flat.dtype.kind, flat.shape[1]
    if kind == "b":
        return np.zeros(channels)
    finite = flat[np.isfinite(flat).all(axis=1)] if kind == "f" else flat
    if not len(finite):
        return np.zeros(channels)
    low, high = float(finite.min()), float(finite.max())
    if image.ndim == 2 and high > low:
        middle, share = _border(image, (high - low) / 16)
        if share >= 0.5 and middle.mean() > (low + high) / 2:
            return middle
    return np.full(channels, min(0.0, low))


def _border(image: Image, near: float) -> tuple[FloatArray, float]:
    """The median colour (C,) of the border of a picture, and the share of its pixels that are as near to it in every channel."""
    values = image.values
    sides = (values[0], values[-1], values[1:-1, 0], values[1:-1, -1])
    pixels = np.concatenate([side.reshape(len(side), -1) for side in sides]).astype(np.float64)
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return np.zeros(pixels.shape[1]), 0.0
    middle = np.quantile(pixels, 0.5, axis=0, method="lower")
    return middle, float((np.abs(pixels - middle) <= near).all(axis=1).mean())


def sample(
    image: Image | Labels,
    points: npt.ArrayLike,
    *,
    interpolation: Interpolation | None = None,
    fill: npt.ArrayLike = np.nan,
) -> FloatArray:
    """Values at world points: (..., D) mm -> (...) or, with channels, (..., C) float64; `fill` outside."""
    array = reals("points", points)
    if array.ndim == 0 or array.shape[-1] != image.ndim:
        raise ValueError(f"points: expected {image.ndim} coordinates on the last axis, got shape {array.shape}")
    flat = array.reshape(-1, image.ndim)
    way = _interpolation(image, interpolation)
    tail = image.values.shape[image.ndim :]
    channels = image.values.size // image.grid.size
    outside = _outside(fill, channels)
    if way == "nearest":
        places = np.empty(len(flat), dtype=np.int64)
        shared(points_kernels.nearest_at, len(flat), _SAMPLE, _sizes(image), flat, *_frame(image.grid), places)
        out = np.tile(outside, (len(flat), 1))
        out[places >= 0] = image.values.reshape(-1, channels)[places[places >= 0]]
    else:
        source = _source(image, way).astype(np.float64, copy=False)
        out = np.empty((len(flat), channels))
        kernel, values = _kernel_at(source, way)
        shared(kernel, len(flat), _SAMPLE * channels, *values, flat, *_frame(image.grid), outside.astype(np.float64), out)
    return out.reshape((*array.shape[:-1], *tail))


def read_at(image: Image, labels: Labels, points: FloatArray) -> tuple[npt.NDArray[np.float32], Any, npt.NDArray[np.bool_]]:
    """What an image, linear, and its label map, nearest, show at points of their space, and which of these lie inside.

    As `sample` on each, in their own types and one look at where the points lie.

    Parameters
    ----------
    image, labels : on one grid
    points : (..., D) mm

    Returns
    -------
    Values (...) or (..., C) float32 and labels (...), 0 outside; whether a point is inside, (...).
    """
    flat, shape = np.ascontiguousarray(points.reshape(-1, image.ndim)), points.shape[:-1]
    places = np.empty(len(flat), dtype=np.int64)
    shared(points_kernels.nearest_at, len(flat), _SAMPLE, _sizes(image), flat, *_frame(image.grid), places)
    kind = np.dtype(f"u{labels.values.dtype.itemsize}")
    names = np.empty((len(flat), 1), dtype=labels.values.dtype)
    given = np.ascontiguousarray(labels.values).view(kind).reshape(-1, 1)
    shared(points_kernels.gathered, len(flat), _SAMPLE, given, places, np.zeros(1, dtype=kind), names.view(kind))
    source = _source(image, "linear").astype(np.float32, copy=False)
    channels = source.shape[-1]
    values = np.empty((len(flat), channels), dtype=np.float32)
    outside = np.zeros(channels, dtype=np.float32)
    shared(points_kernels.linear_at, len(flat), _SAMPLE * channels, source, flat, *_frame(image.grid), outside, values)
    tail = image.values.shape[image.ndim :]
    return values.reshape((*shape, *tail)), names.reshape(shape), (places >= 0).reshape(shape)


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


# writes one slab of the output, whose first layer is given
_Slab = Callable[[int, npt.NDArray[Any]], None]


def _smooth(moving: Image | Labels, transform: Transform, grid: Grid, way: Interpolation, fill: npt.ArrayLike) -> _Slab:
    source, dtype = _source(moving, way), moving.values.dtype
    channels = source.shape[-1]
    given = _outside(fill, channels)
    outside = (_as_type(given, dtype) if way == "linear" else given).astype(source.dtype)
    # linear interpolation stays between its values
    exact = way == "linear"

    if not isinstance(transform, Affine):
        kernel, values_of = _kernel_at(source, way)

        def at_points(start: int, out: npt.NDArray[Any]) -> None:
            mapped = _mapped(transform, grid, start, len(out))
            values = _room(out, (len(mapped), channels), source.dtype)
            kernel(0, len(mapped), *values_of, mapped, *_frame(moving.grid), outside, values)
            _store(values, out, exact)

        return at_points

    planes = [np.ascontiguousarray(source[..., c : c + 1]) for c in range(channels)]
    matrix, offset = _index_map(moving, transform, grid)
    first_axis = 3 - grid.ndim

    def in_lines(start: int, out: npt.NDArray[Any]) -> None:
        here = offset + start * matrix[:, first_axis]
        n0, n1, n2 = (1, *out.shape[: grid.ndim])[-3:]
        for c, plane in enumerate(planes):
            part = out if channels == 1 else out[..., c]
            values = _room(part, (n0, n1, n2), source.dtype)
            if way == "linear":
                lines_kernels.linear_lines(0, n0 * n1, plane, plane.reshape(-1), matrix, here, outside[c], values)
            else:
                lines_kernels.cubic_lines(0, n0 * n1, plane.reshape(-1), plane.shape, matrix, here, outside[c], values)
            _store(values, part, exact)

    return in_lines


def _kernel_at(source: npt.NDArray[Any], way: Interpolation) -> tuple[Callable[..., None], tuple[Any, ...]]:
    """The kernel over points, and the values (n0, n1, n2, C) as it takes them."""
    if way == "linear":
        return points_kernels.linear_at, (source,)
    return points_kernels.cubic_at, (source.reshape(-1), source.shape)


def _nearest(moving: Image | Labels, transform: Transform, grid: Grid, fill: npt.ArrayLike) -> _Slab:
    # values are only moved: seen as unsigned integers of their size, few kernels serve all types
    kind = np.dtype(f"u{moving.values.dtype.itemsize}")
    channels = moving.values.size // moving.grid.size
    flat = np.ascontiguousarray(moving.values).view(kind).reshape(-1, channels)
    outside = _as_type(_outside(fill, channels), moving.values.dtype).view(kind)
    sizes = _sizes(moving)
    affine = _index_map(moving, transform, grid) if isinstance(transform, Affine) else None

    def slab(start: int, out: npt.NDArray[Any]) -> None:
        n0, n1, n2 = (1, *out.shape[: grid.ndim])[-3:]
        places = np.empty(n0 * n1 * n2, dtype=np.int64)
        if affine is None:
            mapped = _mapped(transform, grid, start, len(out))
            points_kernels.nearest_at(0, len(mapped), sizes, mapped, *_frame(moving.grid), places)
        else:
            matrix, offset = affine
            here = offset + start * matrix[:, 3 - grid.ndim]
            lines_kernels.nearest_lines(0, n0 * n1, sizes, matrix, here, places.reshape(n0, n1, n2))
        points_kernels.gathered(0, len(places), flat, places, outside, out.view(kind).reshape(-1, channels))

    return slab


def _outside(fill: npt.ArrayLike, channels: int) -> npt.NDArray[Any]:
    """The value outside of each channel, (C,), in an array of its own.

    Raises
    ------
    ValueError : for more or fewer values than one, or one of each channel.
    """
    given = np.asarray(fill)
    if given.dtype.kind not in "biuf" or given.shape not in ((), (1,), (channels,)):
        raise ValueError(f"fill: expected a number, or one of each of {channels} channels, got shape {given.shape}")
    return np.array(np.broadcast_to(given, channels))


def _index_map(moving: Image | Labels, transform: Affine, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """The affine map from indices of the grid to indices of the moving image, padded to three axes: matrix, offset."""
    matrix, offset = np.eye(3), np.zeros(3)
    matrix[-grid.ndim :, -grid.ndim :] = moving.grid.world_to_index @ transform.matrix @ grid.index_to_world
    offset[-grid.ndim :] = moving.grid.indices_at(transform(np.asarray(grid.origin)))
    return matrix, offset


def _mapped(transform: Transform, grid: Grid, start: int, count: int) -> FloatArray:
    """The mapped points, (N, D), of so many layers of the grid's first axis."""
    corner = grid.points_at([start] + [0] * (grid.ndim - 1))
    slab = Grid((count, *grid.shape[1:]), grid.spacing, tuple(corner), grid.direction)
    # a field on the whole grid is not interpolated, but cut
    if isinstance(transform, DisplacementField) and transform.grid == grid:
        transform = DisplacementField(transform.values[start : start + count], slab)
    return transform._map_grid(slab)


def _room(out: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype) -> npt.NDArray[Any]:
    """`out` itself where it can hold such values, else an array that can."""
    return out.reshape(shape) if out.dtype == dtype and out.flags.c_contiguous else np.empty(shape, dtype=dtype)


def _store(values: npt.NDArray[Any], out: npt.NDArray[Any], exact: bool) -> None:
    """Values into `out`, in its type; `exact` if none is beyond its range."""
    if np.shares_memory(values, out):
        return
    values = values.reshape(out.shape)
    if exact and out.dtype.kind in "iu":
        np.rint(values, out=out, casting="unsafe")
    else:
        out[...] = _as_type(values, out.dtype)


def _sizes(image: Image | Labels) -> npt.NDArray[np.int64]:
    return np.array((1, *image.grid.shape)[-3:], dtype=np.int64)


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
