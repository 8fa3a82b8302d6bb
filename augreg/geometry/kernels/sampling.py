"""Values of a raster (n0, n1, n2, C) at one continuous index: the nearest voxel, linear, cubic.

A voxel reaches half a voxel beyond its centre, where values are constant; what lies outside has none. As in ITK.
"""

import numpy as np

from augreg.geometry.kernels.cubic import mirrored_index, weights
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
def taps(x, y, z, shape, weight, where):
    """Weights of the four samples around an index along every axis, (12,), and their places after mirroring, (12,).

    shape (n0, n1, n2, C). Places count flat values, so that the sum over the axes is a place. An axis of length one, which is the
    first, has one tap: weight[0] = 1 and where[0] = 0 are the caller's.
    """
    stride = shape[3]
    for axis in range(2, -1 if shape[0] > 1 else 0, -1):
        index = z if axis == 2 else y if axis == 1 else x
        size = shape[axis]
        first = np.int64(np.floor(index)) - 1
        w0, w1, w2, w3 = weights(index - first - 1)
        weight[4 * axis], weight[4 * axis + 1], weight[4 * axis + 2], weight[4 * axis + 3] = w0, w1, w2, w3
        for p in range(4):
            k = first + p
            where[4 * axis + p] = (k if k >= 0 and k < size else mirrored_index(k, size)) * stride
        stride *= size


@inlined
def cubic(values, begin, layers, weight, where):
    """From flat values that begin at a place, a channel or an image; layers is 4 in 3-D, 1 in 2-D."""
    total = 0.0
    for p in range(layers):
        for q in range(4, 8):
            row, line = begin + where[p] + where[q], 0.0
            for r in range(8, 12):
                # without a sign: it is not asked whether it counts from the end
                line += weight[r] * values[np.uint64(row + where[r])]
            total += weight[p] * weight[q] * line
    return total


@inlined
def nearest(index, size):
    """The nearest voxel, half-way points go up as in ITK; outside 0 .. size - 1 there is none."""
    i = int(np.floor(index + (0.5 + EDGE)))
    # the last half voxel ends at size - 1/2, which belongs to it up to rounding
    return i - int(i == size and index < size - 0.5 + EDGE)
