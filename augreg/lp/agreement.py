"""Do the images agree where a transform puts them? Asked of patches that no program has seen.

Keypoints match along one direction, and programs have moved them to where they match: among unrelated images a third of them do.
Patches are matched along all directions. With a patch of the fixed image around x and offsets d of up to R voxels of the coarsest
level,

    d*(x) = argmax_d NCC( F(x + .), M(phi(x + d + .)) ),          share = of patches with |d*| <= 1 along every axis,

by chance 3^D / (2R + 1)^D, which is 5 % in 2-D. A patch is opposite if its strongest correlation is negative: the contrast of the
two images differs, and correlation is no criterion for them. For mutual information F is replaced by its image in M's
brightness, E[M(phi) | F], and M likewise; the better of the two counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Transform
from augreg.keypoints.boundary import find_keypoints
from augreg.lp import _patch_kernels
from augreg.lp.criteria import noise_floor
from augreg.lp.level import Level
from augreg.lp.translations import Samples, samples
from augreg.threads import shared

Values = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

# patches, about; voxels to each side of their centres; offsets to each side
_PATCHES = {2: 120, 3: 100}
_HALF = {2: 5, 3: 3}
_REACH = {2: 6, 3: 4}
# share of a patch that must lie inside both images
_LEAST = 0.6
# nanoseconds per pair of voxels, about
_PAIR = 2


# classes of brightness
_CLASSES = 24


@dataclass(frozen=True)
class Agreement:
    """How many patches match where they were put.

    Parameters
    ----------
    patches : number of patches of the fixed image that show something
    seen : number of these inside the moving image
    matched : number of those best matched within a voxel of where they were put
    opposite : number of those with a negative correlation stronger than any positive one
    likeness : their mean correlation where they were put; with any contrast the lesser one of both ways; 0 where none is seen
    """

    patches: int
    seen: int
    matched: int
    opposite: int
    likeness: float

    @property
    def share(self) -> float:
        """Of the patches seen those that match; 0 where none is seen."""
        return self.matched / self.seen if self.seen else 0.0

    @property
    def opposed(self) -> float:
        """Of the patches seen those that are opposite; 0 where none is seen."""
        return self.opposite / self.seen if self.seen else 0.0


def agreement(level: Level, transform: Transform) -> Agreement:
    """Of fixed and moving images of a level under a transform; brightness may correspond as the criterion allows."""
    fixed, grid = level.fixed, level.fixed.grid
    ndim, lead = grid.ndim, 3 - grid.ndim
    half, reach = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    shape = np.ones(3, dtype=np.int64)
    shape[lead:] = grid.shape
    # of few slices patches and offsets are as thin
    half[lead:] = np.minimum(_HALF[ndim], (shape[lead:] - 1) // 4)
    reach[lead:] = np.minimum(_REACH[ndim], (shape[lead:] - 1) // 4)
    keypoints = find_keypoints(fixed, _PATCHES[ndim])
    centers = np.zeros((len(keypoints), 3), dtype=np.int64)
    centers[:, lead:] = np.rint(grid.indices_at(keypoints.points))
    still = _known(samples(fixed, grid.points())).reshape(shape)
    around = grid.padded([int(n) for n in reach[lead:]])
    moved = _known(samples(level.moving, transform(around.points()))).reshape(shape + 2 * reach)
    floor = noise_floor(fixed, level.moving)
    if not level.criterion.any_contrast:
        return _matched(still, moved, centers, half, reach, floor)
    # the part of `moved` that lies on `still`
    there = moved[tuple(slice(r, r + n) for r, n in zip(reach, shape, strict=True))]
    as_moving, as_fixed = _conditional_mean(still, there), _conditional_mean(there, still)
    both = (
        _matched(as_moving(still), moved, centers, half, reach, floor[[1, 1]]),
        _matched(still, as_fixed(moved), centers, half, reach, floor[[0, 0]]),
    )
    return replace(max(both, key=lambda found: found.share), likeness=min(found.likeness for found in both))


def _matched(still: Values, moved: Values, centers: Indices, half: Indices, reach: Indices, floor: FloatArray) -> Agreement:
    offsets, scores = np.zeros_like(centers), np.zeros((len(centers), 3))
    work = _PAIR * float(np.prod(2 * half + 1) * np.prod(2 * reach + 1))
    patches = (still, moved, reach, centers, half, reach, floor, _LEAST)
    shared(_patch_kernels.best_offsets, len(centers), work, *patches, offsets, scores)
    known = np.isfinite(scores[:, 1])
    at_home = np.abs(offsets).max(axis=1, initial=0) <= 1
    opposed = -scores[:, 2] > scores[:, 0]
    seen, matched, opposite = (np.count_nonzero(known & what) for what in (np.True_, at_home, opposed))
    return Agreement(len(centers), int(seen), int(matched), int(opposite), float(scores[known, 1].mean()) if seen else 0.0)


def _known(found: Samples) -> Values:
    """Samples with NaN where nothing is known."""
    values, valid = found
    return np.where(valid, values, np.float32(np.nan))


def _conditional_mean(a: Values, b: Values) -> Callable[[Values], Values]:
    """x -> E[b | a = x], known at classes of a that hold equal numbers of voxels, linear between them."""
    both = np.isfinite(a) & np.isfinite(b)
    x, y = a[both], b[both]
    if x.size == 0:
        return lambda values: values
    bounds = np.unique(np.quantile(x, np.linspace(0, 1, _CLASSES + 1)[1:-1]))
    number = np.searchsorted(bounds, x)
    count = np.bincount(number, minlength=len(bounds) + 1)
    filled = count > 0
    places = np.bincount(number, x, len(count))[filled] / count[filled]
    means = np.bincount(number, y, len(count))[filled] / count[filled]
    return lambda values: np.interp(values, places, means).astype(np.float32)
