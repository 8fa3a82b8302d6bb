"""Landmarks against the images they belong to: how many lie outside, and what they may be instead.

Landmarks are world millimetres, LPS. Read in another convention they are still numbers, map to numbers and give errors in mm, so
only the image can tell. A reading is offered where it puts every landmark inside its image:

    RAS           (-x, -y[, z])                 Slicer, FreeSurfer, nibabel
    indices       origin + direction @ (spacing * i)
    reversed      the coordinates in reverse order, as numpy arrays of images (row, column) have them
    exchanged     the points of the other image
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.transforms import BSpline, Composition, DisplacementField, Transform

# voxels beyond the outermost centres that still count as inside: the last pixel ends there where pixels are counted from corners
_MARGIN = 1.0
# of the domain of a field whose geometry a file keeps in float32
_ROUNDING = 1e-3


def outside(points: FloatArray, grid: Grid) -> npt.NDArray[np.bool_]:
    """Which landmarks (N, D) mm lie more than a voxel beyond the outermost voxel centres of an image, (N,)."""
    return ~grid.contains(points, margin=_MARGIN)


def misplaced(
    name: str, points: npt.ArrayLike, grid: Grid, others: tuple[npt.ArrayLike, Grid | None] | None = None
) -> str | None:
    """One line about landmarks outside their image, with a reading that would put them inside; None where all are inside.

    Parameters
    ----------
    name : name of the points in messages, with the name of their image: "fixed_points"
    points : positions, (N, D) mm
    grid : grid of the image that the points belong to
    others : the partners of the points, and the grid of their image, if it is known

    Raises
    ------
    ValueError : for points of another shape or dimension.
    """
    given = reals(name, points)
    if given.ndim != 2 or given.shape[1] != grid.ndim:
        raise ValueError(f"{name}: expected {grid.ndim}-D points (N, {grid.ndim}), as the image, got shape {given.shape}")
    beyond = outside(given, grid)
    if not beyond.any():
        return None
    readings = _readings(given, grid, others)
    guess = f"; {' or '.join(readings)}" if readings else ""
    where = f"{beyond.sum()} of {len(given)}"
    return f"{name}: expected landmarks inside the image, {_box(grid)} (world mm, LPS), got {where} outside{guess}"


def check_inside(fixed_points: npt.ArrayLike | None, moving_points: npt.ArrayLike | None, fixed: Grid, moving: Grid) -> None:
    """Refuse pairs of landmarks of which one lies outside its image; nothing to check without any.

    Raises
    ------
    ValueError : with a guess of the cause.
    """
    if fixed_points is None or moving_points is None:
        return
    pairs = ((fixed_points, fixed), (moving_points, moving))
    for name, own, other in (("fixed_points", *pairs), ("moving_points", *pairs[::-1])):
        if text := misplaced(name, *own, other):
            raise ValueError(text)


def beyond_domain(transform: Transform, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which points (N, D) mm lie where one of the transform's B-splines or fields ends and is the identity, (N,)."""
    where = reals("points", points)
    beyond = np.zeros(len(where), dtype=bool)
    for part in reversed(transform.transforms if isinstance(transform, Composition) else (transform,)):
        if isinstance(part, BSpline):
            beyond |= ~part.grid.contains(where, margin=-1 + _ROUNDING)
        elif isinstance(part, DisplacementField):
            beyond |= ~part.grid.contains(where, margin=0.5 + _ROUNDING)
        where = part(where)
    return beyond


def domain_of(transform: Transform) -> Grid | None:
    """The grid of the points at which a transform that starts with a B-spline or field is defined; None for others."""
    first = transform.transforms[-1] if isinstance(transform, Composition) else transform
    if isinstance(first, BSpline):
        return first.grid.padded(-1)
    return first.grid if isinstance(first, DisplacementField) else None


def _readings(points: FloatArray, grid: Grid, others: tuple[npt.ArrayLike, Grid | None] | None) -> list[str]:
    """Advice that would put all points inside."""
    advice = []
    turned = points * np.array([-1.0, -1.0, 1.0])[: points.shape[1]]
    if not outside(turned, grid).any():
        advice.append("with x and y negated all lie inside: are they RAS? negate x and y")
    if not outside(grid.points_at(points), grid).any():
        advice.append("read as voxel indices all lie inside: convert them to mm, origin + direction @ (spacing * index)")
    if not outside(points[:, ::-1], grid).any():
        advice.append("in reverse order (last coordinate first) all lie inside: exchange the columns")
    if others is not None:
        partners, place = reals("points", others[0]), others[1]
        fits = partners.shape == points.shape and not outside(partners, grid).any()
        # the other image may be unknown: then the points fit it only if nothing else explains them
        if fits and (not advice if place is None else not outside(points, place).any()):
            advice.append("the points of the other image lie inside: are fixed and moving points exchanged?")
    return advice


def _box(grid: Grid) -> str:
    """The axis-aligned box around the voxels of a grid."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, grid.ndim)
    low, high = (f(grid.points_at(corners), axis=0) for f in (np.min, np.max))
    return ", ".join(f"{axis} from {a:.4g} to {b:.4g}" for axis, a, b in zip("xyz", low, high, strict=False))
