"""Splines through the training shapes that do not fold.

Landmarks of different images never correspond perfectly, least of all where the contours of neighbours meet. A spline through
every one of them would fold there. The smoothing lambda_j = lambda e_j / median(e), e_j the mean squared distance of landmark j
from the maps of the previous round (1 in the first), trusts the consistent ones; lambda is the least of a list for which no
training map folds.
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import control_grid, least_smoothing, lift
from augreg.geometry.transforms import BSpline, Composition, Transform
from augreg.sam.alignment import Aligned, pose_transform
from augreg.sam.motion import Motion

# lambda in units of the squared median distance of neighbouring landmarks; in small steps, for a model loses what is smoothed
_SMOOTHINGS = (0.0, *(10 ** (k / 4) for k in range(-8, 21)))
_TRUST_ROUNDS = 2
# the more, the smoother: 0.25 costs networks that learn from the model 0.01 of Jaccard between brains
_LEAST_DETERMINANT = 0.15


def training_splines(shapes: Aligned, template: Grid) -> tuple[FloatArray, FloatArray]:
    """Splines of the training shapes without folds: the smoothing (m,) mm^2 of every landmark, and their coefficients."""
    control = control_grid(template)
    displacements = shapes.points - shapes.mean
    trust = np.ones(len(shapes.mean))
    for _ in range(_TRUST_ROUNDS):
        smoothing, coefficients = _least_smoothing(displacements, shapes.mean, template, control, trust)
        if not smoothing.any():
            break
        misses = np.stack([BSpline(c, control)(shapes.mean) for c in coefficients]) - shapes.points
        error = np.mean(np.sum(misses**2, axis=-1), axis=0)
        trust = np.maximum(error / np.median(error), 1e-3)
    return smoothing, coefficients


def training_transforms(
    coefficients: FloatArray, motion: Motion, control: Grid, poses: FloatArray, center: FloatArray
) -> list[Transform]:
    """psi_i, template -> image i.

    Parameters
    ----------
    coefficients : B-spline coefficients of every training shape, (n, *control.shape, D) mm
    motion : meaning of the coefficients
    control : their control grid
    poses : parameters of the poses, (n, P)
    center : fixed point of the poses' rotations and scales, (D,) mm
    """
    return [
        Composition((pose_transform(pose, center), motion.transform(c, control)))
        for c, pose in zip(coefficients, poses, strict=True)
    ]


def _least_smoothing(
    displacements: FloatArray, mean: FloatArray, template: Grid, control: Grid, trust: FloatArray
) -> tuple[FloatArray, FloatArray]:
    # two landmarks at one place, as where contours share a border, leave exact interpolation without a solution
    near = np.sort(np.linalg.norm(mean[:, None] - mean, axis=-1), axis=1)[:, 1]
    distinct = near.min() > 1e-3 * template.diagonal / len(mean)
    factors = _SMOOTHINGS[0 if distinct else 1 :]

    def smoothing(number: int) -> FloatArray:
        return factors[number] * float(np.median(near)) ** 2 * trust

    number, coefficients = least_smoothing(
        lambda number: lift(displacements, mean, template, control, smoothing(number)), len(factors), control, _LEAST_DETERMINANT
    )
    return smoothing(number), coefficients
