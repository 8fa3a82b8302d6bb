"""A short polish by Gauss-Newton steps on the same bundles, where the last linear program has brought them near.

A program sees displacements along the normals only, in steps of a fraction of a voxel; with the derivatives of every bundle's
cost by shifts w_i along normal and tangents, H_i (D, D) and g_i (D,), a step minimises

    sum_i w_i . g_i + w_i . H_i w_i / 2 + lambda sum_e (R c)_e^2 / (2 max(|R c0|_e, eps)),      w_i = F_i (dv(p_i)),

F_i the keypoint's frame: iteratively reweighted least squares for the same L1 term. Bounds are kept by clipping the coefficients.
"""

from __future__ import annotations

import numpy as np

from augreg.geometry.grid import FloatArray
from augreg.lp.level import FEWEST, Level
from augreg.lp.pose import Pose
from augreg.lp.program import stacked
from solvers import least_squares

# relative damping of the normal matrix
_DAMPING = 1e-4
# |R c| below which the L1 term counts as quadratic, voxels of the level
_SOFT = 0.02


def gauss_newton_step(level: Level, pose: Pose, weights: FloatArray) -> FloatArray | None:
    """Unknowns c of a better pose, (K,); None without derivatives, or with too few. weights (N,) of the keypoints."""
    tensors = level.tensors(pose.transform)
    if tensors is None:
        return None
    hessian, gradient = tensors
    ndim = gradient.shape[1]
    trace = np.trace(hessian, axis1=1, axis2=2)
    used = np.flatnonzero((trace > 0) & (weights > 0))
    if len(used) < FEWEST:
        return None
    points, frames = level.keypoints.points[used], level.keypoints.frames[used]
    hessian = hessian[used] + 1e-6 * trace[used, None, None] * np.eye(ndim)
    R, weight = pose.smoothness
    if R.shape[0] == 0:
        return pose.coefficients + _few(pose, points, frames, weights[used], hessian, gradient[used])
    # H = L L^T: a keypoint's D rows are L^T F, their targets -L^-1 g
    lower = np.linalg.cholesky(hessian)
    targets = -np.linalg.solve(lower, gradient[used][..., None]).ravel()
    directions = np.swapaxes(lower, 1, 2) @ frames
    matrix = pose.rows(np.repeat(points, ndim, axis=0), directions.reshape(-1, ndim))
    c = pose.coefficients
    bent = R @ c
    tension = weight / np.maximum(np.abs(bent), _SOFT * level.fixed.step)
    return c + least_squares(
        stacked([matrix, R]),
        np.concatenate([np.repeat(weights[used], ndim), tension]),
        np.concatenate([targets, -bent]),
        _DAMPING,
    )


def _few(
    pose: Pose, points: FloatArray, frames: FloatArray, weights: FloatArray, hessian: FloatArray, gradient: FloatArray
) -> FloatArray:
    """The step of a few unknowns that nothing else holds, (K,): w_i = B_i c, (sum_i B_i^T H_i B_i) c = -sum_i B_i^T g_i."""
    count, ndim = gradient.shape
    B = pose.rows(np.repeat(points, ndim, axis=0), frames.reshape(-1, ndim)).toarray()
    weighted = (weights[:, None, None] * hessian) @ B.reshape(count, ndim, -1)
    normal = B.T @ weighted.reshape(B.shape)
    normal[np.diag_indices_from(normal)] *= 1 + _DAMPING
    return np.linalg.lstsq(normal, -B.T @ (weights[:, None] * gradient).ravel(), rcond=None)[0]
