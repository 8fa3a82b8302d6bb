"""Kernels of interpolation for every voxel of a grid under an affine map: the index is linear along a line of voxels,

    (x, y, z) = M (i, j, k) + offset,      M (3, 3); the first axis has length one in 2-D.

What lies inside the image is found once per line, so that the inner loops have no branches.
"""

import numpy as np

from augreg.geometry.kernels.sampling import EDGE, cubic, inside, linear, nearest, taps
from solvers._compile import inlined, kernel

# lines handled together, and the length of their pieces
LINES = 16
PIECE = 256


@inlined
def _start(matrix, offset, a, i, j):
    """The index along axis a of the first voxel of a line."""
    return matrix[a, 0] * i + matrix[a, 1] * j + offset[a]


@inlined
def _first(start, step, low, high, first, last):
    """The first step t in [first, last) with low < start + step t < high; `last` where there is none, up to rounding.

    One step more than need be: rounding must not leave the interval.
    """
    if abs(step) < 1e-12:
        return first if low < start < high else last
    a = (low - start) / step if step > 0.0 else (high - start) / step
    return first if a < first - 2.0 else last if a > last else max(first, int(np.floor(a)) + 2)


@inlined
def _last(start, step, low, high, first, last):
    """The end of these steps, likewise."""
    if abs(step) < 1e-12:
        return last if low < start < high else first
    b = (high - start) / step if step > 0.0 else (low - start) / step
    return last if b > last + 2.0 else first if b < first else min(last, int(np.ceil(b)) - 1)


@inlined
def _bilinear(near, right, below, far, u, v):
    near = near + v * (right - near)
    below = below + v * (far - below)
    return near + u * (below - near)


@inlined
def _plane(flat, n2, y0, z0, dy, dz, first, out):
    """A stretch of a line in a 2-D image; without branches it becomes vector instructions."""
    real = flat.dtype.type
    # unsigned: negative indices would have to be wrapped around
    row = np.uint64(n2)
    for t in range(len(out)):
        y, z = y0 + dy * (first + t), z0 + dz * (first + t)
        b, d = np.int64(y), np.int64(z)
        v, w = real(y - b), real(z - d)
        p = np.uint64(b * n2 + d)
        q = p + row
        out[t] = _bilinear(flat[p], flat[p + np.uint64(1)], flat[q], flat[q + np.uint64(1)], v, w)


@inlined
def _volume(flat, n1, n2, x0, y0, z0, dx, dy, dz, first, out):
    """The same in a volume."""
    real = flat.dtype.type
    row, layer = np.uint64(n2), np.uint64(n1 * n2)
    for t in range(len(out)):
        x, y, z = x0 + dx * (first + t), y0 + dy * (first + t), z0 + dz * (first + t)
        a, b, d = np.int64(x), np.int64(y), np.int64(z)
        u, v, w = real(x - a), real(y - b), real(z - d)
        p = np.uint64((a * n1 + b) * n2 + d)
        q = p + row
        value = _bilinear(flat[p], flat[p + np.uint64(1)], flat[q], flat[q + np.uint64(1)], v, w)
        p, q = p + layer, q + layer
        out[t] = value + u * (_bilinear(flat[p], flat[p + np.uint64(1)], flat[q], flat[q + np.uint64(1)], v, w) - value)


