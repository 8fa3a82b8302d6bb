"""Layers of napari as images of augreg, and back; knows nothing of Qt, and layers only by what they offer.

napari's axes are those of the array, z or y first, in data and in the world; augreg's grids have x first. Both orders are
reversed here, so that transforms are those that files of the same images would have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from augreg import Grid, Image, Transform

FloatArray = npt.NDArray[np.floating]
# of the lines that show a deformation, and points on each
_LINES, _POINTS = {2: 24, 3: 8}, 60


def grid_of(layer: Any) -> Grid:
    """Where a layer's pixels lie.

    Raises
    ------
    ValueError : for other than two or three axes, pyramids, shears.
    """
    name = f"layer {layer.name!r}"
    if getattr(layer, "multiscale", False):
        raise ValueError(f"{name}: expected one resolution, got a pyramid; give one of its levels as a layer")
    if layer.ndim not in (2, 3):
        raise ValueError(f"{name}: expected two or three axes, got {layer.ndim}; take one time point or channel out of it")
    shape = np.shape(layer.data)[: layer.ndim]
    origin = np.asarray(layer.data_to_world(np.zeros(layer.ndim)), dtype=float)
    columns = [np.asarray(layer.data_to_world(e), dtype=float) - origin for e in np.eye(layer.ndim)]
    # napari's axes, then reversed: rows are axes of the world, columns those of the data
    linear = np.stack(columns, axis=1)[::-1, ::-1]
    spacing = np.linalg.norm(linear, axis=0)
    try:
        return Grid(shape[::-1], tuple(spacing), tuple(origin[::-1]), linear / spacing)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def image_of(layer: Any) -> Image:
    """A layer as an image; colours stay in their channels.

    Raises
    ------
    ValueError : as `grid_of`, and for complex pixels.
    """
    grid, values = grid_of(layer), np.asarray(layer.data)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"layer {layer.name!r}: expected real numbers, got {values.dtype}")
    axes = (*range(grid.ndim)[::-1], *((grid.ndim,) if getattr(layer, "rgb", False) else ()))
    return Image(values.transpose(axes), grid)


def points_of(layer: Any) -> FloatArray:
    """Points of a layer in the world, (N, D), x first."""
    data = np.asarray(layer.data, dtype=float)
    return np.array([layer.data_to_world(point) for point in data]).reshape(len(data), -1)[:, ::-1]


def image_layer(image: Image, name: str) -> tuple[Any, dict[str, Any], str]:
    """What napari makes an image layer of: data, options, kind."""
    axes = (*range(image.ndim)[::-1], *range(image.ndim, image.values.ndim))
    options = {"name": name, "affine": affine_of(image.grid), "rgb": image.channels > 1, "opacity": 0.6}
    return image.values.transpose(axes), options, "image"


def affine_of(grid: Grid) -> FloatArray:
    """From data to world in napari's order, (D + 1, D + 1)."""
    affine = np.eye(grid.ndim + 1)
    affine[:-1, :-1] = grid.index_to_world[::-1, ::-1]
    affine[:-1, -1] = grid.origin[::-1]
    return affine


def lines_of(transform: Transform, grid: Grid) -> list[FloatArray]:
    """Lines of a lattice on the fixed grid, as the transform takes them into the moving space: paths (N, D) in napari's order."""
    ends = [np.linspace(0, n - 1, _LINES[grid.ndim]) for n in grid.shape]
    paths = []
    for axis, n in enumerate(grid.shape):
        others = np.meshgrid(*[end for a, end in enumerate(ends) if a != axis], indexing="ij")
        for place in np.stack(others, axis=-1).reshape(-1, grid.ndim - 1):
            index = np.insert(np.broadcast_to(place, (_POINTS, grid.ndim - 1)), axis, np.linspace(0, n - 1, _POINTS), axis=1)
            paths.append(transform(grid.points_at(index))[:, ::-1])
    return paths


def distances(transform: Transform, fixed: FloatArray, moving: FloatArray) -> tuple[float, float]:
    """Mean distance of corresponding points before and after.

    Raises
    ------
    ValueError : for different numbers of points.
    """
    if fixed.shape != moving.shape:
        raise ValueError(f"points: expected as many in both layers, in the same order, got {len(fixed)} and {len(moving)}")
    before = np.linalg.norm(fixed - moving, axis=-1).mean()
    return float(before), float(np.linalg.norm(transform(fixed) - moving, axis=-1).mean())
