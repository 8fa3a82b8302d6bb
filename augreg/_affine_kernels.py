"""Numba kernels of interpolation for every voxel of a grid under an affine map: the index is linear along a line of voxels.

What lies inside the image is found once per line, so that the inner loops have no branches.
"""

import numpy as np
from numba import prange

from augreg._compile import kernel, njit
from augreg._kernels import CUBIC_MIRRORED, EDGE, _inside, _linear_one, _nearest_one, _sample_one

# lines handled together, and the length of their pieces
LINES = 16
PIECE = 256


@kernel()
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
def _inner_plane(flat, n2, y0, z0, dy, dz, first, rounded, precision, out):
    """A stretch of a line in a 2-D image of one channel; without branches it becomes vector instructions."""
    real = precision.dtype.type
    row = np.uint64(n2)
    for t in range(len(out)):
        y, z = y0 + dy * (first + t), z0 + dz * (first + t)
        b, d = np.int64(y), np.int64(z)
        v, w = real(y - b), real(z - d)
        # unsigned: negative indices would have to be wrapped around
        p = np.uint64(b * n2 + d)
        q = p + row
        right, far = p + np.uint64(1), q + np.uint64(1)
        value = _bilinear(real(flat[p]), real(flat[right]), real(flat[q]), real(flat[far]), v, w)
        out[t] = np.rint(value) if rounded else value


@njit(cache=True, nogil=True)
def _inner_volume(flat, n1, n2, x0, y0, z0, dx, dy, dz, first, rounded, precision, out):
    """The same in a volume."""
    real = precision.dtype.type
    row, layer = np.uint64(n2), np.uint64(n1 * n2)
    for t in range(len(out)):
        x, y, z = x0 + dx * (first + t), y0 + dy * (first + t), z0 + dz * (first + t)
        a, b, d = np.int64(x), np.int64(y), np.int64(z)
        u, v, w = real(x - a), real(y - b), real(z - d)
        p = np.uint64((a * n1 + b) * n2 + d)
        q = p + row
        right, far = p + np.uint64(1), q + np.uint64(1)
        value = _bilinear(real(flat[p]), real(flat[right]), real(flat[q]), real(flat[far]), v, w)
        p, q, right, far = p + layer, q + layer, right + layer, far + layer
        value += u * (_bilinear(real(flat[p]), real(flat[right]), real(flat[q]), real(flat[far]), v, w) - value)
        out[t] = np.rint(value) if rounded else value


@njit(cache=True, nogil=True, inline="always")
def _start(matrix, offset, i, j):
    """The index in the image of the first voxel of a line."""
    return (
        matrix[0, 0] * i + matrix[0, 1] * j + offset[0],
        matrix[1, 0] * i + matrix[1, 1] * j + offset[1],
        matrix[2, 0] * i + matrix[2, 1] * j + offset[2],
    )


