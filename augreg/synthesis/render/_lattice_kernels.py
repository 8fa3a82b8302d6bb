"""Kernels of splines on regular lattices: sums axis by axis, so that lines share their weights.

Orders of axes are those of `augreg.synthesis.render._map_kernels`; twins stand in `augreg.synthesis.render.tensors`.
"""

import numpy as np

from augreg.geometry.kernels.cubic import slopes, weights
from augreg.geometry.kernels.small import determinant
from augreg.synthesis.render._map_kernels import across, dot, knot
from solvers._compile import inlined, kernel


@inlined
def lattice_line(start, step, size, where, weight):
    """Places and weights of the four coefficients around all pixels of a line, where (n,), weight (4, n); 0 outside."""
    for k in range(len(where)):
        j, t = knot(k, start, step, size)
        where[k] = max(j, 0)
        w = weights(t)
        for p in range(4):
            weight[p, k] = w[p] if j >= 0 else 0.0


@inlined
def lattice_plane(c, A, start, step, shape, i, where, weight, rows, u, plane, out):
    """A (y + u(y)) + t at the pixels y of plane i (3-D) or line i (2-D), out (pixels, D).

    where, weight : of the last axis, see `lattice_line`
    rows, u, plane : buffers (D, coefficients of the last axis), (D, its pixels), (D, coefficients of the last two axes)
    """
    ndim = len(shape)
    line, last, middle = len(where), rows.shape[1], 1
    deep = c.shape[0] if c.ndim == 3 else c.shape[1]
    first, s = knot(i, start[0], step[0], deep)
    w = weights(s)
    if first < 0:
        w = (0.0, 0.0, 0.0, 0.0)
        first = 0
    if c.ndim == 3:
        for d in range(2):
            for m in range(last):
                rows[d, m] = across(c, first, m, d, w)
    else:
        middle = shape[1]
        for d in range(3):
            for q in range(plane.shape[1]):
                for m in range(last):
                    total = w[0] * c[d, first, q, m] + w[1] * c[d, first + 1, q, m]
                    plane[d, q, m] = total + w[2] * c[d, first + 2, q, m] + w[3] * c[d, first + 3, q, m]
    for j in range(middle):
        if ndim == 3:
            second, t = knot(j, start[1], step[1], plane.shape[1])
            v = weights(t)
            if second < 0:
                v = (0.0, 0.0, 0.0, 0.0)
                second = 0
            for d in range(3):
                for m in range(last):
                    total = v[0] * plane[d, second, m] + v[1] * plane[d, second + 1, m]
                    rows[d, m] = total + v[2] * plane[d, second + 2, m] + v[3] * plane[d, second + 3, m]
        for d in range(ndim):
            for k in range(line):
                m = where[k]
                total = weight[0, k] * rows[d, m] + weight[1, k] * rows[d, m + 1]
                u[d, k] = total + weight[2, k] * rows[d, m + 2] + weight[3, k] * rows[d, m + 3]
        at = j * line
        for k in range(line):
            x, y, z = i + u[0, k], k + u[ndim - 1, k], 0.0
            if ndim == 3:
                y, z = j + u[1, k], y
            for d in range(ndim):
                out[at + k, d] = (
                    A[d, 0] * x + A[d, 1] * y + A[d, 2] * z + A[d, ndim] if ndim == 3 else A[d, 0] * x + A[d, 1] * y + A[d, 2]
                )


@kernel
def spread_at(begin, end, coefficients, start, step, affine, shape, out):
    """A (y + u(y)) + t at all pixels y, out (B, N, D). The outermost index counts pixels of the first axis, image by image.

    The first axis is summed once for a plane (3-D) or a line (2-D) of coefficients, the others likewise; along the last axis the
    places and weights of pixels are the same on all lines.
    """
    ndim = len(shape)
    line, last, wide = shape[ndim - 1], coefficients.shape[2], 1
    if coefficients.ndim == 5:
        last, wide = coefficients.shape[4], coefficients.shape[3]
    pixels = out.shape[1] // shape[0]
    where, weight = np.empty(line, np.int64), np.empty((4, line))
    lattice_line(start[ndim - 1], step[ndim - 1], last, where, weight)
    rows, u, plane = np.zeros((ndim, last)), np.empty((ndim, line)), np.zeros((ndim, wide, last))
    for job in range(begin, end):
        b, i = job // shape[0], job % shape[0]
        here = out[b, i * pixels : (i + 1) * pixels]
        lattice_plane(coefficients[b], affine[b], start, step, shape, i, where, weight, rows, u, plane, here)


