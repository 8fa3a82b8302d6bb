"""Kernels over points: affine maps, B-splines, values and vectors of rasters. Points are (N, D) mm, D = 2 or 3."""

import numpy as np

from augreg.geometry.kernels.cubic import first_knot, slopes, weights
from augreg.geometry.kernels.sampling import EDGE, cubic, inside, linear, nearest, taps
from solvers._compile import inlined, kernel

LINEAR = 2
CUBIC = 4
# products and sums in one instruction
CONTRACTED = frozenset({"contract"})


@kernel
def grid_points(begin, end, origin, index_to_world, out):
    """World points of a grid, out (n0, n1, n2, D) with n0 = 1 in 2-D, in lines along the last axis."""
    _, n1, n2, ndim = out.shape
    for line in range(begin, end):
        i, j = line // n1, line % n1
        for d in range(ndim):
            start = origin[d] + index_to_world[d, ndim - 2] * j
            if ndim == 3:
                start += index_to_world[d, 0] * i
            step = index_to_world[d, ndim - 1]
            for k in range(n2):
                out[i, j, k, d] = start + step * k


@kernel
def affine_at(begin, end, points, matrix, translation, out):
    """A x + t."""
    if points.shape[1] == 2:
        for i in range(begin, end):
            x, y = points[i, 0], points[i, 1]
            for d in range(2):
                out[i, d] = matrix[d, 0] * x + matrix[d, 1] * y + translation[d]
    else:
        for i in range(begin, end):
            x, y, z = points[i, 0], points[i, 1], points[i, 2]
            for d in range(3):
                out[i, d] = matrix[d, 0] * x + matrix[d, 1] * y + matrix[d, 2] * z + translation[d]


@inlined
def _frame(origin, world_to_index):
    """World to index for three axes, row by row, and the origin; in 2-D the first axis and the third coordinate count nothing."""
    W, o = world_to_index, origin
    if len(o) == 2:
        return 0.0, 0.0, 0.0, W[0, 0], W[0, 1], 0.0, W[1, 0], W[1, 1], 0.0, o[0], o[1], 0.0
    return W[0, 0], W[0, 1], W[0, 2], W[1, 0], W[1, 1], W[1, 2], W[2, 0], W[2, 1], W[2, 2], o[0], o[1], o[2]


@inlined
def _index(points, i, frame):
    """The continuous index of a point, 0 along the first axis in 2-D."""
    a, b, c, d, e, f, g, h, k, o, p, q = frame
    x, y, z = points[i, 0] - o, points[i, 1] - p, points[i, points.shape[1] - 1] - q
    return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + k * z


@inlined
def _in_knots(index, size):
    """Whether an index lies in the domain [1, size - 2] of ITK's B-splines."""
    return index >= 1.0 - EDGE and index <= size - 2.0 + EDGE


@kernel(fastmath=CONTRACTED)
def spline_at(begin, end, points, origin, world_to_index, coefficients, out):
    """B-spline vectors, out (N, D); coefficients (n0, n1, n2, D). Zero outside the domain."""
    n0, n1, n2, ndim = coefficients.shape
    layers, last = 1 if ndim == 2 else 4, ndim - 1
    frame = _frame(origin, world_to_index)
    for i in range(begin, end):
        x, y, z = _index(points, i, frame)
        u0, u1, u2 = 0.0, 0.0, 0.0
        if _in_knots(y, n1) and _in_knots(z, n2) and (ndim == 2 or _in_knots(x, n0)):
            k0, k1, k2 = first_knot(x, n0) if ndim == 3 else 0, first_knot(y, n1), first_knot(z, n2)
            w0, w1, w2 = weights(x - k0 - 1.0), weights(y - k1 - 1.0), weights(z - k2 - 1.0)
            for p in range(layers):
                a = 1.0 if ndim == 2 else w0[0] if p == 0 else w0[1] if p == 1 else w0[2] if p == 2 else w0[3]
                for q in range(4):
                    b = a * (w1[0] if q == 0 else w1[1] if q == 1 else w1[2] if q == 2 else w1[3])
                    c = coefficients[k0 + p, k1 + q]
                    u0 += b * (w2[0] * c[k2, 0] + w2[1] * c[k2 + 1, 0] + w2[2] * c[k2 + 2, 0] + w2[3] * c[k2 + 3, 0])
                    u1 += b * (w2[0] * c[k2, 1] + w2[1] * c[k2 + 1, 1] + w2[2] * c[k2 + 2, 1] + w2[3] * c[k2 + 3, 1])
                    if ndim == 3:
                        u2 += b * (w2[0] * c[k2, 2] + w2[1] * c[k2 + 1, 2] + w2[2] * c[k2 + 2, 2] + w2[3] * c[k2 + 3, 2])
        out[i, last] = u2
        out[i, 0] = u0
        out[i, 1] = u1


