"""Corresponding points: contours of label maps at equal arc length, surfaces, centroids.

A contour is followed along the cracks between the pixels of a structure's largest 4-connected component (holes filled), with
the inside on the left; its vertices are the cracks' middles, smoothed over one pixel. Points at equal arc length start where the
contour is met in the fixed world direction +x from its centroid; the start is then moved, within the same points' order, to the
cyclic shift that is nearest to a reference contour. In volumes, points of a surface lie on rays from the centroid into fixed
world directions, evenly spread, where a ray leaves the structure for the last time (`augreg.sam.surfaces`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.spatial
import skimage.measure

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Labels
from augreg.sam.surfaces import surface_points, surface_sizes

# contours shorter than so many pixels, surfaces smaller than so many, carry no shape: the centroid alone stands for the structure
_LEAST_SIZE = {2: 16, 3: 80}
_LEAST_POINTS = 6
_OVERSAMPLING = 8
# equal arc length finds the same places on contours that are one piece and not folded
_WHOLE = 0.8
_FOLDED = 5.0


@dataclass(frozen=True)
class Contours:
    """Which points stand for a label map: `counts[s]` border points and one centroid for every label `structures[s]`.

    Parameters
    ----------
    structures : labels, ascending
    counts : number of points of each structure's contour (2-D) or surface (3-D); 0 leaves the centroid alone
    """

    structures: tuple[int, ...]
    counts: tuple[int, ...]

    @staticmethod
    def from_labels(labels: Sequence[Labels], points: int = 400, structures: Sequence[int] | None = None) -> Contours:
        """Share about `points` border points among the structures in proportion to their mean perimeters or surfaces.

        Parameters
        ----------
        labels : the label maps
        points : number of border points of all structures together
        structures : labels to use; by default those that every map has

        Raises
        ------
        ValueError : for label maps without a common structure, or where one lacks a structure asked for.
        """
        if structures is None:
            wanted = _common_structures(labels)
        else:
            wanted = tuple(sorted({int(label) for label in structures}))
        for i, one in enumerate(labels):
            _check_structures(one, wanted, f"labels[{i}]")
        ndim = labels[0].ndim
        sizes = _perimeters if ndim == 2 else surface_sizes
        mean = np.mean([sizes(one, wanted) for one in labels], axis=0)
        voxel = float(np.mean(labels[0].grid.spacing)) ** (ndim - 1)
        counts = np.maximum(_LEAST_POINTS, np.rint(points * mean / mean.sum())).astype(int)
        counts[mean < _LEAST_SIZE[ndim] * voxel] = 0
        return Contours(wanted, tuple(int(c) for c in counts))

    @property
    def size(self) -> int:
        """The number of points, centroids included."""
        return sum(self.counts) + len(self.structures)

    def within(self, labels: Labels) -> tuple[Contours, npt.NDArray[np.bool_]]:
        """The part of the scheme whose structures a label map has, and which of the points (size,) bool it comprises."""
        there = set(labels.unique())
        kept = [(label, count) for label, count in zip(self.structures, self.counts, strict=True) if label in there]
        seen = np.repeat([label in there for label in self.structures], [count + 1 for count in self.counts])
        return Contours(tuple(label for label, _ in kept), tuple(count for _, count in kept)), seen

    def landmarks(self, labels: Labels, reference: FloatArray | None = None) -> FloatArray:
        """Points of a label map, (size, D) mm: for every structure its contour, then its centroid.

        Parameters
        ----------
        labels : the label map
        reference : points of the same order, (size, D) mm, whose contours choose the starting points

        Raises
        ------
        ValueError : if a structure is missing.
        """
        _check_structures(labels, self.structures, "labels")
        if labels.ndim == 3:
            return surface_points(labels, self.structures, self.counts)
        return self._points(outlines(labels, self.structures), reference)

    def corresponding(self, labels: Sequence[Labels], rounds: int = 3) -> FloatArray:
        """Points of several label maps, (n, size, D) mm, with starting points that agree with the mean contour."""
        for i, one in enumerate(labels):
            _check_structures(one, self.structures, f"labels[{i}]")
        if labels[0].ndim == 3:
            return np.stack([surface_points(one, self.structures, self.counts) for one in labels])
        lines = [outlines(one, self.structures) for one in labels]
        # one map shows the way first: a mean of contours with different starts is a blur that would confirm itself
        reference = self._points(lines[0], None)
        for _ in range(rounds):
            points = np.stack([self._points(one, reference) for one in lines])
            reference = points.mean(axis=0)
        return points

    def _points(self, lines: Sequence[FloatArray], reference: FloatArray | None) -> FloatArray:
        parts, offset = [], 0
        for line, count in zip(lines, self.counts, strict=True):
            if count:
                guide = None if reference is None else reference[offset : offset + count]
                parts.append(_equal_arcs(line, count, guide))
            parts.append(_area_centroid(line)[None])
            offset += count + 1
        return np.concatenate(parts)


def contours_correspond(labels: Sequence[Labels]) -> bool:
    """Whether the contours of label maps are likely to correspond at equal arc length.

    They do where in every map every structure is mostly one piece (largest component at least 0.8 of it: else another piece may
    be the largest in the next map), and no contour is folded, as a cortex is (perimeter^2 / (4 pi area) at most 5; a circle has
    1). Volumes have no contours.
    """
    if any(one.ndim != 2 for one in labels):
        return False
    structures = _common_structures(labels)
    for one in labels:
        for structure, line in zip(structures, outlines(one, structures), strict=True):
            pieces = np.bincount(scipy.ndimage.label(one.values == structure)[0].ravel())[1:]
            if pieces.max() < _WHOLE * pieces.sum():
                return False
            if _perimeter(line) ** 2 > _FOLDED * 4 * np.pi * abs(_signed_area(line)):
                return False
    return True


def _common_structures(labels: Sequence[Labels]) -> tuple[int, ...]:
    found = [set(one.unique()) for one in labels]
    common = set.intersection(*found)
    if common:
        return tuple(sorted(common))
    commonest = max(set.union(*found), key=lambda label: sum(label in one for one in found), default=None)
    if commonest is None:
        raise ValueError("labels: expected at least one structure, got only background")
    lacking = next(i for i, one in enumerate(found) if commonest not in one)
    has = ", ".join(map(str, sorted(found[lacking]))) or "nothing but background"
    raise ValueError(
        f"labels: expected a structure that all label maps have, got none; label {commonest} is missing in labels[{lacking}], "
        f"which has {has}: number structures alike, or leave that image out"
    )


def _check_structures(labels: Labels, structures: Sequence[int], name: str) -> None:
    missing = sorted(set(structures) - set(labels.unique()))
    if missing:
        raise ValueError(
            f"{name}: expected the structures of the other label maps, label {missing[0]} is missing; "
            "leave the image out or remove the label from all maps"
        )


def outlines(labels: Labels, structures: Sequence[int]) -> list[FloatArray]:
    """The closed contour of each structure's largest component, (N, 2) mm, counter-clockwise in world axes; last != first."""
    # labels may be any integers: ranks keep the list of boxes short
    values, ranks = np.unique(labels.values, return_inverse=True)
    ranks = ranks.reshape(labels.values.shape) + 1
    boxes = scipy.ndimage.find_objects(ranks)
    found = [int(np.searchsorted(values, label)) for label in structures]
    return [_outline(labels.grid, ranks[boxes[r]] == r + 1, boxes[r]) for r in found]