@kernel
def least_at(begin, end, coefficients, step, lattice, least):
    """The least det(I + Du) of splines u (B, ..) over a regular lattice of their domains, least (B, lattice[0]).

    The outermost index counts planes (3-D) or lines (2-D) of the lattice, map by map; lattice (D,) its numbers of points.
    """
    ndim = len(lattice)
    last, deep, wide, middle = coefficients.shape[2], coefficients.shape[1], 1, 1
    if coefficients.ndim == 5:
        deep, wide, last, middle = coefficients.shape[2], coefficients.shape[3], coefficients.shape[4], lattice[1]
    size = lattice[ndim - 1]
    where, weight = np.empty(size, np.int64), np.empty((8, size))
    for k in range(size):
        j, t = knot(1.0 + (last - 3.0) * k / (size - 1.0), 0.0, 1.0, last)
        where[k] = j
        weight[0, k], weight[1, k], weight[2, k], weight[3, k] = weights(t)
        weight[4, k], weight[5, k], weight[6, k], weight[7, k] = slopes(t)
    # sums over the first axis, of values and of slopes; and over the second
    planes, rows, J = np.zeros((2, 3, wide, last)), np.zeros((3, 3, last)), np.zeros((3, 3))
    for job in range(begin, end):
        b, i = job // lattice[0], job % lattice[0]
        c = coefficients[b]
        first, t = knot(1.0 + (deep - 3.0) * i / (lattice[0] - 1.0), 0.0, 1.0, deep)
        w, v = weights(t), slopes(t)
        lowest = np.inf
        if coefficients.ndim == 5:
            for d in range(3):
                for q in range(wide):
                    for m in range(last):
                        c0, c1, c2, c3 = c[d, first, q, m], c[d, first + 1, q, m], c[d, first + 2, q, m], c[d, first + 3, q, m]
                        planes[0, d, q, m] = dot(w, c0, c1, c2, c3)
                        planes[1, d, q, m] = step[0] * dot(v, c0, c1, c2, c3)
        else:
            for d in range(2):
                for m in range(last):
                    rows[0, d, m] = across(c, first, m, d, w)
                    rows[1, d, m] = step[0] * across(c, first, m, d, v)
        for h in range(middle):
            if ndim == 3:
                second, t = knot(1.0 + (wide - 3.0) * h / (middle - 1.0), 0.0, 1.0, wide)
                w, v = weights(t), slopes(t)
                for d in range(3):
                    for m in range(last):
                        p0, p1, p2 = planes[0, d, second, m], planes[0, d, second + 1, m], planes[0, d, second + 2, m]
                        p3 = planes[0, d, second + 3, m]
                        rows[0, d, m] = dot(w, p0, p1, p2, p3)
                        rows[2, d, m] = step[1] * dot(v, p0, p1, p2, p3)
                        p0, p1, p2 = planes[1, d, second, m], planes[1, d, second + 1, m], planes[1, d, second + 2, m]
                        rows[1, d, m] = dot(w, p0, p1, p2, planes[1, d, second + 3, m])
            for k in range(size):
                m = where[k]
                for d in range(ndim):
                    for a in range(ndim - 1):
                        total = weight[0, k] * rows[a + 1, d, m] + weight[1, k] * rows[a + 1, d, m + 1]
                        J[d, a] = total + weight[2, k] * rows[a + 1, d, m + 2] + weight[3, k] * rows[a + 1, d, m + 3]
                    total = weight[4, k] * rows[0, d, m] + weight[5, k] * rows[0, d, m + 1]
                    total += weight[6, k] * rows[0, d, m + 2] + weight[7, k] * rows[0, d, m + 3]
                    J[d, ndim - 1] = step[ndim - 1] * total
                if ndim == 2:
                    det = (1.0 + J[0, 0]) * (1.0 + J[1, 1]) - J[0, 1] * J[1, 0]
                else:
                    A, E, K = 1.0 + J[0, 0], 1.0 + J[1, 1], 1.0 + J[2, 2]
                    det = determinant(A, J[0, 1], J[0, 2], J[1, 0], E, J[1, 2], J[2, 0], J[2, 1], K)
                lowest = min(lowest, det)
        least[b, i] = lowest
