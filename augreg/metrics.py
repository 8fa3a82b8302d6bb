"""Measures of alignment: overlap, landmarks, surfaces, and the Jacobian of a transform.

dice(A, B) = 2 |A n B| / (|A| + |B|),      jaccard(A, B) = |A n B| / |A u B|
tre_i = |phi(x_i) - y_i| (mm),             rtre_i = tre_i / diagonal of the fixed image
robustness = share of landmarks with |phi(x_i) - y_i| < |x_i - y_i|                  (ANHIR; Borovec et al. 2020, IEEE TMI)
mean symmetric surface distance = (mean_{a in dA} d(a, dB) + mean_{b in dB} d(b, dA)) / 2
95 % Hausdorff distance = max of the two 95th percentiles of the same distances
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.grid import FloatArray, Grid
from augreg.image import Labels
from augreg.transforms import Transform


def dice(a: Labels, b: Labels) -> dict[int, float | None]:
    """Dice coefficient of every label of either map; None where one of the maps lacks the label.

    Raises
    ------
    ValueError : if the grids differ.
    """
    return {label: 2 * both / (in_a + in_b) if in_a and in_b else None for label, in_a, in_b, both in _overlaps(a, b)}


def jaccard(a: Labels, b: Labels) -> dict[int, float | None]:
    """Jaccard coefficient of every label of either map; None where one of the maps lacks the label.

    Raises
    ------
    ValueError : if the grids differ.
    """
    return {label: both / (in_a + in_b - both) if in_a and in_b else None for label, in_a, in_b, both in _overlaps(a, b)}


def mean_overlap(overlaps: Mapping[int, float | None]) -> float:
    """The mean over labels that both maps have; NaN if there are none."""
    present = [v for v in overlaps.values() if v is not None]
    return float(np.mean(present)) if present else float("nan")


def tre(transform: Transform, fixed_points: npt.ArrayLike, moving_points: npt.ArrayLike) -> FloatArray:
    """Target registration errors |phi(x_fixed) - x_moving| of landmark pairs (N, D) mm each, (N,) mm.

    Raises
    ------
    ValueError : for unequal numbers of landmarks or another dimension than the transform's.
    """
    fixed, moving = _pairs(fixed_points, moving_points)
    return np.linalg.norm(transform(fixed) - moving, axis=1)


def rtre(transform: Transform, fixed_points: npt.ArrayLike, moving_points: npt.ArrayLike, grid: Grid) -> FloatArray:
    """The target registration errors divided by the diagonal of the fixed image's grid, (N,)."""
    return tre(transform, fixed_points, moving_points) / grid.diagonal


def robustness(transform: Transform, fixed_points: npt.ArrayLike, moving_points: npt.ArrayLike) -> float:
    """The share of landmarks that are nearer to their partners than without the transform."""
    fixed, moving = _pairs(fixed_points, moving_points)
    return float(np.mean(tre(transform, fixed, moving) < np.linalg.norm(fixed - moving, axis=1)))


def surface_distance(a: Labels, b: Labels) -> dict[int, tuple[float, float] | None]:
    """Per label the mean symmetric and the 95 % Hausdorff distance of the surfaces, mm; None where a map lacks the label.

    A surface is the set of the centres of the faces between voxels inside and outside (the image's border counts as outside),
    so a distance has no bias of half a voxel; distances are between nearest points of the two sets.

    Raises
    ------
    ValueError : if the grids differ.
    """
    from scipy.spatial import cKDTree  # only surfaces need it, and it takes as long to import as a registration

    _same_grid(a, b)
    result: dict[int, tuple[float, float] | None] = {}
    for label in sorted({*a.unique(), *b.unique()}):
        surfaces = [_surface(labels.values == label, labels.grid) for labels in (a, b)]
        if min(map(len, surfaces)) == 0:
            result[label] = None
            continue
        trees = [cKDTree(points) for points in surfaces]
        there = trees[1].query(surfaces[0])[0]
        back = trees[0].query(surfaces[1])[0]
        mean = (there.mean() + back.mean()) / 2
        result[label] = (float(mean), float(max(np.percentile(there, 95), np.percentile(back, 95))))
    return result


def jacobian_determinant(transform: Transform, grid: Grid) -> FloatArray:
    """Det D phi at the points of a grid, (*shape): the local change of volume; 1 without any, below 0 where phi folds.

    The derivative is the transform's own; that of a displacement field is the mean of the two one-sided ones at its nodes.
    """
    # at the nodes of a multilinear field a derivative exists only from each side: look just beside them, on both sides
    nudges = np.array([-1e-6, 1e-6]) * min(grid.spacing)
    jacobian = np.zeros((*grid.shape, grid.ndim, grid.ndim))
    points = grid.points()
    axes = np.asarray(grid.direction).sum(axis=1)
    for nudge in nudges:
        jacobian += transform.jacobian(points + nudge * axes) / len(nudges)
    return _determinants(jacobian)


