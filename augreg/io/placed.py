"""Values with their place in the world, as a file holds them, and the planes of volumes of one slice.

A volume of shape (nx, ny, 1) is an image. Where its plane lies in the world's x-y plane, the image keeps x and y (and z is not
looked at). Any other plane has no place in a 2-D world: such a file is read as `FILE?plane=own`, in the plane's own axes. With
unit vectors a and b along its rows and columns, n = a x b, and its first voxel at o,

    p = (a . x, b . x),     x = p_1 a + p_2 b + (n . o) n,

so that spacing stays, the origin is (a . o, b . o) and the direction is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image

# how far a unit vector may leave the x-y plane: one part in a thousand, 0.06 degrees
_TILT = 1e-3


@dataclass(frozen=True)
class Placed:
    """Values (*shape) or (*shape, C), x first, with spacing (D,) mm, origin (D,) mm and direction (D, D), LPS."""

    values: npt.NDArray[Any]
    spacing: FloatArray
    origin: FloatArray
    direction: FloatArray


@dataclass(frozen=True)
class Plane:
    """A plane of the 3-D world and the coordinates in it.

    Parameters
    ----------
    axes : two orthonormal vectors of the world, the directions of the first and the second coordinate
    offset : a point of the plane, mm
    """

    axes: tuple[tuple[float, ...], tuple[float, ...]]
    offset: tuple[float, ...]

    def points_2d(self, points: npt.ArrayLike) -> FloatArray:
        """Coordinates (..., 2) mm in the plane of the nearest points to world points (..., 3) mm."""
        return np.asarray(points, dtype=float) @ np.asarray(self.axes).T

    def points_3d(self, points: npt.ArrayLike) -> FloatArray:
        """World points (..., 3) mm of coordinates (..., 2) mm in the plane."""
        a, b = np.asarray(self.axes)
        n = np.cross(a, b)
        return np.asarray(points, dtype=float) @ np.asarray(self.axes) + (n @ np.asarray(self.offset)) * n


def of_pixels(values: npt.NDArray[Any], ndim: int) -> Placed:
    """Values without geometry: spacing 1, origin 0."""
    return Placed(values, np.ones(ndim), np.zeros(ndim), np.eye(ndim))


def image_of(placed: Placed, name: str, *, own: bool = False) -> Image:
    """An image; a volume of one slice becomes 2-D, and with `own` in its plane's own axes.

    Raises
    ------
    ValueError : for other than two or three axes, for one slice that is not axial unless `own`, for `own` with a volume.
    """
    placed = without_frames(placed, name)
    axis = _slice_axis(placed, own=own)
    if axis is not None:
        plane = _plane(placed, axis, own=own)
        if plane is None:
            raise ValueError(
                f"{name}: expected an axial slice, whose place is kept in 2-D, got one slice of another orientation; "
                f"read it in its plane's own axes as '{name}{'&' if '?' in name else '?'}plane=own'"
            )
        placed = _flattened(placed, axis, plane, own=own)
    elif own:
        raise ValueError(
            f"{name}: expected a volume of one slice for plane=own, got shape {_shape(placed)}; leave 'plane=own' out"
        )
    direction = placed.direction
    # files keep directions in few digits; the nearest orthonormal matrix is what was meant
    u, _, vt = np.linalg.svd(direction) if np.isfinite(direction).all() else (direction, None, np.eye(len(direction)))
    ndim = len(direction)
    if np.allclose(direction, u @ vt, atol=1e-3) and not np.allclose(direction.T @ direction, np.eye(ndim), atol=1e-6):
        direction = u @ vt
    try:
        grid = Grid(_shape(placed), tuple(placed.spacing), tuple(placed.origin), direction)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return Image(np.ascontiguousarray(placed.values), grid)


def plane_of(placed: Placed, name: str, *, own: bool = False) -> Plane:
    """The plane in which `image_of` places a volume of one slice; own axes where it is not axial.

    Raises
    ------
    ValueError : for volumes of several slices and for images.
    """
    placed = without_frames(placed, name)
    axis = _slice_axis(placed, own=True)
    if axis is None:
        raise ValueError(f"{name}: expected a volume of one slice, got shape {_shape(placed)}; it has no plane")
    plane = _plane(placed, axis, own=own) or _plane(placed, axis, own=True)
    assert plane is not None
    return plane


def without_frames(placed: Placed, name: str) -> Placed:
    """Without axes of length 1 behind the third.

    Raises
    ------
    ValueError : for several frames, and for less than two axes.
    """
    ndim = len(placed.spacing)
    values = placed.values
    while ndim > 3 and values.shape[ndim - 1] == 1:
        values = values.reshape(*values.shape[: ndim - 1], *values.shape[ndim:])
        ndim -= 1
    if ndim not in (2, 3):
        raise ValueError(f"{name}: expected a 2-D or 3-D image, got {ndim}-D; take one frame")
    return Placed(values, placed.spacing[:ndim], placed.origin[:ndim], placed.direction[:ndim, :ndim])


def _shape(placed: Placed) -> tuple[int, ...]:
    return placed.values.shape[: len(placed.spacing)]


def _slice_axis(placed: Placed, *, own: bool) -> int | None:
    """The axis along which there is one slice, or none: the last one; with `own` any one of three."""
    shape = _shape(placed)
    if len(shape) != 3:
        return None
    return next((axis for axis in ((2, 1, 0) if own else (2,)) if shape[axis] == 1), None)


def _plane(placed: Placed, axis: int, *, own: bool) -> Plane | None:
    """Own axes, or the x-y plane at the slice's height; None where the slice does not lie in that."""
    inner = [a for a in range(3) if a != axis]
    vectors = placed.direction[:, inner]
    if own:
        # columns of a file are perpendicular to a few digits only
        u, _, vt = np.linalg.svd(vectors, full_matrices=False)
        first, second = (u @ vt).T
        return Plane((tuple(first.tolist()), tuple(second.tolist())), tuple(placed.origin.tolist()))
    if np.abs(vectors[2]).max() > _TILT:
        return None
    return Plane(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (0.0, 0.0, float(placed.origin[2])))


def _flattened(placed: Placed, axis: int, plane: Plane, *, own: bool) -> Placed:
    values = np.take(placed.values, 0, axis=axis)
    inner = [a for a in range(3) if a != axis]
    spacing = placed.spacing[inner]
    if own:
        return Placed(values, spacing, plane.points_2d(placed.origin), np.eye(2))
    return Placed(values, spacing, placed.origin[:2], placed.direction[:2, :2])
