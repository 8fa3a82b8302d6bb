"""Points of surfaces in label volumes that correspond from one volume to the next.

From the centroid c of a structure's largest component rays run into fixed world directions e_k, evenly spread over the sphere
(Fibonacci lattice; Gonzalez 2010, Math. Geosci. 42, 49). The point k is where ray k leaves the structure for the last time,

    x_k = c + e_k max { r : c + r e_k inside },

or c itself where it never meets it. For convex structures these are points of the whole surface; of folded ones, of their hull.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Labels

# of a voxel, between samples on a ray; the border is then found by linear interpolation
_STEP = 0.5


def surface_points(labels: Labels, structures: Sequence[int], counts: Sequence[int]) -> FloatArray:
    """For every structure its `counts` surface points, then its centroid, (sum of counts + structures, 3) mm."""
    parts = []
    for (inside, corner), count in zip(_components(labels, structures), counts, strict=True):
        index = np.argwhere(inside)
        center = labels.grid.points_at(index.mean(axis=0) + corner)
        if count:
            parts.append(_last_crossings(labels, inside, corner, center, _directions(count)))
        parts.append(center[None])
    return np.concatenate(parts)


def surface_sizes(labels: Labels, structures: Sequence[int]) -> list[float]:
    """The surface of a ball of each structure's volume, mm^2."""
    voxel = float(np.prod(labels.grid.spacing))
    volumes = [float(inside.sum()) * voxel for inside, _ in _components(labels, structures)]
    return [4 * np.pi * (3 * volume / (4 * np.pi)) ** (2 / 3) for volume in volumes]


def _components(labels: Labels, structures: Sequence[int]) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
    """The largest component of every structure in its box, with one voxel around it, and the index of the box's corner."""
    values, ranks = np.unique(labels.values, return_inverse=True)
    ranks = ranks.reshape(labels.values.shape) + 1
    boxes = scipy.ndimage.find_objects(ranks)
    for structure in structures:
        rank = int(np.searchsorted(values, structure))
        components, count = scipy.ndimage.label(ranks[boxes[rank]] == rank + 1)
        largest = components == (1 + np.argmax(np.bincount(components.ravel())[1:]) if count > 1 else 1)
        yield np.pad(largest, 1), np.array([axis.start - 1 for axis in boxes[rank]])


def _directions(count: int) -> FloatArray:
    """Unit vectors evenly spread over the sphere, (count, 3)."""
    k = np.arange(count)
    z = 1 - (2 * k + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * k
    return np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], axis=1)


def _last_crossings(
    labels: Labels, inside: npt.NDArray[np.bool_], corner: npt.NDArray[np.int64], center: FloatArray, directions: FloatArray
) -> FloatArray:
    reach = float(np.linalg.norm(np.asarray(inside.shape) * labels.grid.spacing))
    radii = np.arange(0.0, reach, _STEP * min(labels.grid.spacing))
    points = center + radii[:, None, None] * directions
    index = np.moveaxis(labels.grid.indices_at(points) - corner, -1, 0)
    share = scipy.ndimage.map_coordinates(inside.astype(np.float32), index, order=1, mode="constant")
    within = share >= 0.5
    last = np.where(within.any(axis=0), len(radii) - 1 - np.argmax(within[::-1], axis=0), -1)
    ray = np.arange(len(directions))
    following = np.minimum(last + 1, len(radii) - 1)
    drop = np.maximum(share[last, ray] - share[following, ray], 1e-6)
    r = np.where(last < 0, 0.0, radii[last] + np.clip((share[last, ray] - 0.5) / drop, 0, 1) * (radii[1] - radii[0]))
    return center + r[:, None] * directions
