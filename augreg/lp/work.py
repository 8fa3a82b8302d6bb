"""What steps of a registration should take, seconds on one core of a usual machine: for clocks, which learn what they take here.

Of N keypoints with bundles of S samples a program samples and compares them twice, and solves for n unknowns with rows of r
numbers and a band of w,

    N (2 S_moving a + 2 S_fixed (2 X + 1) b + c r + k (d r + e r^2)) + k f n w^2,          k iterations of the interior point,

and a step of the polish, which has derivatives along all axes, samples more and solves once. The constants were fitted to
registrations of photographs of 512 x 512 and of brains at 1 mm.
"""

from __future__ import annotations

import numpy as np

from augreg.keypoints.pyramid import Raster
from augreg.lp.level import Level
from augreg.lp.pose import Pose, SplinePose
from augreg.lp.profiles import Bundle, Window

# seconds: a sample, a pair that is compared, a number of a row when it is made and when it is used, a product of two, a number
# of a factorisation
_SAMPLE, _PAIR, _MADE, _USED, _PRODUCT, _FACTOR = 8e-9, 1e-9, 2e-8, 1e-8, 1e-10, 2.5e-11
# of a polish, a number of a row, and an unknown by the square of a row's numbers
_ROW, _UNKNOWN = 7e-9, 1e-9
# of any step
_ALWAYS = 6e-4
# iterations of the interior point, about
_ITERATIONS = 12


def of_keypoints(voxels: float, count: int, bundle: Bundle, ndim: int) -> float:
    """Of finding keypoints among so many voxels, and sampling the fixed image around them."""
    return 3e-4 + 9e-9 * voxels + _SAMPLE * count * _samples(bundle, ndim, 2 * bundle.half_length + 1)


def of_start(ndim: int) -> float:
    """Of the least that a start takes: one program at the coarsest level."""
    return {2: 2.3e-3, 3: 3.6e-3}[ndim]


def of_program(level: Level, count: int, pose: Pose, window: Window) -> float:
    """Of a program with so many keypoints."""
    return _ALWAYS + _sampled(level, count, window) + _solved(count, pose)


def of_polish(level: Level, count: int, pose: Pose) -> float:
    """Of a Gauss-Newton step."""
    bundle, ndim = level.bundle, level.fixed.grid.ndim
    samples = (2 * bundle.half_width + 3) ** (ndim - 1) * (2 * bundle.half_length + 3) * level.fixed.values.shape[-1]
    numbers, unknowns = (ndim * 4**ndim, pose.model.unknowns) if isinstance(pose, SplinePose) else (0, 0)
    solving = _ROW * ndim * count * numbers + _UNKNOWN * unknowns * numbers**2
    return _ALWAYS + count * (3 * _SAMPLE * samples + 1e-6) + solving


def of_doubts(level: Level, count: int) -> float:
    """Of asking what speaks against a result."""
    return 1e-3 + 0.3 * _sampled(level, count, Window(8, 1)) + 1e-8 * float(np.prod(level.fixed.grid.shape))


def of_search(matrices: int, fixed: Raster) -> float:
    """Of correlating so many candidates at the scouting level, of half the resolution of a level."""
    return 1e-3 + matrices * 1e-6 * float(np.prod(fixed.grid.shape)) / 2**fixed.grid.ndim * 0.25


def _samples(bundle: Bundle, ndim: int, along: int) -> int:
    return bundle.side ** (ndim - 1) * along


def _sampled(level: Level, count: int, window: Window) -> float:
    bundle, ndim, channels = level.bundle, level.fixed.grid.ndim, level.fixed.values.shape[-1]
    moving = _samples(bundle, ndim, 2 * (bundle.half_length * window.ratio + window.shifts) + 1)
    fixed = _samples(bundle, ndim, 2 * bundle.half_length + 1)
    return 2 * count * channels * (_SAMPLE * moving + _PAIR * fixed * (2 * window.shifts + 1))


def _solved(count: int, pose: Pose) -> float:
    if not isinstance(pose, SplinePose):
        return count * (1e-6 + _ITERATIONS * 5 * _PRODUCT * len(pose.coefficients) ** 2)
    spline, unknowns = pose.model.spline, pose.model.unknowns
    numbers = spline.ndim * 4**spline.ndim
    # coefficients up to three lines apart along the slowest axis meet
    width = min(unknowns, 4 * unknowns / max(1, spline.grid.shape[0] - 6))
    each = count * numbers * (_USED + _PRODUCT * numbers / 2) + _FACTOR * unknowns * width**2
    return count * _MADE * numbers + _ITERATIONS * each