def folding(transform: Transform, grid: Grid) -> float:
    """The share of voxels where phi folds: the least determinant there is not positive.

    At every voxel the determinant is taken of the transform's derivative and of all 2^D combinations of one-sided differences to
    its neighbours: a multilinear cell may fold although central differences look well.
    """
    least = _determinants(transform.jacobian(grid.points()))
    mapped = grid.points() + transform.displacement(grid)
    differences = []
    for axis in range(grid.ndim):
        forward = np.diff(mapped, axis=axis) / grid.spacing[axis]
        first, last = (np.take(forward, [i], axis=axis) for i in (0, -1))
        # at the border the only difference serves for both sides
        differences.append((np.concatenate([forward, last], axis=axis), np.concatenate([first, forward], axis=axis)))
    # det(D phi Q) = det(D phi) det Q: a flipped direction must not look like a fold
    sign = np.sign(np.linalg.det(np.asarray(grid.direction)))
    for sides in itertools.product((0, 1), repeat=grid.ndim):
        corner = np.stack([differences[axis][side] for axis, side in enumerate(sides)], axis=-1)
        least = np.minimum(least, sign * _determinants(corner))
    return float(np.mean(least <= 0))


def _determinants(matrices: FloatArray) -> FloatArray:
    """Of (..., D, D), (...): written out, which is many times faster than a factorisation of each."""
    m = np.moveaxis(matrices, (-2, -1), (0, 1))
    if len(m) == 2:
        return m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    minors = [m[1, (a + 1) % 3] * m[2, (a + 2) % 3] - m[1, (a + 2) % 3] * m[2, (a + 1) % 3] for a in range(3)]
    return m[0, 0] * minors[0] + m[0, 1] * minors[1] + m[0, 2] * minors[2]


def evaluate(
    transform: Transform,
    grid: Grid,
    *,
    fixed_points: npt.ArrayLike | None = None,
    moving_points: npt.ArrayLike | None = None,
    fixed_labels: Labels | None = None,
    moved_labels: Labels | None = None,
) -> dict[str, Any]:
    """All measures that the given landmarks and labels allow, as plain numbers ready for JSON.

    `moved_labels` are the moving labels already warped to the fixed labels' grid.
    """
    report: dict[str, Any] = {"folding": folding(transform, grid)}
    if fixed_points is not None and moving_points is not None:
        report["tre"] = _summary(tre(transform, fixed_points, moving_points))
        report["rtre"] = _summary(rtre(transform, fixed_points, moving_points, grid))
        report["robustness"] = robustness(transform, fixed_points, moving_points)
    if fixed_labels is not None and moved_labels is not None:
        for name, measure in (("dice", dice), ("jaccard", jaccard)):
            overlaps = measure(fixed_labels, moved_labels)
            report[name] = {**{str(label): value for label, value in overlaps.items()}, "mean": mean_overlap(overlaps)}
        surfaces = surface_distance(fixed_labels, moved_labels)
        present = [pair for pair in surfaces.values() if pair is not None]
        mean = np.mean(present, axis=0) if present else (np.nan, np.nan)
        named = {"mean_symmetric": 0, "hausdorff95": 1}
        report["surface_distance"] = {
            **{str(label): pair and {name: pair[i] for name, i in named.items()} for label, pair in surfaces.items()},
            "mean": {name: float(mean[i]) for name, i in named.items()},
        }
    return report


def _summary(values: FloatArray) -> dict[str, float]:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "max": float(values.max())}


def _pairs(fixed_points: npt.ArrayLike, moving_points: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    fixed, moving = np.asarray(fixed_points, dtype=float), np.asarray(moving_points, dtype=float)
    if fixed.ndim != 2 or fixed.shape != moving.shape:
        raise ValueError(f"landmarks: expected equal numbers of points (N, D), got {fixed.shape} fixed and {moving.shape} moving")
    return fixed, moving


def _same_grid(a: Labels, b: Labels) -> None:
    if not a.grid.matches(b.grid):
        raise ValueError(
            f"labels: expected two maps on one grid, got {a.grid.shape} and {b.grid.shape}; warp one to the other first"
        )


def _overlaps(a: Labels, b: Labels) -> list[tuple[int, int, int, int]]:
    """Label, voxels in a, in b, in both; for every label of either map, without the background 0."""
    _same_grid(a, b)
    labels = np.union1d(a.values, b.values)
    sizes_a = np.bincount(np.searchsorted(labels, a.values).ravel(), minlength=len(labels))
    sizes_b = np.bincount(np.searchsorted(labels, b.values).ravel(), minlength=len(labels))
    agree = a.values == b.values
    both = np.bincount(np.searchsorted(labels, a.values[agree]).ravel(), minlength=len(labels))
    return [
        (int(label), int(na), int(nb), int(n))
        for label, na, nb, n in zip(labels, sizes_a, sizes_b, both, strict=True)
        if label != 0
    ]


def _surface(inside: npt.NDArray[np.bool_], grid: Grid) -> FloatArray:
    """World positions of the centres of the faces between inside and outside, (N, D) mm."""
    # the box around the structure: the axes' projections are cheaper than the whole
    spans = [np.flatnonzero(inside.any(axis=tuple(a for a in range(grid.ndim) if a != axis))) for axis in range(grid.ndim)]
    if spans[0].size == 0:
        return np.zeros((0, grid.ndim))
    corner = np.array([span[0] for span in spans])
    padded = np.pad(inside[tuple(slice(span[0], span[-1] + 1) for span in spans)], 1)
    faces = []
    for axis in range(grid.ndim):
        index = np.argwhere(np.diff(padded.astype(np.int8), axis=axis) != 0).astype(float)
        index[:, axis] += 0.5
        faces.append(index)
    return grid.points_at(np.concatenate(faces) - 1 + corner)