@kernel
def displacement_gradient_at(begin, end, points, origin, world_to_index, coefficients, order, out):
    """World derivatives du_d/dx_b of interpolated vectors, out (N, D, D); order LINEAR or CUBIC. Zero outside the domain.

    Linear vectors are constant over the outer half voxels (as ITK).
    """
    ndim = points.shape[1]
    lead = 3 - ndim
    frame = _frame(origin, world_to_index)
    weight = np.ones((3, 4))
    slope = np.zeros((3, 4))
    first = np.zeros(3, np.int64)
    used = np.ones(3, np.int64)
    by_index = np.empty((3, 3))
    for i in range(begin, end):
        within = True
        x, y, z = _index(points, i, frame)
        for axis in range(lead, 3):
            index, size = x if axis == 0 else y if axis == 1 else z, coefficients.shape[axis]
            w, s = weight[axis], slope[axis]
            used[axis] = min(order, size)
            if order == CUBIC:
                within = within and _in_knots(index, size)
                start = first_knot(index, size) if within else 0
                t = index - start - 1.0
                w[0], w[1], w[2], w[3] = weights(t)
                s[0], s[1], s[2], s[3] = slopes(t)
            else:
                within = within and inside(index, size)
                start = min(max(int(np.floor(index)), 0), max(size - 2, 0)) if within else 0
                t = min(max(index - start, 0.0), 1.0)
                moves = 1.0 if size > 1 and index >= 0.0 and index <= size - 1.0 else 0.0
                w[0], w[1] = 1.0 - t, t
                s[0], s[1] = -moves, moves
            first[axis] = start
        for d in range(3):
            for b in range(3):
                by_index[d, b] = 0.0
        if within:
            for p in range(used[0]):
                for q in range(used[1]):
                    for r in range(used[2]):
                        w0, w1, w2 = weight[0, p], weight[1, q], weight[2, r]
                        for d in range(ndim):
                            c = coefficients[first[0] + p, first[1] + q, first[2] + r, d]
                            by_index[d, 0] += slope[0, p] * w1 * w2 * c
                            by_index[d, 1] += w0 * slope[1, q] * w2 * c
                            by_index[d, 2] += w0 * w1 * slope[2, r] * c
        for d in range(ndim):
            for b in range(ndim):
                total = 0.0
                for a in range(ndim):
                    total += by_index[d, lead + a] * world_to_index[a, b]
                out[i, d, b] = total


@kernel
def stencils(index, size, first, weight):
    """First control indices (N,) and weights (N, 4) at continuous indices along one axis; -1 outside the domain."""
    for i in range(len(index)):
        first[i] = -1
        if _in_knots(index[i], size):
            first[i] = first_knot(index[i], size)
        w = weight[i]
        w[0], w[1], w[2], w[3] = weights(index[i] - first[i] - 1.0)


@kernel
def spline_on_grid(begin, end, coefficients, first0, weights0, first1, weights1, first2, weights2, out):
    """B-spline vectors on a grid parallel to the control grid, out (m0, m1, m2, D), in lines along the last axis.

    Each line first contracts the other two axes, so a voxel costs about 4 D products instead of 4^D D.
    """
    _, m1, m2, ndim = out.shape
    taps0, knots = min(4, coefficients.shape[0]), coefficients.shape[2]
    contracted = np.empty((knots, ndim))
    for line in range(begin, end):
        i, j = line // m1, line % m1
        for k in range(knots):
            for d in range(ndim):
                contracted[k, d] = 0.0
        for p in range(taps0 if first0[i] >= 0 and first1[j] >= 0 else 0):
            for q in range(4):
                w = weights0[i, p] * weights1[j, q]
                for k in range(knots):
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


@kernel
def linear_at(begin, end, values, points, origin, world_to_index, fill, out):
    """Channels at points by linear interpolation: values (n0, n1, n2, C), out (N, C); fill (C,) outside the voxels."""
    n0, n1, n2, channels = values.shape
    frame = _frame(origin, world_to_index)
    for i in range(begin, end):
        x, y, z = _index(points, i, frame)
        if inside(x, n0) and inside(y, n1) and inside(z, n2):
            for c in range(channels):
                out[i, c] = linear(values, x, y, z, c)
        else:
            for c in range(channels):
                out[i, c] = fill[c]


@kernel
def cubic_at(begin, end, values, shape, points, origin, world_to_index, fill, out):
    """The same by cubic interpolation; values, flat and of `shape`, are the spline's coefficients, mirrored at the border."""
    n0, n1, n2, channels = shape
    layers = 4 if n0 > 1 else 1
    frame = _frame(origin, world_to_index)
    weight, where = np.empty(12), np.empty(12, np.int64)
    weight[0], where[0] = 1.0, 0
    for i in range(begin, end):
        x, y, z = _index(points, i, frame)
        if inside(x, n0) and inside(y, n1) and inside(z, n2):
            taps(x, y, z, shape, weight, where)
            for c in range(channels):
                out[i, c] = cubic(values, c, layers, weight, where)
        else:
            for c in range(channels):
                out[i, c] = fill[c]


@kernel
def nearest_at(begin, end, sizes, points, origin, world_to_index, out):
    """Flat numbers of the nearest voxels of a raster of sizes (3,), out (N,); -1 outside."""
    n0, n1, n2 = sizes[0], sizes[1], sizes[2]
    frame = _frame(origin, world_to_index)
    for i in range(begin, end):
        x, y, z = _index(points, i, frame)
        a, b, c = nearest(x, n0), nearest(y, n1), nearest(z, n2)
        within = a >= 0 and a < n0 and b >= 0 and b < n1 and c >= 0 and c < n2
        out[i] = (a * n1 + b) * n2 + c if within else -1


@kernel
def gathered(begin, end, values, places, fill, out):
    """values (N, C) at flat places, out (M, C); fill (C,) where a place is below 0. For any type of value."""
    for i in range(begin, end):
        place = places[i]
        for c in range(out.shape[1]):
            out[i, c] = values[place, c] if place >= 0 else fill[c]
