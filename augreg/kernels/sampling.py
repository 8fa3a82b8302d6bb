"""Values of a raster (n0, n1, n2, C) at one continuous index: the nearest voxel, linear, cubic.

A voxel reaches half a voxel beyond its centre, where values are constant; what lies outside has none. As in ITK.
"""

import numpy as np

from augreg.kernels.cubic import mirrored, weights
from solvers._compile import inlined

EDGE = 1e-9  # index units: points on a border, up to rounding, are inside


@inlined
def inside(index, size):
    """Whether an index lies in the voxels [-1/2, size - 1/2)."""
    return index >= -0.5 - EDGE and index < size - 0.5 + EDGE


@inlined
def linear(values, x, y, z, c):
    """Channel c at an index inside the voxels.

    A neighbour of weight zero is not read: it may lie outside, or be NaN.
    """
    n0, n1, n2, _ = values.shape
    x = min(max(x, 0.0), n0 - 1.0)
    y = min(max(y, 0.0), n1 - 1.0)
    z = min(max(z, 0.0), n2 - 1.0)
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    total = 0.0
    for p in range(1 + (u > 0.0)):
        for q in range(1 + (v > 0.0)):
            for r in range(1 + (w > 0.0)):
                weight = (u if p else 1.0 - u) * (v if q else 1.0 - v) * (w if r else 1.0 - w)
                total += weight * values[i + p, j + q, k + r, c]
    return total


@inlined
def taps(index, size, weight, where):
    """Weights of the four samples around an index, (4,), and their places after mirroring, (4,)."""
    first = int(np.floor(index)) - 1
    weight[0], weight[1], weight[2], weight[3] = weights(index - first - 1)
    for p in range(4):
        where[p] = first + p if first >= 0 and first + 3 < size else mirrored(first + p, size)


@inlined
def cubic(values, weight, where, c):
    """Channel c from the taps of the three axes, (3, 4) each; an axis of length one has one tap of weight 1."""
    layers = 4 if values.shape[0] > 1 else 1
    r0, r1, r2, r3 = where[2, 0], where[2, 1], where[2, 2], where[2, 3]
    w0, w1, w2, w3 = weight[2, 0], weight[2, 1], weight[2, 2], weight[2, 3]
    total = 0.0
    for p in range(layers):
        for q in range(4):
            row = values[where[0, p], where[1, q]]
            line = w0 * row[r0, c] + w1 * row[r1, c] + w2 * row[r2, c] + w3 * row[r3, c]
            total += weight[0, p] * weight[1, q] * line
    return total


@inlined
def nearest(index, size):
    """The nearest voxel, half-way points go up as in ITK; outside 0 .. size - 1 there is none."""
    i = int(np.floor(index + (0.5 + EDGE)))
    # the last half voxel ends at size - 1/2, which belongs to it up to rounding
    return i - int(i == size and index < size - 0.5 + EDGE)
