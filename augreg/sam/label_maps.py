"""Label maps in the space of the template; ids of any size stay exact, which floating point numbers would not keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Labels
from augreg.geometry.resampling import sample
from augreg.geometry.transforms import Transform


def sample_labels(labels: Labels, points: FloatArray) -> npt.NDArray[np.integer]:
    """The nearest label at points (..., D), 0 outside."""
    ids, ranks = np.unique(labels.values, return_inverse=True)
    found = sample(Labels(ranks.reshape(labels.values.shape), labels.grid), points, fill=-1).astype(np.int64)
    return np.where(found < 0, ids.dtype.type(0), ids[found])


def pulled_labels(labels: Sequence[Labels], psis: Sequence[Transform], template: Grid) -> npt.NDArray[np.integer]:
    """labels_i(psi_i(x)) at the points of the template, (n, N), in the smallest type that holds them."""
    points = template.points()
    stack = np.stack([sample_labels(one, psi(points)).astype(np.int64) for one, psi in zip(labels, psis, strict=True)])
    stack = stack.reshape(len(labels), -1)
    least, most = int(stack.min()), int(stack.max())
    if least >= 0:
        return stack.astype(np.min_scalar_type(most))
    return stack.astype(np.int32 if least >= np.iinfo(np.int32).min and most <= np.iinfo(np.int32).max else np.int64)


def commonest(label_maps: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The commonest label at every place of label maps (n, N), (N,); the smaller one of equals."""
    best = np.zeros(label_maps.shape[1], dtype=label_maps.dtype)
    votes = np.zeros(label_maps.shape[1], dtype=np.int64)
    for label in np.unique(label_maps):
        count = (label_maps == label).sum(axis=0)
        best[count > votes] = label
        votes = np.maximum(votes, count)
    return best