@kernel
def linear_lines(begin, end, values, flat, matrix, offset, fill, out):
    """Linear interpolation of values (n0, n1, n2, 1), which are `flat` too, for every voxel of out (m0, m1, m2), in lines.

    On each line along the last axis the stretch whose neighbours all exist is found first; it needs no checks. Pieces of
    neighbouring lines read the same cache lines, whatever their direction in the image.
    """
    _, m1, m2 = out.shape
    n0, n1, n2, _ = values.shape
    dx, dy, dz = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    span = np.empty((LINES, 2), np.int64)
    for block in range(begin, end, LINES):
        until = min(end, block + LINES)
        for line in range(block, until):
            i, j = line // m1, line % m1
            y0, z0 = _start(matrix, offset, 1, i, j), _start(matrix, offset, 2, i, j)
            first, last = _first(y0, dy, 0.0, n1 - 1.0, 0, m2), _last(y0, dy, 0.0, n1 - 1.0, 0, m2)
            first, last = max(first, _first(z0, dz, 0.0, n2 - 1.0, 0, m2)), min(last, _last(z0, dz, 0.0, n2 - 1.0, 0, m2))
            if n0 > 1:
                x0 = _start(matrix, offset, 0, i, j)
                first, last = max(first, _first(x0, dx, 0.0, n0 - 1.0, 0, m2)), min(last, _last(x0, dx, 0.0, n0 - 1.0, 0, m2))
            span[line - block, 0] = first
            span[line - block, 1] = max(first, last)
        for k in range(0, m2, PIECE):
            for line in range(block, until):
                i, j = line // m1, line % m1
                first, last = max(span[line - block, 0], k), min(span[line - block, 1], k + PIECE)
                if first < last:
                    x0, y0, z0 = _start(matrix, offset, 0, i, j), _start(matrix, offset, 1, i, j), _start(matrix, offset, 2, i, j)
                    if n0 == 1:
                        _plane(flat, n2, y0, z0, dy, dz, first, out[i, j, first:last])
                    else:
                        _volume(flat, n1, n2, x0, y0, z0, dx, dy, dz, first, out[i, j, first:last])
        for line in range(block, until):
            i, j = line // m1, line % m1
            x0, y0, z0 = _start(matrix, offset, 0, i, j), _start(matrix, offset, 1, i, j), _start(matrix, offset, 2, i, j)
            first, last = span[line - block, 0], span[line - block, 1]
            row, doubtful = out[i, j], 0
            for t in range(first, last):
                doubtful += int(row[t] != row[t])
            for t in range(m2):
                if doubtful == 0 and t >= first and t < last:
                    continue
                # a neighbour of weight 0 may be NaN
                x, y, z = x0 + dx * t, y0 + dy * t, z0 + dz * t
                within = inside(x, n0) and inside(y, n1) and inside(z, n2)
                row[t] = linear(values, x, y, z, 0) if within else fill


@kernel
def cubic_lines(begin, end, values, shape, matrix, offset, fill, out):
    """Cubic interpolation of coefficients, flat, of shape (n0, n1, n2, 1), for every voxel of out (m0, m1, m2), in lines."""
    _, m1, m2 = out.shape
    n0, n1, n2, _ = shape
    layers = 4 if n0 > 1 else 1
    weight, where = np.empty(12), np.empty(12, np.int64)
    weight[0], where[0] = 1.0, 0
    for line in range(begin, end):
        i, j = line // m1, line % m1
        for k in range(m2):
            x = _start(matrix, offset, 0, i, j) + matrix[0, 2] * k
            y = _start(matrix, offset, 1, i, j) + matrix[1, 2] * k
            z = _start(matrix, offset, 2, i, j) + matrix[2, 2] * k
            out[i, j, k] = fill
            if inside(x, n0) and inside(y, n1) and inside(z, n2):
                taps(x, y, z, shape, weight, where)
                out[i, j, k] = cubic(values, 0, layers, weight, where)


@kernel
def nearest_lines(begin, end, sizes, matrix, offset, out):
    """Flat numbers of the nearest voxels of a raster of sizes (3,) for every voxel of out (m0, m1, m2), in lines; -1 outside."""
    _, m1, m2 = out.shape
    n0, n1, n2 = sizes[0], sizes[1], sizes[2]
    dx, dy, dz = matrix[0, 2], matrix[1, 2], matrix[2, 2]
    shift = 0.5 + EDGE
    for line in range(begin, end):
        i, j = line // m1, line % m1
        x0, y0, z0 = _start(matrix, offset, 0, i, j), _start(matrix, offset, 1, i, j), _start(matrix, offset, 2, i, j)
        first, last = _first(x0, dx, -0.5, n0 - 0.5, 0, m2), _last(x0, dx, -0.5, n0 - 0.5, 0, m2)
        first, last = max(first, _first(y0, dy, -0.5, n1 - 0.5, 0, m2)), min(last, _last(y0, dy, -0.5, n1 - 0.5, 0, m2))
        first, last = max(first, _first(z0, dz, -0.5, n2 - 0.5, 0, m2)), min(last, _last(z0, dz, -0.5, n2 - 0.5, 0, m2))
        last = max(first, last)
        row = out[i, j]
        for t in range(m2):
            if t < first or t >= last:
                a, b, c = nearest(x0 + dx * t, n0), nearest(y0 + dy * t, n1), nearest(z0 + dz * t, n2)
                within = a >= 0 and a < n0 and b >= 0 and b < n1 and c >= 0 and c < n2
                row[t] = (a * n1 + b) * n2 + c if within else -1
        x0, y0, z0 = x0 + shift, y0 + shift, z0 + shift
        part = row[first:last]
        # truncation rounds, since the coordinates are shifted
        for t in range(len(part)):
            k = first + t
            a, b, c = np.int32(x0 + dx * k), np.int32(y0 + dy * k), np.int32(z0 + dz * k)
            part[t] = (np.int64(a) * n1 + np.int64(b)) * n2 + np.int64(c)