def _outline(grid: Grid, inside: npt.NDArray[np.bool_], where: tuple[slice, ...]) -> FloatArray:
    components, count = scipy.ndimage.label(inside)
    if count > 1:
        inside = components == 1 + np.argmax(np.bincount(components.ravel())[1:])
    loop = _crack_loop(scipy.ndimage.binary_fill_holes(inside)) + [axis.start for axis in where]
    # the middles of neighbouring cracks zigzag along oblique borders: one binomial pass takes the stairs away
    smooth = 0.25 * np.roll(loop, 1, axis=0) + 0.5 * loop + 0.25 * np.roll(loop, -1, axis=0)
    line = grid.points_at(smooth)
    return line if _signed_area(line) > 0 else line[::-1]


def _crack_loop(inside: npt.NDArray[np.bool_]) -> FloatArray:
    """Middles of the cracks around a region, in order, in index units (pixel centres are integers)."""
    # regions are 4-connected: where two pixels touch at a corner, the outside is what hangs together
    loops = skimage.measure.find_contours(np.pad(inside, 1).astype(np.float64), 0.5, fully_connected="low")
    return np.asarray(max(loops, key=len))[:-1] - 1.0


def _signed_area(line: FloatArray) -> float:
    x, y = (line - line.mean(axis=0)).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _area_centroid(line: FloatArray) -> FloatArray:
    center = line.mean(axis=0)
    p, q = line - center, np.roll(line - center, -1, axis=0)
    cross = p[:, 0] * q[:, 1] - q[:, 0] * p[:, 1]
    return center + ((p + q) * cross[:, None]).sum(axis=0) / (3 * cross.sum())


def _perimeters(labels: Labels, structures: Sequence[int]) -> list[float]:
    return [_perimeter(line) for line in outlines(labels, structures)]


def _perimeter(line: FloatArray) -> float:
    return float(np.linalg.norm(np.roll(line, -1, axis=0) - line, axis=1).sum())


def _equal_arcs(line: FloatArray, count: int, guide: FloatArray | None) -> FloatArray:
    """`count` points at equal arc length; the start by direction, then by the shift nearest to the guide."""
    fine = _resampled(line, count * _OVERSAMPLING)
    center = _area_centroid(line)
    offset = fine - center
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    if guide is None:
        # the outermost of the crossings of the ray: a concave contour may be met several times
        crossing = np.flatnonzero((angle < 0) & (np.roll(angle, -1) >= 0) & (np.abs(angle) < np.pi / 2))
        start = crossing[np.argmax(offset[crossing, 0])] if crossing.size else int(np.argmin(np.abs(angle)))
    else:
        centred = guide - guide.mean(axis=0)
        starts = np.arange(count * _OVERSAMPLING)
        picks = (starts[:, None] + _OVERSAMPLING * np.arange(count)) % len(fine)
        trial = fine[picks] - fine[picks].mean(axis=1, keepdims=True)
        start = int(np.argmin(((trial - centred) ** 2).sum(axis=(1, 2))))
    return np.roll(fine, -int(start), axis=0)[::_OVERSAMPLING]


def _resampled(line: FloatArray, count: int) -> FloatArray:
    closed = np.vstack([line, line[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.arange(count) * arc[-1] / count
    return np.stack([np.interp(at, arc, closed[:, d]) for d in range(line.shape[1])], axis=1)
