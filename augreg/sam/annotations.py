"""Annotations of several images against each other: what one of them lacks, or seems to have wrong.

A model is made of what all images share, so one faulty annotation takes a structure from all of them, or adds a variation that
nobody has. What can be seen is said in lines that name the image by its number, `labels[4]`.

The order of points (n, m, D) is doubted in image i if its points, about their mean, lie far from the median x of the others',
much farther than is usual among the images, and lie near in another order p:

    e_i = mean_j |x_ij - x_j|^2 > 4 median_k e_k,        min_p mean_j |x_ip(j) - x_j|^2 < e_i / 4
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.spatial.distance

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image, Labels
from augreg.geometry.landmarks import misplaced, outside

_UNUSUAL = 4.0
_NEARER = 0.25
_BEYOND = 0.25
# the best order of so many points is found in a second
_MOST = 2000
# images that are named where several lack a structure
_NAMED = 4


def dropped(labels: Sequence[Labels]) -> dict[int, list[int]]:
    """Structures that some label maps lack: by label, the numbers of these maps."""
    found = [set(one.unique()) for one in labels]
    common = set.intersection(*found)
    return {label: [i for i, one in enumerate(found) if label not in one] for label in sorted(set.union(*found) - common)}


def doubts_of_labels(labels: Sequence[Labels], images: Sequence[Image]) -> list[str]:
    """What label maps lack, and which are those of another image."""
    doubts = []
    count = len(labels)
    for label, lacking in dropped(labels).items():
        named = ", ".join(f"labels[{i}]" for i in lacking[:_NAMED]) + (", ..." if len(lacking) > _NAMED else "")
        doubts.append(
            f"label {label} is missing in {named} ({len(lacking)} of {count} maps): the structure has no landmarks in the model; "
            "add it there, or leave those images out"
        )
    return doubts + _repeated("labels", [one.values for one in labels], images)


def doubts_of_landmarks(landmarks: FloatArray, images: Sequence[Image]) -> list[str]:
    """What is odd in given landmarks (n, m, D) mm.

    Raises
    ------
    ValueError : where most landmarks of an image lie outside of it.
    """
    doubts = []
    for i, (points, image) in enumerate(zip(landmarks, images, strict=True)):
        share = outside(points, image.grid).mean()
        # shapes may reach beyond the border
        if share > _BEYOND and (text := misplaced(f"landmarks[{i}]", points, image.grid)):
            if share > 0.5:
                raise ValueError(text)
            doubts.append(text)
    for i, order in _other_orders(landmarks).items():
        moved = np.flatnonzero(order != np.arange(len(order)))
        doubts.append(
            f"landmarks[{i}]: its points seem to be in another order: number {moved[0] + 1} lies where number "
            f"{order[moved[0]] + 1} of the other images does, and so for {len(moved)} of {len(order)}"
        )
    return doubts + _repeated("landmarks", list(landmarks), images)


def doubts_of_structures(points: FloatArray, structures: Sequence[int], objects: npt.NDArray[np.int64]) -> list[str]:
    """Structures that lie where others have another one: points (n, m, D) mm of which `objects` (m,) says the structure."""
    doubts = []
    for i, order in _other_orders(points).items():
        for k, label in enumerate(structures):
            places = np.bincount(objects[order[objects == k]], minlength=len(structures))
            other = int(np.argmax(places))
            if other != k and places[other] > places.sum() / 2:
                doubts.append(
                    f"labels[{i}]: structure {label} lies where the other images have {structures[other]}; are labels exchanged?"
                )
    return doubts


def _other_orders(points: FloatArray) -> dict[int, npt.NDArray[np.intp]]:
    """For images whose points seem to be in another order: which point of the others each one is."""
    if len(points) < 3 or points.shape[1] > _MOST:
        return {}
    centred = points - points.mean(axis=1, keepdims=True)
    references = [np.median(np.delete(centred, i, axis=0), axis=0) for i in range(len(points))]
    errors = np.array([np.square(own - x).sum(axis=-1).mean() for own, x in zip(centred, references, strict=True)])
    orders = {}
    for i in np.flatnonzero(errors > _UNUSUAL * max(float(np.median(errors)), 1e-300)):
        cost = scipy.spatial.distance.cdist(centred[i], references[i], "sqeuclidean")
        own, order = scipy.optimize.linear_sum_assignment(cost)
        if cost[own, order].mean() < _NEARER * errors[i]:
            orders[int(i)] = order
    return orders


def _repeated(name: str, annotations: Sequence[npt.NDArray[np.generic]], images: Sequence[Image]) -> list[str]:
    """Annotations that are those of another image, to the last number."""
    doubts, seen = [], dict[bytes, int]()
    for i, one in enumerate(annotations):
        first = seen.setdefault(np.ascontiguousarray(one, dtype=np.float64).tobytes(), i)
        if first != i and not np.array_equal(images[first].values, images[i].values):
            doubts.append(f"{name}[{i}]: the same as {name}[{first}], though the images differ; is it the right one?")
    return doubts
