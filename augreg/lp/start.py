"""A robust start: rotations, scales and all translations tried at a very coarse level.

For every candidate rotation and scale the moving image is warped about the centre and compared with the fixed one under all
translations at once (see `augreg.lp.translations`).

Usual starts are near (`nearby`), or turned any way (`turned`); their mirror images stand behind one of `reflections`. Where they
lead to no agreement, the whole circle, half and double size and centred grids are tried (`all_around`): so many that a plain
correlation chooses first.

What any rotation costs, median CPU milliseconds of affine maps (in 3-D rigid ones) at any angle, and how many are found. With 15
degrees most of them take the second search, and the rows in 2-D are of the code before `turned`, in another run:

    rotation                15                180                mirrored, 180
    photographs             146, 192 of 192   130, 192 of 192     244, 64 of 64
    brain slices            126, 168 of 168   107, 168 of 168     213, 56 of 56
    sections in two stains  461,  44 of 48    436,  48 of 48      595, 16 of 16
    brains, turned headers  756,  48 of 48    917,  48 of 48     1895, 48 of 48
    hearts, turned headers  420,  24 of 24    387,  24 of 24      827, 24 of 24

(`python -m benchmarks run start`; AMD EPYC, 2 cores, busy, 1 thread, numpy 2.4.6, 2026-11-27)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import Affine, Transform
from augreg.keypoints.pyramid import Raster
from augreg.lp.translations import Samples, correlation_ratios, correlations, plain_correlations, samples

# degrees between rotations, scales, and the rotations in 3-D from which on the turns of a cube are between them
_TURN = {2: 5.0, 3: 10.0}
CUBE = 90.0
_SCALES = {2: (0.85, 1.0, 1.15), 3: (1.0,)}
# shifts, as shares of the sides: usual ones, and where everything is tried
_REACH, _FAR = 0.3, 0.5
# of everything: degrees between rotations in 2-D, scales, and how many are left to the normalised correlation
_WIDE_TURN = 15.0
_WIDE_SCALES = (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)
_LEFT = 16


def nearby(ndim: int, *, rigid: bool, degrees: float) -> list[FloatArray]:
    """Matrices (D, D) of the usual candidates: rotations up to so many degrees, and without `rigid` some scales."""
    scales = (1.0,) if rigid else _SCALES[ndim]
    return [factor * turn for turn in _rotations(ndim, degrees) for factor in scales]


def turned(ndim: int, *, rigid: bool, degrees: float) -> list[FloatArray]:
    """Matrices (D, D) of rotations up to many degrees, each of them once: in 3-D from 90 degrees on near the turns of a cube."""
    if ndim == 2:
        steps = np.arange(-int(degrees // _TURN[2]), int(degrees // _TURN[2]) + 1)
        angles = np.deg2rad(_TURN[2] * steps[: int(360 // _TURN[2])])
        turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles]
        return [factor * turn for turn in turns for factor in ((1.0,) if rigid else _SCALES[2])]
    if degrees < CUBE:
        return nearby(ndim, rigid=rigid, degrees=degrees)
    return [near @ cube for cube in all_around(ndim, rigid=rigid) for near in nearby(ndim, rigid=rigid, degrees=_TURN[3])]


def reflections(axes: FloatArray, *, any_turn: bool) -> list[FloatArray]:
    """Mirrors (D, D) along a grid's axes (D, D), a column each; where any turn follows, one of them suffices.

    Else every one of determinant -1 whose entries are signs: in 3-D three mirrors, and the reversal of all axes.
    """
    ndim = len(axes)
    signs = [signs for signs in itertools.product((1.0, -1.0), repeat=ndim) if np.prod(signs) < 0]
    return [(axes * sign) @ axes.T for sign in (signs[:1] if any_turn else signs)]


def all_around(ndim: int, *, rigid: bool) -> list[FloatArray]:
    """Matrices (D, D) of every candidate: in 2-D the whole circle, sizes from half to double; in 3-D the 24 turns of a cube."""
    if ndim == 2:
        angles = np.deg2rad(np.arange(0.0, 360.0, _WIDE_TURN))
        turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles]
        return [factor * turn for turn in turns for factor in ((1.0,) if rigid else _WIDE_SCALES)]
    signed = [np.eye(3)[list(order)] * signs for order in itertools.permutations(range(3)) for signs in _SIGNS]
    return [matrix for matrix in signed if np.linalg.det(matrix) > 0]


_SIGNS = np.array(list(itertools.product((1.0, -1.0), repeat=3)))[:, :, None]


def candidates(
    fixed: Raster,
    moving: Raster,
    initial: Transform,
    matrices: Sequence[FloatArray],
    *,
    count: int,
    far: bool = False,
    contrast: bool = False,
    left: int = _LEFT,
    apart: float = 0.0,
) -> list[Affine]:
    """The best `count` affine starts A on the fixed side (phi = initial @ A), best first.

    Parameters
    ----------
    fixed, moving : a level of some 32 voxels along the longest axis
    matrices : rotations and scales about the fixed grid's centre
    far : shifts to half of the image, not to a third; matrices that correlate worst anyway are left out
    contrast : any relation of brightness counts
    left : how many matrices are left then
    apart : norm of what takes the matrix of a better start to another's, from which on that counts as another start
    """
    grid, reach = fixed.grid, _FAR if far else _REACH
    tried = np.asarray(matrices)
    if far and len(tried) > left:
        # every other voxel suffices to see which are not worth more
        few = grid.with_shape([max(2, n // 2) for n in grid.shape])
        pair = _pair(fixed, moving, initial, tried, few)
        likely = correlation_ratios(*pair, few, reach)[0] if contrast else plain_correlations(*pair, few, reach)
        tried = tried[np.argsort(-likely, kind="stable")[:left]]
    compared = correlation_ratios if contrast else correlations
    scores, shifts = compared(*_pair(fixed, moving, initial, tried, grid), grid, reach)
    best: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        if len(best) == count:
            break
        if apart == 0 or all(_between(tried[k], tried[better]) >= apart for better in best):
            best.append(int(k))
    about = [Affine.about(tried[k], grid.center) for k in best]
    # behind a shift by d voxels
    return [Affine(t.matrix, t(grid.index_to_world @ shift)) for t, shift in zip(about, shifts[best], strict=True)]


def _between(a: FloatArray, b: FloatArray) -> float:
    """Norm of b^-1 a - 1."""
    return float(np.linalg.norm(np.linalg.solve(b, a) - np.eye(len(a)), 2))


def _pair(fixed: Raster, moving: Raster, initial: Transform, matrices: FloatArray, grid: Grid) -> tuple[Samples, Samples]:
    """Fixed at the points of a grid (*shape), and moving at what initial makes of these behind every matrix, (K, *shape)."""
    points = grid.points()
    arms = (points - grid.center).reshape(-1, grid.ndim)
    everywhere = (arms @ np.swapaxes(matrices, 1, 2)).reshape(len(matrices), *points.shape) + grid.center
    return samples(fixed, points), samples(moving, initial(everywhere))


def _rotations(ndim: int, degrees: float) -> list[FloatArray]:
    """Products of rotations in all coordinate planes."""
    steps = int(degrees // _TURN[ndim])
    angles = np.deg2rad(_TURN[ndim]) * np.arange(-steps, steps + 1)
    planes = list(itertools.combinations(range(ndim), 2))
    products: list[FloatArray] = []
    for turns in itertools.product(angles, repeat=len(planes)):
        matrix = np.eye(ndim)
        for (a, b), angle in zip(planes, turns, strict=True):
            turn = np.eye(ndim)
            turn[[a, b], [a, b]] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        products.append(matrix)
    return products
