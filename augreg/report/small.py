"""Small pictures of an alignment: planes of a volume, before and after, with outlines; pixels without a figure around them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from matplotlib.image import imsave

from augreg.atlas.common import along_the_world
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import background, warp
from augreg.geometry.transforms import Affine, Transform
from augreg.registration import Pair

# pixels of a plane's longest side
_SIDE = {2: 200, 3: 136}
# with more structures only their common outline is drawn
_FEW = 8
_YELLOW, _GREEN = (255, 221, 0), (60, 220, 60)
_ROUNDS = 30
# of what is shown around, as a share of its sides; pixels by which images are smoothed where they have outlines
_MARGIN, _SMOOTH = 0.08, 1.5

Pixels = npt.NDArray[np.uint8]


def cohort_picture(pair: Pair, start: Transform, transform: Transform) -> bytes:
    """The moving image at the start and aligned, in the fixed image's planes, as WebP; outlines of the fixed image are yellow.

    Outlines are those of label maps where there are some, those of the moving image's green, else of what is bright in the fixed
    image. A volume's planes are axial, coronal and sagittal ones through the middle of that, patient's left on the right.
    """
    levels = _levels(pair.fixed)
    shown, middle = _place(pair, levels)
    rows: list[list[Pixels]] = [[], []]
    for plane in planes(shown, middle):
        fixed = _edges(pair.fixed_labels, pair.fixed, levels, Affine.identity(plane.ndim), plane)
        for row, phi in zip(rows, (start, transform), strict=True):
            own = None if pair.moving_labels is None else _edges(pair.moving_labels, pair.moving, (), phi, plane)
            row.append(_drawn(pair.moving, phi, plane, own, fixed))
    if pair.fixed.ndim == 2:
        picture = _beside([row[0] for row in rows])
    else:
        picture = np.concatenate([_beside(row) for row in rows])
    buffer = io.BytesIO()
    imsave(buffer, picture, format="webp", pil_kwargs={"quality": 88, "method": 4})
    return buffer.getvalue()


def planes(grid: Grid, middle: FloatArray) -> list[Grid]:
    """The 2-D grid, or the axial, coronal and sagittal plane of a volume through a point; pixels are squares.

    The first axis runs to the right, the second down: the patient's left, back, and feet.
    """
    axes, _, sides = along_the_world(grid)
    size = float(sides.max()) / _SIDE[grid.ndim]
    if grid.ndim == 2:
        return [_plane(grid, axes, sides, size, middle, (0, 1), 1.0)]
    return [_plane(grid, axes, sides, size, middle, *view) for view in (((0, 1), 1.0), ((0, 2), -1.0), ((1, 2), -1.0))]


def _plane(
    grid: Grid, axes: FloatArray, sides: FloatArray, size: float, middle: FloatArray, shown: tuple[int, int], down: float
) -> Grid:
    right, below = shown
    across = [a for a in range(grid.ndim) if a not in shown]
    directions = np.stack([axes[:, right], down * axes[:, below], *(axes[:, a] for a in across)], axis=1)
    counts = [max(2, int(np.ceil(sides[a] / size))) for a in shown]
    corner = np.array(grid.center)
    for a in across:
        corner = corner + axes[:, a] * (axes[:, a] @ (middle - corner))
    for k, count in enumerate(counts):
        corner = corner - directions[:, k] * size * (count - 1) / 2
    return Grid((*counts, *[1] * len(across)), (size,) * grid.ndim, tuple(corner), directions)


def _place(pair: Pair, levels: Sequence[float]) -> tuple[Grid, FloatArray]:
    """The part of a grid around what is labelled or bright in the fixed image, and the centroid of that."""
    inside, grid = _grey(pair.fixed) > levels[0], pair.fixed.grid
    if pair.fixed_labels is not None and pair.fixed_labels.values.any():
        inside, grid = pair.fixed_labels.values != 0, pair.fixed_labels.grid
    if not inside.any():
        return grid, np.asarray(grid.center)
    first, last, middle = np.zeros(grid.ndim), np.zeros(grid.ndim), np.zeros(grid.ndim)
    for a in range(grid.ndim):
        along = inside.sum(axis=tuple(b for b in range(grid.ndim) if b != a))
        there = np.flatnonzero(along)
        margin = _MARGIN * (there[-1] - there[0] + 1)
        first[a], last[a] = max(0, there[0] - margin), min(grid.shape[a] - 1, there[-1] + margin)
        middle[a] = along @ np.arange(len(along)) / along.sum()
    first, last = np.floor(first), np.ceil(last)
    part = Grid(tuple((last - first + 1).astype(int)), grid.spacing, tuple(grid.points_at(first)), grid.direction)
    return part, np.asarray(grid.points_at(middle))


def _edges(labels: Labels | None, image: Image, levels: Sequence[float], phi: Transform, plane: Grid) -> npt.NDArray[np.bool_]:
    """Where structures end in a plane, one pixel wide, (width, height)."""
    inside: npt.NDArray[Any]
    if labels is not None:
        values = warp(labels, phi, plane).values.reshape(plane.shape[:2])
        inside = values if len(labels.unique()) <= _FEW else (values != 0).astype(np.uint8)
    else:
        seen = warp(Image(_grey(image), image.grid), phi, plane).values.reshape(plane.shape[:2])
        # folds of a cortex would hide the picture
        inside = np.digitize(scipy.ndimage.gaussian_filter(seen.astype(np.float64), _SMOOTH), levels)
    edges = np.zeros(inside.shape, dtype=bool)
    edges[:-1] |= inside[:-1] != inside[1:]
    edges[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    return edges


def _drawn(moving: Image, phi: Transform, plane: Grid, own: npt.NDArray[np.bool_] | None, fixed: npt.NDArray[np.bool_]) -> Pixels:
    """One plane as pixels [row, column, RGB]."""
    grey = _grey(moving)
    seen = warp(Image(grey, moving.grid), phi, plane, fill=background(moving)).values.reshape(plane.shape[:2])
    low, high = np.nanpercentile(grey, (1, 99.5))
    shade = np.clip(np.nan_to_num((seen - low) / max(float(high - low), 1e-9)), 0, 1)
    out = np.repeat((255 * shade).astype(np.uint8)[..., None], 3, axis=-1)
    if own is not None:
        out[own] = _GREEN
    out[fixed] = _YELLOW
    return np.ascontiguousarray(out.swapaxes(0, 1))


def _beside(parts: Sequence[Pixels]) -> Pixels:
    """Pictures in a row, black where one is lower than another, and between them."""
    height = max(len(part) for part in parts)
    padded = [np.pad(part, ((0, height - len(part) + 2), (0, 2), (0, 0))) for part in parts]
    return np.concatenate(padded, axis=1)


def _grey(image: Image) -> npt.NDArray[np.float32]:
    return np.asarray(image.luminance().values, dtype=np.float32)


def _levels(image: Image) -> tuple[float, float]:
    """Two intensities that part an image: dark from bright, and the bright part once more (Ridler and Calvard 1978)."""
    values = _grey(image)
    values = values[np.isfinite(values)]
    first = _between(values)
    bright = values[values > first]
    return first, _between(bright) if bright.size > 1 else first


def _between(values: npt.NDArray[np.float32]) -> float:
    """The middle between the means of what lies below and above it."""
    level = float(values.mean())
    for _ in range(_ROUNDS):
        above = values > level
        if not above.any() or above.all():
            break
        new = (float(values[above].mean()) + float(values[~above].mean())) / 2
        if abs(new - level) <= 1e-4 * abs(new):
            break
        level = new
    return level
