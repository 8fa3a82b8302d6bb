"""Numba kernels of interpolation for every voxel of a grid under an affine map: the index is linear along a line of voxels.

What lies inside the image is found once per line, so that the inner loops have no branches.
"""

import numpy as np
from numba import njit, prange

from augreg._kernels import CUBIC_MIRRORED, EDGE, _inside, _linear_one, _nearest_one, _sample_one


@njit(cache=True, parallel=True, nogil=True)
def cubic_affine(values, matrix, offset, fill, out):
    """Cubic interpolation at index matrix @ (i, j, k) + offset for every voxel of out (m0, m1, m2, C)."""
    m0, m1, m2, _ = out.shape
    for i in prange(m0):
        weights = np.empty((3, 4))
        where = np.empty((3, 4), np.int64)
        for j in range(m1):
            x = matrix[0, 0] * i + matrix[0, 1] * j + offset[0]
            y = matrix[1, 0] * i + matrix[1, 1] * j + offset[1]
            z = matrix[2, 0] * i + matrix[2, 1] * j + offset[2]
            for k in range(m2):
                a, b, c = x + matrix[0, 2] * k, y + matrix[1, 2] * k, z + matrix[2, 2] * k
                _sample_one(values, a, b, c, CUBIC_MIRRORED, fill, weights, where, out[i, j, k])


@njit(cache=True, nogil=True, inline="always")
def _span(start, step, low, high, first, last):
    """The steps t in [first, last) with low < start + step t < high, as a smaller half-open interval."""
    if abs(step) < 1e-12:
        return (first, last) if low < start < high else (first, first)
    a, b = (low - start) / step, (high - start) / step
    if a > b:
        a, b = b, a
    # one step less on both sides: rounding must not leave the interval
    first = max(first, int(np.floor(min(max(a, first - 2.0), last + 2.0))) + 2)
    last = min(last, int(np.ceil(max(min(b, last + 2.0), first - 2.0))) - 1)
    return (first, last) if first < last else (0, 0)


@njit(cache=True, nogil=True, inline="always")
def _bilinear(near, right, below, far, u, v):
    near = near + v * (right - near)
    below = below + v * (far - below)
    return near + u * (below - near)


@njit(cache=True, nogil=True)
def _inner_plane(flat, n2, y0, z0, dy, dz, rounded, precision, out):
    """A stretch of a line in a 2-D image of one channel; without branches it becomes vector instructions."""
    real = precision.dtype.type
    row = np.uint64(n2)
    for t in range(len(out)):
        y, z = y0 + dy * t, z0 + dz * t
        b, d = np.int64(y), np.int64(z)
        v, w = real(y - b), real(z - d)
        # unsigned: negative indices would have to be wrapped around
        p = np.uint64(b * n2 + d)
        q = p + row
        right, far = p + np.uint64(1), q + np.uint64(1)
        value = _bilinear(real(flat[p]), real(flat[right]), real(flat[q]), real(flat[far]), v, w)
        out[t] = np.rint(value) if rounded else value


@njit(cache=True, nogil=True)
def _inner_volume(flat, n1, n2, x0, y0, z0, dx, dy, dz, rounded, precision, out):
    """The same in a volume."""
    real = precision.dtype.type
    row, layer = np.uint64(n2), np.uint64(n1 * n2)
    for t in range(len(out)):
        x, y, z = x0 + dx * t, y0 + dy * t, z0 + dz * t
        a, b, d = np.int64(x), np.int64(y), np.int64(z)
        u, v, w = real(x - a), real(y - b), real(z - d)
        p = np.uint64((a * n1 + b) * n2 + d)
        q = p + row
        right, far = p + np.uint64(1), q + np.uint64(1)
        value = _bilinear(real(flat[p]), real(flat[right]), real(flat[q]), real(flat[far]), v, w)
        p, q, right, far = p + layer, q + layer, right + layer, far + layer
        value += u * (_bilinear(real(flat[p]), real(flat[right]), real(flat[q]), real(flat[far]), v, w) - value)
        out[t] = np.rint(value) if rounded else value


