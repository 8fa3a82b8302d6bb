"""Taking pose out of corresponding points, and giving it back.

Generalised Procrustes (Gower 1975): poses T_i(x) = c + s R (x - c) + t and a mean m with  sum_i |T_i^-1(x_i) - m|^2  least, where
T_i is a translation, a rigid or a similarity map about the mean's centroid c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.spatial.transform

from augreg.geometry.grid import FloatArray
from augreg.geometry.transforms import Affine

Alignment = Literal["none", "translation", "rigid", "similarity"]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Shapes without pose: `points` (n, m, D) mm, `mean` (m, D) mm, `poses` (n, P), see `pose_transform`."""

    points: FloatArray
    mean: FloatArray
    poses: FloatArray


def procrustes(points: FloatArray, alignment: Alignment = "translation", tolerance: float = 1e-8) -> Aligned:
    """Generalised Procrustes alignment of corresponding points (n, m, D) mm.

    The mean keeps the average position, orientation and size of the input, so that the poses scatter about the identity.

    Raises
    ------
    ValueError : for an unknown alignment.
    """
    if alignment not in ("none", "translation", "rigid", "similarity"):
        raise ValueError(f"alignment: expected none, translation, rigid or similarity, got {alignment!r}")
    count, _, ndim = points.shape
    poses = np.zeros((count, pose_size(ndim)))
    if alignment == "none":
        return Aligned(points, points.mean(axis=0), poses)
    centroids = points.mean(axis=1)
    centre = centroids.mean(axis=0)
    poses[:, :ndim] = centroids - centre
    shapes = points - centroids[:, None]
    aligned = shapes.copy()
    mean = aligned.mean(axis=0)
    if alignment != "translation":
        size = np.sqrt((shapes**2).sum(axis=(1, 2))).mean()
        for _ in range(100):
            rotations, scales = zip(*[_best_turn(mean, shape) for shape in shapes], strict=True)
            logs = np.log(scales) if alignment == "similarity" else np.zeros(count)
            logs -= logs.mean()
            turns = np.stack([_rotation_vector(R) for R in rotations])
            turns -= turns.mean(axis=0)
            aligned = np.stack([(s @ _rotation(w)) / np.exp(g) for s, w, g in zip(shapes, turns, logs, strict=True)])
            update = aligned.mean(axis=0)
            if alignment == "similarity":
                update *= size / np.sqrt((update**2).sum())
            change = np.abs(update - mean).max()
            mean = update
            if change < tolerance * size:
                break
        poses[:, ndim:-1], poses[:, -1] = turns, logs
    return Aligned(aligned + centre, aligned.mean(axis=0) + centre, poses)


def align(points: FloatArray, mean: FloatArray, alignment: Alignment) -> tuple[FloatArray, FloatArray]:
    """Points (m, D) mm without their pose with respect to a mean shape, and that pose (P,)."""
    ndim = points.shape[1]
    pose = np.zeros(pose_size(ndim))
    if alignment == "none":
        return points, pose
    center = mean.mean(axis=0)
    pose[:ndim] = points.mean(axis=0) - center
    shape = points - points.mean(axis=0)
    if alignment == "translation":
        return shape + center, pose
    rotation, scale = _best_turn(mean - center, shape)
    pose[ndim:-1] = _rotation_vector(rotation)
    pose[-1] = np.log(scale) if alignment == "similarity" else 0.0
    return (shape @ rotation) / np.exp(pose[-1]) + center, pose


def pose_size(ndim: int) -> int:
    """P: D translations (mm), D (D - 1) / 2 rotations (rad), one logarithm of scale."""
    return ndim + ndim * (ndim - 1) // 2 + 1


def pose_transform(pose: FloatArray, center: FloatArray) -> Affine:
    """T(x) = c + s R (x - c) + t of a pose (P,) about a centre c (D,) mm."""
    ndim = len(center)
    return Affine.about(np.exp(pose[-1]) * _rotation(pose[ndim:-1]), center, pose[:ndim])


def pose_about(pose: FloatArray, center: FloatArray, other: FloatArray) -> FloatArray:
    """The pose (P,) about another centre (D,) mm of the same map."""
    moved = pose.copy()
    moved[: len(center)] = pose_transform(pose, center)(other) - other
    return moved


def _best_turn(mean: FloatArray, shape: FloatArray) -> tuple[FloatArray, float]:
    """R (a proper rotation) and s that bring s R mean nearest to the shape, both centred (Kabsch, Umeyama)."""
    U, sigma, Vt = np.linalg.svd(shape.T @ mean)
    sign = np.ones(len(sigma))
    sign[-1] = np.sign(np.linalg.det(U @ Vt))
    return (U * sign) @ Vt, float((sigma * sign).sum() / (mean**2).sum())


def _rotation(vector: FloatArray) -> FloatArray:
    if len(vector) == 1:
        c, s = np.cos(vector[0]), np.sin(vector[0])
        return np.array([[c, -s], [s, c]])
    return np.asarray(scipy.spatial.transform.Rotation.from_rotvec(vector).as_matrix())


def _rotation_vector(rotation: FloatArray) -> FloatArray:
    if len(rotation) == 2:
        return np.array([np.arctan2(rotation[1, 0], rotation[0, 0])])
    return np.asarray(scipy.spatial.transform.Rotation.from_matrix(rotation).as_rotvec())
