"""Which images stand for all of them: K, so that every image has one that looks like it.

    s_it = mean local correlation of image t with image i, both brought to one place by rough affine maps
    T = argmax over |T| = K of sum_i max over t in T of s_it

K-medoids (Kaufman and Rousseeuw 1990): one image after the other joins, always the one that adds most, which reaches at least
1 - 1/e of what the best K add (Nemhauser, Wolsey and Fisher 1978); then one is exchanged for another as long as that helps. It is
a function of the images and the registration; of equal choices the one that was given first is taken.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from augreg.atlas.common import common_grid
from augreg.atlas.likeness import likeness
from augreg.atlas.rough import rough, small
from augreg.atlas.template import most_typical
from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.registration.method import Registration

# voxels along an axis that are looked at
_SIDE = 64
# sums this near to each other are equal
_TIE = 1e-9


def representatives(images: Iterable[Image], count: int, registration: Registration) -> tuple[int, ...]:
    """Numbers of the images that stand for all, ascending.

    A rough registration per image, and the likeness of every two: some ms each for slices, some ten for volumes.

    Parameters
    ----------
    images : images of one dimension; may be an iterator, of each of which some 64 voxels a side are kept
    count : K, number of images to choose
    registration : a callable (fixed, moving) -> phi, of which a rough map is asked

    Raises
    ------
    ValueError : for fewer images than are to be chosen, or a number below 1.
    """
    few = [small(image, _SIDE).luminance() for image in images]
    if not 1 <= count <= len(few):
        raise ValueError(f"count: expected 1 to {len(few)}, the number of images, got {count}")
    if count == len(few):
        return tuple(range(count))
    return medoids(similarities(few, registration), count)


def similarities(images: list[Image], registration: Registration) -> FloatArray:
    """s_it, (n, n): how much image t looks like image i where that shows something."""
    center = most_typical(images, common_grid([image.grid for image in images]))
    placed = [warp(image, rough(registration, center, image), center.grid) for image in images]
    return np.array([[like(other) for other in placed] for like in map(likeness, placed)])


def medoids(similar: FloatArray, count: int) -> tuple[int, ...]:
    """Rows that stand for all, ascending: see the module."""
    chosen: list[int] = []
    best = np.full(len(similar), -np.inf)
    for _ in range(count):
        sums = np.maximum(best[:, None], similar).sum(axis=0)
        sums[chosen] = -np.inf
        chosen.append(_first(sums))
        best = np.maximum(best, similar[:, chosen[-1]])
    total = best.sum()
    while True:
        # every one of the chosen in turn for every other image
        without = [np.max(similar[:, chosen[:k] + chosen[k + 1 :]], axis=1, initial=-np.inf) for k in range(count)]
        sums = np.stack([np.maximum(rest[:, None], similar).sum(axis=0) for rest in without])
        k, other = divmod(_first(sums.ravel()), len(similar))
        if sums[k, other] <= total + _TIE * abs(total):
            return tuple(sorted(chosen))
        chosen[k], total = other, sums[k, other]


def _first(sums: FloatArray) -> int:
    """The first of the greatest."""
    return int(np.flatnonzero(sums >= sums.max() - _TIE * abs(sums.max()))[0])
