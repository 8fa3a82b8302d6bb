"""Numba kernels of interpolation, parallel over points or lines.

All arrays have three index axes: a 2-D array gets a first axis of length one, so one kernel serves both dimensions. A point's
interpolation is a tensor product: per axis a first index, a number of taps and their weights, filled in by stencil functions.

Cubic B-spline weights at 0 <= t <= 1 between the second and the third of four knots (Unser 1999, IEEE SPM 16(6), eq. 5)

    w = ((1 - t)^3, 3 t^3 - 6 t^2 + 4, -3 t^3 + 3 t^2 + 3 t + 1, t^3) / 6
"""

import numpy as np
from numba import config, prange, set_num_threads

from augreg._compile import kernel, njit

CHUNK = 4096
EDGE = 1e-9  # index units: points on a border, up to rounding, are inside
LINEAR = 2
CUBIC = 4
CUBIC_MIRRORED = 5


def set_threads(count: int) -> None:
    """Number of threads of all kernels."""
    if not 1 <= count <= config.NUMBA_NUM_THREADS:
        raise ValueError(f"threads: expected 1 to {config.NUMBA_NUM_THREADS} on this machine, got {count}")
    set_num_threads(count)


@njit(cache=True, nogil=True, inline="always")
def _cubic_weights(t, w):
    s = 1.0 - t
    w[0] = s * s * s / 6.0
    w[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0
    w[2] = (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0
    w[3] = t * t * t / 6.0


@njit(cache=True, nogil=True, inline="always")
def _cubic_slopes(t, w):
    s = 1.0 - t
    w[0] = -0.5 * s * s
    w[1] = 1.5 * t * t - 2.0 * t
    w[2] = 2.0 * s - 1.5 * s * s
    w[3] = 0.5 * t * t


@njit(cache=True, nogil=True)
def _cubic_stencil(index, size, weights, slopes):
    """First control index and weights at a continuous index; -1 outside the domain [1, size - 2] of ITK's B-splines."""
    if not (index >= 1.0 - EDGE and index <= size - 2.0 + EDGE):
        return -1
    first = min(max(int(np.floor(index)) - 1, 0), size - 4)
    t = index - first - 1.0
    _cubic_weights(t, weights)
    _cubic_slopes(t, slopes)
    return first


@njit(cache=True, nogil=True)
def _linear_stencil(index, size, weights, slopes):
    """First index and weights; -1 outside the voxels [-1/2, size - 1/2), constant over the outer half voxels (as ITK)."""
    if not (index >= -0.5 - EDGE and index < size - 0.5 + EDGE):
        return -1
    first = min(max(int(np.floor(index)), 0), max(size - 2, 0))
    t = min(max(index - first, 0.0), 1.0)
    inside = 0.0 < index < size - 1.0 or (size > 1 and 0.0 <= index <= size - 1.0)
    weights[0] = 1.0 - t
    weights[1] = t
    slopes[0] = -1.0 if inside else 0.0
    slopes[1] = 1.0 if inside else 0.0
    return first


@kernel()
def grid_points(origin, index_to_world, out):
    """World points of a grid, out (n0, n1, n2, D) with n0 = 1 in 2-D."""
    n0, n1, n2, ndim = out.shape
    for line in prange(n0 * n1):
        i, j = line // n1, line % n1
        for d in range(ndim):
            start = origin[d] + index_to_world[d, ndim - 2] * j
            if ndim == 3:
                start += index_to_world[d, 0] * i
            step = index_to_world[d, ndim - 1]
            for k in range(n2):
                out[i, j, k, d] = start + step * k


@kernel()
def affine_at(points, matrix, translation, out):
    """A x + t for points (N, D); out may be the points themselves."""
    count, ndim = points.shape
    for i in prange(count):
        if ndim == 2:
            x, y = points[i, 0], points[i, 1]
            for d in range(2):
                out[i, d] = matrix[d, 0] * x + matrix[d, 1] * y + translation[d]
        else:
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            for d in range(3):
                out[i, d] = matrix[d, 0] * x + matrix[d, 1] * y + matrix[d, 2] * z + translation[d]


@kernel()
def spline_at(points, origin, world_to_index, coefficients, out):
    """B-spline vectors at world points, (N, D) each; coefficients (n0, n1, n2, D). Zero outside the domain."""
    count, ndim = points.shape
    lead = 3 - ndim
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        weights = np.ones((3, 4))
        slopes = np.zeros((3, 4))
        first = np.zeros(3, np.int64)
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            inside = True
            for a in range(ndim):
                index = 0.0
                for b in range(ndim):
                    index += world_to_index[a, b] * (points[i, b] - origin[b])
                start = _cubic_stencil(index, coefficients.shape[lead + a], weights[lead + a], slopes[lead + a])
                first[lead + a] = start
                inside = inside and start >= 0
            for d in range(ndim):
                out[i, d] = 0.0
            if not inside:
                continue
            for p in range(1 if ndim == 2 else 4):
                for q in range(4):
                    w = weights[0, p] * weights[1, q]
                    for r in range(4):
                        v = w * weights[2, r]
                        for d in range(ndim):
                            out[i, d] += v * coefficients[first[0] + p, first[1] + q, first[2] + r, d]


@kernel()
def displacement_gradient_at(points, origin, world_to_index, coefficients, taps, out):
    """World derivatives du_d/dx_b of the interpolated vectors, out (N, D, D). Zero outside the domain."""
    count, ndim = points.shape
    lead = 3 - ndim
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        weights = np.ones((3, 4))
        slopes = np.zeros((3, 4))
        first = np.zeros(3, np.int64)
        used = np.ones(3, np.int64)
        by_index = np.empty((3, 3))
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            inside = True
            for a in range(ndim):
                index = 0.0
                for b in range(ndim):
                    index += world_to_index[a, b] * (points[i, b] - origin[b])
                size = coefficients.shape[lead + a]
                if taps == CUBIC:
                    start = _cubic_stencil(index, size, weights[lead + a], slopes[lead + a])
                else:
                    start = _linear_stencil(index, size, weights[lead + a], slopes[lead + a])
                first[lead + a] = start
                used[lead + a] = min(taps, size)
                inside = inside and start >= 0
            by_index[:] = 0.0
            if inside:
                for p in range(used[0]):
                    for q in range(used[1]):
                        for r in range(used[2]):
                            wp, wq, wr = weights[0, p], weights[1, q], weights[2, r]
                            for d in range(ndim):
                                c = coefficients[first[0] + p, first[1] + q, first[2] + r, d]
                                by_index[d, 0] += slopes[0, p] * wq * wr * c
                                by_index[d, 1] += wp * slopes[1, q] * wr * c
                                by_index[d, 2] += wp * wq * slopes[2, r] * c
            for d in range(ndim):
                for b in range(ndim):
                    total = 0.0
                    for a in range(ndim):
                        total += by_index[d, lead + a] * world_to_index[a, b]
                    out[i, d, b] = total


@njit(cache=True, nogil=True)
def cubic_stencils(index, size):
    """First control indices (N,) and weights (N, 4) for continuous indices along one axis; -1 outside the domain."""
    first = np.empty(index.size, np.int64)
    weights = np.zeros((index.size, 4))
    slopes = np.empty(4)
    for i in range(index.size):
        first[i] = _cubic_stencil(index[i], size, weights[i], slopes)
    return first, weights


@kernel()
def spline_on_grid(coefficients, first0, weights0, first1, weights1, first2, weights2, out):
    """B-spline vectors on a grid parallel to the control grid, out (m0, m1, m2, D).

    Each line along the last axis first contracts the other two axes, so a voxel costs about 4 D products instead of 4^D D.
    """
    m0, m1, m2, ndim = out.shape
    taps0 = min(4, coefficients.shape[0])
    for line in prange(m0 * m1):
        i, j = line // m1, line % m1
        if first0[i] < 0 or first1[j] < 0:
            out[i, j] = 0.0
            continue
        contracted = np.zeros((coefficients.shape[2], ndim))
        for p in range(taps0):
            for q in range(4):
                w = weights0[i, p] * weights1[j, q]
                for k in range(coefficients.shape[2]):
                    for d in range(ndim):
                        contracted[k, d] += w * coefficients[first0[i] + p, first1[j] + q, k, d]
        for k in range(m2):
            start = first2[k]
            for d in range(ndim):
                total = 0.0
                if start >= 0:
                    for r in range(4):
                        total += weights2[k, r] * contracted[start + r, d]
                out[i, j, k, d] = total


@njit(cache=True, nogil=True, inline="always")
def _mirror(i, size):
    """Index reflected at the first and the last sample (whole-sample symmetry)."""
    if size == 1:
        return 0
    period = 2 * (size - 1)
    i = abs(i) % period
    return i if i < size else period - i


@njit(cache=True, nogil=True, inline="always")
def _inside(index, size):
    return index >= -0.5 - EDGE and index < size - 0.5 + EDGE


@njit(cache=True, nogil=True)
def _linear_one(values, x, y, z, c):
    """Channel c at a continuous index inside the voxels, constant over the outer half voxels.

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


@njit(cache=True, nogil=True, inline="always")
def _cubic_taps(index, size, weights, where):
    """Weights of the four samples around a continuous index, and their places after mirroring."""
    first = int(np.floor(index)) - 1
    _cubic_weights(index - first - 1, weights)
    for p in range(4):
        where[p] = first + p if first >= 0 and first + 3 < size else _mirror(first + p, size)


@njit(cache=True, nogil=True)
def _sample_one(values, x, y, z, taps, fill, weights, where, out):
    """Channels of `values` (n0, n1, n2, C) at a continuous index; `fill` outside the voxels."""
    n0, n1, n2, channels = values.shape
    if not (_inside(x, n0) and _inside(y, n1) and _inside(z, n2)):
        for c in range(channels):
            out[c] = fill
    elif taps == LINEAR:
        for c in range(channels):
            out[c] = _linear_one(values, x, y, z, c)
    else:
        layers = 1
        weights[0, 0] = 1.0
        where[0, 0] = 0
        if n0 > 1:
            layers = 4
            _cubic_taps(x, n0, weights[0], where[0])
        _cubic_taps(y, n1, weights[1], where[1])
        _cubic_taps(z, n2, weights[2], where[2])
        for c in range(channels):
            total = 0.0
            for p in range(layers):
                for q in range(4):
                    line = 0.0
                    for r in range(4):
                        line += weights[2, r] * values[where[0, p], where[1, q], where[2, r], c]
                    total += weights[0, p] * weights[1, q] * line
            out[c] = total


@kernel()
def sample_at(values, points, origin, world_to_index, taps, fill, out):
    """Channels at world points: values (n0, n1, n2, C), points (N, D), out (N, C)."""
    count, ndim = points.shape
    lead = 3 - ndim
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        weights = np.empty((3, 4))
        where = np.empty((3, 4), np.int64)
        index = np.zeros(3)
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            for a in range(ndim):
                total = 0.0
                for b in range(ndim):
                    total += world_to_index[a, b] * (points[i, b] - origin[b])
                index[lead + a] = total
            _sample_one(values, index[0], index[1], index[2], taps, fill, weights, where, out[i])


@njit(cache=True, nogil=True, inline="always")
def _nearest_one(values, x, y, z, fill, out):
    """Values of the nearest voxel; half-way points go up, as in ITK."""
    n0, n1, n2, channels = values.shape
    i, j, k = int(np.floor(x + (0.5 + EDGE))), int(np.floor(y + (0.5 + EDGE))), int(np.floor(z + (0.5 + EDGE)))
    # the last half voxel ends at n - 1/2, which belongs to it up to rounding
    i -= int(i == n0 and x < n0 - 0.5 + EDGE)
    j -= int(j == n1 and y < n1 - 0.5 + EDGE)
    k -= int(k == n2 and z < n2 - 0.5 + EDGE)
    if i >= 0 and i < n0 and j >= 0 and j < n1 and k >= 0 and k < n2:
        for c in range(channels):
            out[c] = values[i, j, k, c]
    else:
        for c in range(channels):
            out[c] = fill


@kernel()
def nearest_at(values, points, origin, world_to_index, fill, out):
    """Values of the nearest voxels at world points: as `sample_at`, for any type of value."""
    count, ndim = points.shape
    lead = 3 - ndim
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        index = np.zeros(3)
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            for a in range(ndim):
                total = 0.0
                for b in range(ndim):
                    total += world_to_index[a, b] * (points[i, b] - origin[b])
                index[lead + a] = total
            _nearest_one(values, index[0], index[1], index[2], fill, out[i])
