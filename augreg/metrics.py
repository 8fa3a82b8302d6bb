"""Measures of alignment: overlap, landmarks, surfaces, correlation; those of the Jacobian are in `augreg.geometry.jacobian`.

dice(A, B) = 2 |A n B| / (|A| + |B|),      jaccard(A, B) = |A n B| / |A u B|
tre_i = |phi(x_i) - y_i| (mm),             rtre_i = tre_i / diagonal of the fixed image
robustness = share of landmarks with |phi(x_i) - y_i| < |x_i - y_i|                  (ANHIR; Borovec et al. 2020, IEEE TMI)
mean symmetric surface distance = (mean_{a in dA} d(a, dB) + mean_{b in dB} d(b, dA)) / 2
95 % Hausdorff distance = max of the two 95th percentiles of the same distances

A structure that both images show and a transform moves out of view is the worst result, not a missing one: its overlap is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.image import Image, Labels
from augreg.geometry.jacobian import folding, jacobian_determinant, unmirrored
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform

_T = TypeVar("_T")

__all__ = [
    "dice",
    "evaluate",
    "folding",
    "jaccard",
    "jacobian_determinant",
    "mean_overlap",
    "robustness",
    "rtre",
    "similarity",
    "surface_distance",
    "tre",
]


def dice(a: Labels, b: Labels, *, known: Iterable[int] = ()) -> dict[int, float | None]:
    """Dice coefficient of every label of either map; None where one of the maps lacks the label.

    Parameters
    ----------
    a, b : label maps on one grid
    known : labels that both had before one of them was warped: they count 0 where a map has lost them

    Raises
    ------
    ValueError : if the grids differ.
    """
    return {label: 2 * both / (in_a + in_b) if there else None for label, in_a, in_b, both, there in _overlaps(a, b, known)}


def jaccard(a: Labels, b: Labels, *, known: Iterable[int] = ()) -> dict[int, float | None]:
    """Jaccard coefficient of every label of either map; None where one of the maps lacks the label, as `dice` otherwise."""
    return {label: both / (in_a + in_b - both) if there else None for label, in_a, in_b, both, there in _overlaps(a, b, known)}


def mean_overlap(overlaps: Mapping[int, float | None]) -> float:
    """The mean over labels that both maps have or had; NaN if there are none."""
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


def similarity(fixed: Image, moving: Image, transform: Transform) -> float:
    """Correlation of the fixed and the moved image, as grey, where both are; NaN where one of them is constant there."""
    grey = [image.luminance() for image in (fixed, moving)]
    still, seen = (image.with_values(np.asarray(image.values, dtype=np.float32)) for image in grey)
    moved = warp(seen, transform, still.grid, fill=np.nan)
    both = np.isfinite(still.values) & np.isfinite(moved.values)
    f, m = (image.values[both].astype(np.float64) for image in (still, moved))
    if f.size < 2 or not f.std() or not m.std():
        return float("nan")
    return float(np.corrcoef(f, m)[0, 1])


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


def evaluate(
    transform: Transform,
    grid: Grid,
    *,
    fixed_points: npt.ArrayLike | None = None,
    moving_points: npt.ArrayLike | None = None,
    fixed_labels: Labels | None = None,
    moving_labels: Labels | None = None,
) -> dict[str, Any]:
    """All measures that the given landmarks and labels allow, as plain numbers ready for JSON.

    The moving labels are warped to the grid of the fixed ones. `lost` are the labels of both maps that are then out of view:
    their overlap is 0, their surfaces have no distance and are not in the mean. A mirror among the affine maps is no fold.
    """
    report: dict[str, Any] = {"folding": folding(unmirrored(transform), grid)}
    if fixed_points is not None and moving_points is not None:
        report["tre"] = _summary(tre(transform, fixed_points, moving_points))
        report["rtre"] = _summary(rtre(transform, fixed_points, moving_points, grid))
        report["robustness"] = robustness(transform, fixed_points, moving_points)
    if fixed_labels is not None and moving_labels is not None:
        moved = warp(moving_labels, transform, fixed_labels.grid)
        maps = set(fixed_labels.unique()), set(moving_labels.unique())
        every, known = maps[0] | maps[1], maps[0] & maps[1]
        for name, measure in (("dice", dice), ("jaccard", jaccard)):
            overlaps = _for_all(every, measure(fixed_labels, moved, known=known))
            report[name] = {**{str(label): value for label, value in overlaps.items()}, "mean": mean_overlap(overlaps)}
        report["surface_distance"] = _surfaces(_for_all(every, surface_distance(fixed_labels, moved)))
        report["lost"] = sorted(known - set(moved.unique()))
    return report


def _for_all(labels: Iterable[int], measured: Mapping[int, _T | None]) -> dict[int, _T | None]:
    """What was measured, and None for labels of one map alone that are out of view."""
    return {label: measured.get(label) for label in sorted(labels)}


def _surfaces(distances: Mapping[int, tuple[float, float] | None]) -> dict[str, Any]:
    """Distances by name; the mean is over labels that have some."""
    present = [pair for pair in distances.values() if pair is not None]
    mean = np.mean(present, axis=0) if present else (np.nan, np.nan)
    named = {"mean_symmetric": 0, "hausdorff95": 1}
    return {
        **{str(label): pair and {name: pair[i] for name, i in named.items()} for label, pair in distances.items()},
        "mean": {name: float(mean[i]) for name, i in named.items()},
    }


def _summary(values: FloatArray) -> dict[str, float]:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "max": float(values.max())}


def _pairs(fixed_points: npt.ArrayLike, moving_points: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    fixed, moving = reals("fixed_points", fixed_points), reals("moving_points", moving_points)
    if fixed.ndim != 2 or fixed.shape != moving.shape:
        raise ValueError(f"landmarks: expected equal numbers of points (N, D), got {fixed.shape} fixed and {moving.shape} moving")
    return fixed, moving


def _same_grid(a: Labels, b: Labels) -> None:
    if not a.grid.matches(b.grid):
        raise ValueError(
            f"labels: expected two maps on one grid, got {a.grid.shape} and {b.grid.shape}; warp one to the other first"
        )


def _overlaps(a: Labels, b: Labels, known: Iterable[int]) -> list[tuple[int, int, int, int, bool]]:
    """Label, voxels in a, in b, in both, whether both have or had it; for every label of any map, without the background 0."""
    _same_grid(a, b)
    one, two = _comparable(a.values, b.values)
    labels = np.union1d(one, two)
    agree = one == two
    sizes = [np.bincount(np.searchsorted(labels, part).ravel(), minlength=len(labels)) for part in (one, two, one[agree])]
    had = {int(label) for label in known}
    return [
        (int(label), int(na), int(nb), int(n), bool(na and nb) or int(label) in had)
        for label, na, nb, n in zip(labels, *sizes, strict=True)
        if label != 0
    ]


def _comparable(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both in an integer type that holds them exactly: numpy knows none for signed and unsigned numbers of 64 bits."""
    if np.result_type(a, b).kind == "f":
        kind = np.uint64 if min(a.min(), b.min()) >= 0 else np.int64
        return a.astype(kind), b.astype(kind)
    return a, b


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
