"""The shapes that go with some known landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.sam.alignment import Alignment, align, pose_transform
from augreg.sam.subspace import Subspace

# of pose and shape: twice as many change nothing that can be seen
_TURNS = 10


@dataclass(frozen=True, eq=False)
class Posterior:
    """What a model expects of a shape of which some landmarks are known.

    Parameters
    ----------
    shape : vectors (m D) mm in the template's space, without pose. One of them, x, is the shape
        `model.shape.coefficients(x)` of the model whose posterior it is.
    pose : parameters of the pose, (P,)
    landmarks : the mean of `shape` in this pose, (m, D) mm
    """

    shape: Subspace
    pose: FloatArray
    landmarks: FloatArray


def posterior(shape: Subspace, mean: FloatArray, alignment: Alignment, landmarks: npt.ArrayLike, noise: float) -> Posterior:
    """The shapes of a model that go with some known landmarks.

    Shape and pose are found in turns: the pose is that of all landmarks, the unknown ones as expected so far. The pose of
    the known ones alone would be another, off by what the shape of a part differs from the mean's.

    Parameters
    ----------
    shape : shapes of the model, vectors (m D) mm
    mean : points of the mean shape, (m, D) mm
    alignment : what a pose may contain
    landmarks : positions, (m, D) mm; NaN where unknown
    noise : standard deviation of the errors of known coordinates, mm

    Raises
    ------
    ValueError : for landmarks of another shape, with too few known, or noise that is not positive and finite.
    """
    points, ndim = np.array(landmarks, dtype=np.float64), mean.shape[1]
    if points.shape != mean.shape:
        raise ValueError(f"landmarks: expected shape {mean.shape}, the model's, got {points.shape}")
    seen = np.isfinite(points).all(axis=1)
    least = 1 if alignment in ("none", "translation") else ndim
    if seen.sum() < least:
        raise ValueError(f"landmarks: expected at least {least} known, to find the pose with, got {seen.sum()}")
    known = np.repeat(seen, ndim)
    _, pose = align(points[seen], mean[seen], alignment)
    expected = pose_transform(pose, mean[seen].mean(axis=0))(mean)
    for _ in range(1 if seen.all() else _TURNS):
        points[~seen] = expected[~seen]
        aligned, pose = align(points, mean, alignment)
        expected_shape = shape.posterior(known, aligned.ravel()[known], noise)
        expected = pose_transform(pose, mean.mean(axis=0))(expected_shape.mean.reshape(points.shape))
    return Posterior(expected_shape, pose, expected)