@njit(cache=True, parallel=True, nogil=True)
def linear_affine(values, matrix, offset, fill, rounded, precision, out):
    """Linear interpolation at index matrix @ (i, j, k) + offset for every voxel of out (m0, m1, m2, C).

    On each line along the last axis the stretch whose neighbours all exist is found first; it needs no checks. Sums are formed
    in the type of `precision`, an array of one element: float32 is twice as fast where the values have no more digits.
    """
    m0, m1, m2, channels = out.shape
    n0, n1, n2, _ = values.shape
    flat = values.ravel()
    size1, size2, step = np.uint64(n1), np.uint64(n2), np.uint64(channels)
    row, layer = size2 * step, size1 * size2 * step
    dx, dy, dz = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    for line in prange(m0 * m1):
        i, j = line // m1, line % m1
        weights = np.empty(3, precision.dtype)
        zero = precision[0]
        x0 = matrix[0, 0] * i + matrix[0, 1] * j + offset[0]
        y0 = matrix[1, 0] * i + matrix[1, 1] * j + offset[1]
        z0 = matrix[2, 0] * i + matrix[2, 1] * j + offset[2]
        first, last = _span(y0, dy, 0.0, n1 - 1.0, 0, m2)
        first, last = _span(z0, dz, 0.0, n2 - 1.0, first, last)
        if n0 > 1:
            first, last = _span(x0, dx, 0.0, n0 - 1.0, first, last)
        alone = channels == 1 and last > first
        if alone:
            part = out[i, j, first:last, 0]
            y, z = y0 + dy * first, z0 + dz * first
            if n0 == 1:
                _inner_plane(flat, n2, y, z, dy, dz, rounded, precision, part)
            else:
                _inner_volume(flat, n1, n2, x0 + dx * first, y, z, dx, dy, dz, rounded, precision, part)
            if not rounded:
                # a neighbour of weight 0 may be NaN
                for t in range(first, last):
                    if np.isnan(out[i, j, t, 0]):
                        out[i, j, t, 0] = _linear_one(values, x0 + dx * t, y0 + dy * t, z0 + dz * t, 0)
        for k in range(m2):
            if k == first and last > first and not alone:
                for t in range(first, last):
                    x, y, z = x0 + dx * t, y0 + dy * t, z0 + dz * t
                    # unsigned: negative indices would have to be wrapped around
                    a, b, d = np.uint64(x), np.uint64(y), np.uint64(z)
                    weights[0], weights[1], weights[2] = x - a, y - b, z - d
                    u, v, w = weights[0], weights[1], weights[2]
                    corner = ((a * size1 + b) * size2 + d) * step
                    for c in range(channels):
                        p = corner + np.uint64(c)
                        q = p + row
                        value = _bilinear(zero + flat[p], zero + flat[p + step], zero + flat[q], zero + flat[q + step], v, w)
                        if n0 > 1:
                            p += layer
                            q += layer
                            next_value = _bilinear(
                                zero + flat[p], zero + flat[p + step], zero + flat[q], zero + flat[q + step], v, w
                            )
                            value += u * (next_value - value)
                        if np.isnan(value):
                            value = _linear_one(values, x, y, z, c)
                        out[i, j, t, c] = np.rint(value) if rounded else value
            if k < first or k >= last:
                x, y, z = x0 + dx * k, y0 + dy * k, z0 + dz * k
                inside = _inside(x, n0) and _inside(y, n1) and _inside(z, n2)
                for c in range(channels):
                    value = _linear_one(values, x, y, z, c) if inside else fill
                    out[i, j, k, c] = np.rint(value) if rounded else value


@njit(cache=True, parallel=True, nogil=True)
def nearest_affine(values, matrix, offset, fill, out):
    """Values of the nearest voxels for index matrix @ (i, j, k) + offset: as `linear_affine`, for any type of value."""
    m0, m1, m2, channels = out.shape
    n0, n1, n2, _ = values.shape
    dx, dy, dz = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    for line in prange(m0 * m1):
        i, j = line // m1, line % m1
        x0 = matrix[0, 0] * i + matrix[0, 1] * j + offset[0]
        y0 = matrix[1, 0] * i + matrix[1, 1] * j + offset[1]
        z0 = matrix[2, 0] * i + matrix[2, 1] * j + offset[2]
        first, last = _span(x0, dx, -0.5, n0 - 0.5, 0, m2)
        first, last = _span(y0, dy, -0.5, n1 - 0.5, first, last)
        first, last = _span(z0, dz, -0.5, n2 - 0.5, first, last)
        for k in range(first):
            _nearest_one(values, x0 + dx * k, y0 + dy * k, z0 + dz * k, fill, out[i, j, k])
        for k in range(first, last):
            # positive after the shift: truncation is floor
            a, b, d = int(x0 + dx * k + (0.5 + EDGE)), int(y0 + dy * k + (0.5 + EDGE)), int(z0 + dz * k + (0.5 + EDGE))
            for c in range(channels):
                out[i, j, k, c] = values[a, b, d, c]
        for k in range(last, m2):
            _nearest_one(values, x0 + dx * k, y0 + dy * k, z0 + dz * k, fill, out[i, j, k])