@kernel()
def linear_affine(values, matrix, offset, fill, rounded, precision, out):
    """Linear interpolation at index matrix @ (i, j, k) + offset for every voxel of out (m0, m1, m2, C).

    On each line along the last axis the stretch whose neighbours all exist is found first; it needs no checks. Sums are formed
    in the type of `precision`, an array of one element: float32 is twice as fast where the values have no more digits.
    """
    m0, m1, m2, channels = out.shape
    n0, n1, n2, _ = values.shape
    flat = values.ravel()
    dx, dy, dz = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    lines = m0 * m1
    for block in prange((lines + LINES - 1) // LINES):
        begin, end = block * LINES, min(lines, (block + 1) * LINES)
        span = np.zeros((LINES, 2), np.int64)
        for line in range(begin, end):
            x0, y0, z0 = _start(matrix, offset, line // m1, line % m1)
            first, last = _span(y0, dy, 0.0, n1 - 1.0, 0, m2)
            first, last = _span(z0, dz, 0.0, n2 - 1.0, first, last)
            if n0 > 1:
                first, last = _span(x0, dx, 0.0, n0 - 1.0, first, last)
            span[line - begin] = first, max(first, last)
        # pieces of neighbouring lines read the same cache lines, whatever the direction of the lines in the image
        for k in range(0, m2, PIECE):
            for line in range(begin, end):
                i, j = line // m1, line % m1
                x0, y0, z0 = _start(matrix, offset, i, j)
                first, last = max(span[line - begin, 0], k), min(span[line - begin, 1], k + PIECE)
                if first < last and channels > 1:
                    _inner_colours(values, flat, x0, y0, z0, dx, dy, dz, first, rounded, precision, out[i, j, first:last])
                elif first < last:
                    part = out[i, j, first:last, 0]
                    if n0 == 1:
                        _inner_plane(flat, n2, y0, z0, dy, dz, first, rounded, precision, part)
                    else:
                        _inner_volume(flat, n1, n2, x0, y0, z0, dx, dy, dz, first, rounded, precision, part)
                    if not rounded:
                        # a neighbour of weight 0 may be NaN
                        for t in range(first, last):
                            if np.isnan(out[i, j, t, 0]):
                                out[i, j, t, 0] = _linear_one(values, x0 + dx * t, y0 + dy * t, z0 + dz * t, 0)
        for line in range(begin, end):
            i, j = line // m1, line % m1
            x0, y0, z0 = _start(matrix, offset, i, j)
            first, last = span[line - begin]
            for k in range(m2 - (last - first)):
                t = k if k < first else k + last - first
                x, y, z = x0 + dx * t, y0 + dy * t, z0 + dz * t
                inside = _inside(x, n0) and _inside(y, n1) and _inside(z, n2)
                for c in range(channels):
                    value = _linear_one(values, x, y, z, c) if inside else fill
                    out[i, j, t, c] = np.rint(value) if rounded else value


@njit(cache=True, nogil=True)
def _inner_colours(values, flat, x0, y0, z0, dx, dy, dz, start, rounded, precision, out):
    """A stretch of a line in a 2-D or 3-D image of several channels."""
    n0, n1, n2, channels = values.shape
    size1, size2, step = np.uint64(n1), np.uint64(n2), np.uint64(channels)
    row, layer = size2 * step, size1 * size2 * step
    real = precision.dtype.type
    zero = precision[0]
    for t in range(len(out)):
        x, y, z = x0 + dx * (start + t), y0 + dy * (start + t), z0 + dz * (start + t)
        # unsigned: negative indices would have to be wrapped around
        a, b, d = np.uint64(x), np.uint64(y), np.uint64(z)
        u, v, w = real(x - a), real(y - b), real(z - d)
        corner = ((a * size1 + b) * size2 + d) * step
        for c in range(channels):
            p = corner + np.uint64(c)
            q = p + row
            value = _bilinear(zero + flat[p], zero + flat[p + step], zero + flat[q], zero + flat[q + step], v, w)
            if n0 > 1:
                p += layer
                q += layer
                next_value = _bilinear(zero + flat[p], zero + flat[p + step], zero + flat[q], zero + flat[q + step], v, w)
                value += u * (next_value - value)
            if np.isnan(value):
                value = _linear_one(values, x, y, z, c)
            out[t, c] = np.rint(value) if rounded else value


@njit(cache=True, nogil=True)
def _nearest_stretch(flat, n1, n2, x0, y0, z0, dx, dy, dz, first, out):
    """A stretch of a line inside an image of one channel; the coordinates are shifted so that truncation rounds."""
    for t in range(len(out)):
        k = first + t
        a, b, d = np.int64(x0 + dx * k), np.int64(y0 + dy * k), np.int64(z0 + dz * k)
        out[t] = flat[np.uint64((a * n1 + b) * n2 + d)]


@njit(cache=True, nogil=True)
def _nearest_flat_stretch(flat, n2, y0, z0, dy, dz, first, out):
    """The same in 2-D."""
    for t in range(len(out)):
        k = first + t
        out[t] = flat[np.uint64(np.int64(y0 + dy * k) * n2 + np.int64(z0 + dz * k))]


@kernel()
def nearest_affine(values, matrix, offset, fill, out):
    """Values of the nearest voxels for index matrix @ (i, j, k) + offset: as `linear_affine`, for any type of value."""
    m0, m1, m2, channels = out.shape
    n0, n1, n2, _ = values.shape
    flat = values.ravel()
    dx, dy, dz = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    shift = 0.5 + EDGE
    lines = m0 * m1
    for block in prange((lines + LINES - 1) // LINES):
        begin, end = block * LINES, min(lines, (block + 1) * LINES)
        span = np.zeros((LINES, 2), np.int64)
        for line in range(begin, end):
            x0, y0, z0 = _start(matrix, offset, line // m1, line % m1)
            first, last = _span(x0, dx, -0.5, n0 - 0.5, 0, m2)
            first, last = _span(y0, dy, -0.5, n1 - 0.5, first, last)
            first, last = _span(z0, dz, -0.5, n2 - 0.5, first, last)
            span[line - begin] = first, max(first, last)
        for k in range(0, m2, PIECE):
            for line in range(begin, end):
                i, j = line // m1, line % m1
                x0, y0, z0 = _start(matrix, offset, i, j)
                x0, y0, z0 = x0 + shift, y0 + shift, z0 + shift
                first, last = max(span[line - begin, 0], k), min(span[line - begin, 1], k + PIECE)
                if first < last and channels == 1 and n0 == 1:
                    _nearest_flat_stretch(flat, n2, y0, z0, dy, dz, first, out[i, j, first:last, 0])
                elif first < last and channels == 1:
                    _nearest_stretch(flat, n1, n2, x0, y0, z0, dx, dy, dz, first, out[i, j, first:last, 0])
                else:
                    for t in range(first, last):
                        a, b, d = int(x0 + dx * t), int(y0 + dy * t), int(z0 + dz * t)
                        for c in range(channels):
                            out[i, j, t, c] = values[a, b, d, c]
        for line in range(begin, end):
            i, j = line // m1, line % m1
            x0, y0, z0 = _start(matrix, offset, i, j)
            first, last = span[line - begin]
            for k in range(m2 - (last - first)):
                t = k if k < first else k + last - first
                _nearest_one(values, x0 + dx * t, y0 + dy * t, z0 + dz * t, fill, out[i, j, t])
