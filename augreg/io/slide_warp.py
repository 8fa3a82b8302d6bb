"""A slide seen through a transform, tile by tile: moved(x) = moving(phi(x)) in the memory of some tiles.

Of a tile, phi is evaluated at about every 16th pixel, and is linear between these nodes where the middle of cells differs by
at most 0.05 pixels of the moving level from what they say. Else the distance is halved, and where no lattice will do, as at the
border of a domain, every pixel is mapped. A field has kinks at its nodes, which are therefore among those of the lattice.
The moving level is the coarsest one whose pixels are not larger than those of the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import Interpolation, warp
from augreg.geometry.transforms import Affine, Composition, DisplacementField, Transform
from augreg.io.files import atomic
from augreg.io.formats.ome_pyramid import TILE, Compression, Pixels, write_pyramid
from augreg.io.slides import Slide, part_of, read_slide, shrunk

# distance of the lattice's nodes, pixels of the result: the widest, and the narrowest that saves anything
_WIDEST, _NARROWEST = 16, 2
# pixels of the moving level
_TOLERANCE = 0.05
# pixels around what a tile needs: of linear and of cubic interpolation, whose spline coefficients fade with 0.27 a pixel
_AROUND = {"nearest": 2, "linear": 2, "cubic": 16}
# by how much pixels of a level may be larger than those of the result
_LARGER = 1.01

Progress = Callable[[float], None]


def warp_slide(
    moving: Slide | Image | Labels,
    transform: Transform,
    grid: Grid,
    path: str | os.PathLike[str],
    *,
    noted: bool = True,
    interpolation: Interpolation | None = None,
    fill: npt.ArrayLike = 0.0,
    compression: Compression | None = None,
    progress: Progress = lambda _: None,
) -> None:
    """Write the moving image seen through a transform as a pyramidal OME-TIFF, atomically.

    Parameters
    ----------
    moving : a slide, an image or a label map
    transform : phi, fixed space to moving space
    grid : of the result: the finest of the fixed slide, say
    path : of the file, .tif or .tiff
    noted : whether the grid's spacing is the size of a pixel, in mm; else none is noted
    interpolation : default linear; nearest of label maps
    fill : value outside the moving image, or one of each channel
    compression : jpeg (for 8 bits), deflate or none; default jpeg for colours that come from a lossy file, else deflate
    progress : told the share of the result's rows that are done

    Raises
    ------
    ValueError : for other than two dimensions, a suffix or compression that does not fit, damaged tiles.
    """
    labels = isinstance(moving, Labels)
    slide = moving if isinstance(moving, Slide) else slide_of(moving)
    way: Interpolation = interpolation or ("nearest" if labels else "linear")
    if grid.ndim != 2 or transform.ndim != 2:
        raise ValueError(f"{path}: expected a 2-D transform and grid, got {transform.ndim}-D and {grid.ndim}-D")
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"{path}: expected a file name ending in .ome.tif, .ome.tiff, .tif or .tiff; a pyramid is one of these")
    how: Compression = compression or ("jpeg" if slide.lossy and slide.colour and not labels else "deflate")
    if how == "jpeg" and (slide.dtype != np.uint8 or labels or way == "nearest"):
        raise ValueError(f"{path}: expected 8-bit intensities for jpeg, got {'labels' if labels else slide.dtype}; use deflate")
    count = len(slide.channels)
    together = slide.colour or count == 1
    pixels = Pixels(
        (grid.shape[1], grid.shape[0]),
        1 if together else count,
        count if together else 1,
        slide.dtype,
        (grid.spacing[0], grid.spacing[1]) if noted else None,
        slide.names,
        how,
        labels=way == "nearest",
    )
    number = _level_for(slide, transform, grid)

    def bands(plane: int) -> Iterator[npt.NDArray[Any]]:
        seen = slide if together else slide.with_channels((slide.channels[plane],))
        outside = np.broadcast_to(fill, count)[slice(None) if together else slice(plane, plane + 1)]
        for top in range(0, grid.shape[1], TILE):
            height = min(TILE, grid.shape[1] - top)
            band = np.empty((height, grid.shape[0], pixels.samples), slide.dtype)
            for left in range(0, grid.shape[0], TILE):
                tile = part_of(grid, (left, top), (min(TILE, grid.shape[0] - left), height))
                values = moved_part(seen, number, transform, tile, way, outside)
                band[:, left : left + TILE] = values.reshape(*tile.shape, -1).swapaxes(0, 1)
            yield band
            progress((plane + (top + height) / grid.shape[1]) / pixels.planes)

    halve = _every_other if pixels.labels else partial(shrunk, factor=2)
    with atomic(path) as temporary:
        write_pyramid(temporary, pixels, bands, halve)
        _check(temporary, path, grid)


def moved_part(
    slide: Slide, number: int, transform: Transform, tile: Grid, way: Interpolation, fill: npt.ArrayLike
) -> npt.NDArray[Any]:
    """Values (*tile.shape) or (*tile.shape, C) of a level of a slide seen through a transform at the points of a small grid."""
    level = slide.grids[number]
    near, mapped = local_map(transform, tile, min(level.spacing))
    index = level.indices_at(mapped)
    index = index[np.isfinite(index).all(axis=-1)]
    around = _AROUND[way]
    tail = (len(slide.channels),) if len(slide.channels) > 1 else ()
    if len(index):
        first = np.maximum(np.floor(index.min(axis=0)).astype(int) - around, 0)
        last = np.minimum(np.ceil(index.max(axis=0)).astype(int) + around, level.last)
    if not len(index) or (first > last).any():
        return np.broadcast_to(np.asarray(fill), (*tile.shape, *tail)).astype(slide.dtype)
    part = slide.part(number, first.tolist(), (last - first + 1).tolist())
    return warp(part, near, tile, interpolation=way, fill=fill).values


def local_map(transform: Transform, tile: Grid, pixel: float) -> tuple[Transform, FloatArray]:
    """What stands for a transform on a small grid, and points (..., D) mm between which all its images lie, to a pixel.

    Parameters
    ----------
    transform : phi
    tile : the grid
    pixel : mm of the moving space, of which 0.05 may be missed, beside a kink twice that
    """
    if isinstance(transform, Affine):
        return transform, transform(tile.lattice([2, 2]))
    step, origin = _lattice(transform, tile)
    while min(step / np.asarray(tile.spacing)) >= _NARROWEST:
        nodes = _nodes(tile, step, origin)
        points = nodes.points()
        images = transform(points)
        if _missed(transform, nodes, images) <= _TOLERANCE * pixel:
            return DisplacementField(images - points, nodes), images
        step = step / 2
    points = tile.points()
    images = transform(points)
    # the values at the points themselves
    return DisplacementField(images - points, tile), images


def _lattice(transform: Transform, tile: Grid) -> tuple[FloatArray, FloatArray]:
    """Distances of nodes along the axes of a tile, mm, and the position of one, along the same axes.

    Where a field is applied first, its own nodes are among them: that is where it has kinks.
    """
    inner = transform.transforms[-1] if isinstance(transform, Composition) else transform
    widest = _WIDEST * np.asarray(tile.spacing)
    if isinstance(inner, DisplacementField) and inner.grid.direction == tile.direction:
        spacing = np.asarray(inner.grid.spacing)
        return spacing / np.ceil(spacing / widest - 1e-9), np.asarray(inner.grid.origin) @ tile.axes
    return widest, np.asarray(tile.origin) @ tile.axes


def _nodes(tile: Grid, step: FloatArray, origin: FloatArray) -> Grid:
    """The nodes of a lattice around a tile."""
    corner = np.asarray(tile.origin) @ tile.axes
    first = np.floor((corner - origin) / step + 1e-9)
    last = np.maximum(np.ceil((corner + tile.extent - origin) / step - 1e-9), first + 1)
    shape = tuple((last - first + 1).astype(int).tolist())
    return Grid(shape, tuple(step), tuple(tile.axes @ (origin + first * step)), tile.direction)


def _missed(transform: Transform, nodes: Grid, images: FloatArray) -> float:
    """How far the middle of cells is from what the nodes (n0, n1, 2) say, mm, at most."""
    says = (images[1:, 1:] + images[:-1, 1:] + images[1:, :-1] + images[:-1, :-1]) / 4
    corner = nodes.points_at([0.5, 0.5])
    middles = Grid(tuple(n - 1 for n in nodes.shape), nodes.spacing, tuple(corner), nodes.direction)
    return float(np.abs(transform(middles.points()) - says).max())


def slide_of(image: Image | Labels) -> Slide:
    """An image in memory as a slide of one level.

    Raises
    ------
    ValueError : for volumes.
    """
    if image.ndim != 2:
        raise ValueError(f"moving: expected a 2-D image, got {image.ndim}-D; warp volumes with augreg.warp")
    values = image.values.astype(np.uint8) if image.values.dtype == bool else image.values
    channels = values.shape[2] if values.ndim == 3 else 1
    rows = values.reshape(*image.grid.shape, channels).swapaxes(0, 1)
    colour = channels == 3
    return Slide("moving", (image.grid,), True, tuple(range(channels)), colour, values.dtype, 0, _Held(rows))


class _Held:
    """Rows in memory."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._values = values

    def rows(self, number: int, y: slice, x: slice, channels: Any) -> npt.NDArray[Any]:
        """Of the only level."""
        return self._values[y, x][..., list(channels)]


def _level_for(slide: Slide, transform: Transform, grid: Grid) -> int:
    """The coarsest level whose pixels are not larger than those of the result."""
    jacobian = transform.jacobian(grid.center)
    side = float(np.sqrt(abs(np.linalg.det(jacobian)) * np.prod(grid.spacing)))
    fitting = [k for k, level in enumerate(slide.grids) if np.sqrt(np.prod(level.spacing)) <= _LARGER * side]
    return max(fitting, default=0)


def _every_other(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows[: len(rows) // 2 * 2 : 2, : rows.shape[1] // 2 * 2 : 2]


def _check(temporary: Path, path: str | os.PathLike[str], grid: Grid) -> None:
    """Read the last pixel of every level: a disk that is full must not cost an older file.

    Raises
    ------
    OSError : if it is not there.
    """
    try:
        slide = read_slide(f"{temporary}?pixel=1")
        if slide.grid.shape != grid.shape:
            raise ValueError(f"shape {slide.grid.shape}")
        for number, level in enumerate(slide.grids):
            slide.part(number, level.last.tolist(), (1, 1))
    except ValueError as error:
        raise OSError(f"{path}: expected a whole file, wrote a part of it; is the disk full? Nothing was replaced") from error
