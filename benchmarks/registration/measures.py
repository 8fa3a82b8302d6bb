"""What a registration is worth: errors where the truth is known, similarity where it is not, folding.

tre_i = |phi(x_i) - y_i| (pixels),   rtre = tre / diagonal of the fixed image,   ncc = correlation of fixed(x) and moving(phi(x)),
jaccard = mean over labels with 30 pixels or more in both label maps of |A n B| / |A u B|, B warped by nearest neighbour,
least_det = min over the pixels of det D phi, by forward differences.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from benchmarks.registration.cases import Case
from benchmarks.registration.rivals import Array, luminance

_LEAST_PIXELS = 30


def quality(case: Case, grid: Array, points: Array) -> dict[str, float]:
    """Measures of a transform, given by where the fixed image's pixels (nx, ny, 2) and the case's points (N, 2) go.

    Raises
    ------
    ValueError : if any of them is not finite.
    """
    if not (np.isfinite(grid).all() and np.isfinite(points).all()):
        raise ValueError("some points go nowhere")
    result = {"ncc": _ncc(case, grid), "least_det": float(_determinants(grid).min())}
    if case.labels is not None:
        result["jaccard"] = _jaccard(*case.labels, grid)
    if len(points):
        errors = np.linalg.norm(points - case.targets, axis=1)
        result |= {"tre_mean": float(errors.mean()), "tre_p90": float(np.percentile(errors, 90))}
        result["rtre_median"] = float(np.median(errors)) / float(np.hypot(*case.fixed.shape[:2]))
    return result


def identity(case: Case) -> dict[str, float]:
    """Measures without any registration."""
    pixels = np.stack(np.meshgrid(*map(np.arange, case.fixed.shape[:2]), indexing="ij"), axis=-1).astype(float)
    return quality(case, pixels, case.points)


def _ncc(case: Case, grid: Array) -> float:
    fixed, moving = luminance(case.fixed), luminance(case.moving)
    moved = map_coordinates(moving, np.moveaxis(grid, -1, 0), order=1, mode="constant", cval=np.nan)
    seen = np.isfinite(moved)
    return float(np.corrcoef(fixed[seen], moved[seen])[0, 1]) if seen.sum() > 1 else 0.0


def _jaccard(fixed: npt.NDArray[np.int64], moving: npt.NDArray[np.int64], grid: Array) -> float:
    moved = map_coordinates(moving, np.moveaxis(grid, -1, 0), order=0, mode="constant", cval=0)
    count = max(int(fixed.max()), int(moving.max())) + 1
    here, there, before = (np.bincount(labels.ravel(), minlength=count) for labels in (fixed, moved, moving))
    both = np.bincount(fixed[fixed == moved], minlength=count)
    known = (here >= _LEAST_PIXELS) & (before >= _LEAST_PIXELS)
    known[0] = False
    return float(np.mean(both[known] / (here + there - both)[known]))


def _determinants(grid: Array) -> Array:
    across, along = grid[1:, :-1] - grid[:-1, :-1], grid[:-1, 1:] - grid[:-1, :-1]
    return across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]
