"""Kernels of maps and their inverses, over pixels: many times faster than torch. Twins in `augreg.synthesis.render.tensors`.

A point is solved for in registers, starting from the displacements of its neighbours on the line, extrapolated by a cubic, so
that hardly more than one Newton step remains.

Coefficients are (B, n0, n1, 2) in 2-D and (B, 3, n0, n1, n2) in 3-D: these orders of axes, with taps written out in 2-D and loops
in 3-D, are what compiles to vector instructions. A dimension is compiled when it is first asked for: `c.ndim` is known by then.
"""

import numpy as np

from augreg.geometry.kernels.cubic import slopes, weights
from augreg.geometry.kernels.small import determinant, solved_2, solved_3
from solvers._compile import inlined, kernel

LINES = 8
# targets may miss the grid by rounding
EDGE = 1e-6
_SUMS = frozenset({"contract", "reassoc", "nsz"})


@inlined(fastmath=_SUMS)
def dot(w, a0, a1, a2, a3):
    return w[0] * a0 + w[1] * a1 + w[2] * a2 + w[3] * a3


@inlined(fastmath=_SUMS)
def across(c, i, j, d, w):
    """sum_p w_p c[i + p, j, d]."""
    return w[0] * c[i, j, d] + w[1] * c[i + 1, j, d] + w[2] * c[i + 2, j, d] + w[3] * c[i + 3, j, d]


@inlined(fastmath=_SUMS)
def _lines(c, i, j, d, w):
    """`across` at j .. j + 3."""
    return across(c, i, j, d, w), across(c, i, j + 1, d, w), across(c, i, j + 2, d, w), across(c, i, j + 3, d, w)


@inlined
def knot(x, start, step, size):
    """The first of the four coefficients around x, -1 outside [1, size - 2], and the offset from the second."""
    t = start + step * x
    if not (t >= 1.0 and t <= size - 2.0):
        return -1, 0.0
    i = min(np.int64(t), size - 3) - 1
    return i, t - i - 1.0


@inlined(fastmath=_SUMS)
def _field(c, start, step, x, u, J, rows):
    """u (D,) and its derivatives J (D D,) at a point x (D,); buffers rows (3, 4). Both 0 outside."""
    for d in range(x.size):
        u[d] = 0.0
    for d in range(J.size):
        J[d] = 0.0
    if c.ndim == 3:
        i, s = knot(x[0], start[0], step[0], c.shape[0])
        j, t = knot(x[1], start[1], step[1], c.shape[1])
        if i >= 0 and j >= 0:
            along, by = weights(t), slopes(t)
            for d in range(2):
                a, b = _lines(c, i, j, d, weights(s)), _lines(c, i, j, d, slopes(s))
                u[d] = dot(along, a[0], a[1], a[2], a[3])
                J[2 * d] = step[0] * dot(along, b[0], b[1], b[2], b[3])
                J[2 * d + 1] = step[1] * dot(by, a[0], a[1], a[2], a[3])
    else:
        k, s = knot(x[0], start[0], step[0], c.shape[1])
        i, t = knot(x[1], start[1], step[1], c.shape[2])
        j, v = knot(x[2], start[2], step[2], c.shape[3])
        if k >= 0 and i >= 0 and j >= 0:
            p, q, w, r, along, by = weights(s), slopes(s), weights(t), slopes(t), weights(v), slopes(v)
            A, B, E = rows[0], rows[1], rows[2]
            for d in range(3):
                for b in range(4):
                    A[b] = 0.0
                    B[b] = 0.0
                    E[b] = 0.0
                for a in range(4):
                    for b in range(4):
                        c0, c1 = c[d, k, i + a, j + b], c[d, k + 1, i + a, j + b]
                        c2, c3 = c[d, k + 2, i + a, j + b], c[d, k + 3, i + a, j + b]
                        m = dot(p, c0, c1, c2, c3)
                        A[b] += w[a] * m
                        B[b] += w[a] * dot(q, c0, c1, c2, c3)
                        E[b] += r[a] * m
                u[d] = dot(along, A[0], A[1], A[2], A[3])
                J[3 * d] = step[0] * dot(along, B[0], B[1], B[2], B[3])
                J[3 * d + 1] = step[1] * dot(along, E[0], E[1], E[2], E[3])
                J[3 * d + 2] = step[2] * dot(by, A[0], A[1], A[2], A[3])


@inlined(fastmath=_SUMS)
def value(c, start, step, x, u, rows):
    """u (D,) alone, see `_field`."""
    for d in range(x.size):
        u[d] = 0.0
    if c.ndim == 3:
        i, s = knot(x[0], start[0], step[0], c.shape[0])
        j, t = knot(x[1], start[1], step[1], c.shape[1])
        if i >= 0 and j >= 0:
            at, along = weights(s), weights(t)
            for d in range(2):
                a = _lines(c, i, j, d, at)
                u[d] = dot(along, a[0], a[1], a[2], a[3])
    else:
        k, s = knot(x[0], start[0], step[0], c.shape[1])
        i, t = knot(x[1], start[1], step[1], c.shape[2])
        j, v = knot(x[2], start[2], step[2], c.shape[3])
        if k >= 0 and i >= 0 and j >= 0:
            p, w, along = weights(s), weights(t), weights(v)
            A = rows[0]
            for d in range(3):
                for b in range(4):
                    A[b] = 0.0
                for a in range(4):
                    for b in range(4):
                        c0, c1 = c[d, k, i + a, j + b], c[d, k + 1, i + a, j + b]
                        c2, c3 = c[d, k + 2, i + a, j + b], c[d, k + 3, i + a, j + b]
                        A[b] += w[a] * dot(p, c0, c1, c2, c3)
                u[d] = dot(along, A[0], A[1], A[2], A[3])


@inlined
def _newton(c, J, r, dx):
    """(I + J) dx = r; near a singular matrix dx is short of it. c tells the dimension."""
    if c.ndim == 3:
        a, d = 1.0 + J[0], 1.0 + J[3]
        det = a * d - J[1] * J[2]
        det = det if abs(det) >= 1e-3 else 1.0
        dx[0], dx[1] = solved_2(a, J[1], J[2], d, det, r[0], r[1])
    else:
        a, e, i = 1.0 + J[0], 1.0 + J[4], 1.0 + J[8]
        det = determinant(a, J[1], J[2], J[3], e, J[5], J[6], J[7], i)
        det = det if abs(det) >= 1e-3 else 1.0
        dx[0], dx[1], dx[2] = solved_3(a, J[1], J[2], J[3], e, J[5], J[6], J[7], i, det, r[0], r[1], r[2])


@kernel
def pull_at(begin, end, coefficients, start, step, affine, shape, tolerance, iterations, out, residual):
    """x (B, N, D) with x + u(x) = A y + t at all pixels y, by damped Newton; |A y + t - x - u(x)| before the last step, (B, N).

    The outermost index counts sets of LINES lines of pixels, image by image. affine (B, D, D + 1), shape (D,) of the pixels.
    """
    ndim, count = len(shape), out.shape[1]
    line = shape[ndim - 1]
    lines = count // line
    jobs = (lines + LINES - 1) // LINES
    buffer, rows = np.empty((10, ndim)), np.empty((3, 4))
    J = np.empty(ndim * ndim)
    u, z, trial, r, dx, first = buffer[0], buffer[1], buffer[2], buffer[3], buffer[4], buffer[5]
    # displacements x - z of the four points before, the last one first
    h = buffer[6:]
    for job in range(begin, end):
        b, top = job // jobs, (job % jobs) * LINES
        c, A = coefficients[b], affine[b]
        for d in range(ndim):
            first[d] = 0.0
            dx[d] = 0.0
        for row in range(top, min(top + LINES, lines)):
            for k in range(line):
                i = row * line + k
                x = out[b, i]
                for d in range(ndim):
                    if ndim == 3:
                        z[d] = A[d, 0] * (row // shape[1]) + A[d, 2] * k + A[d, 3] + A[d, 1] * (row % shape[1])
                    else:
                        z[d] = A[d, 0] * row + A[d, 1] * k + A[d, 2]
                    if k == 0:
                        guess = first[d]
                    elif k == 1:
                        guess = h[0, d]
                    elif k == 2:
                        guess = 2.0 * h[0, d] - h[1, d]
                    elif k == 3:
                        guess = 3.0 * (h[0, d] - h[1, d]) + h[2, d]
                    else:
                        guess = 4.0 * (h[0, d] + h[2, d]) - 6.0 * h[1, d] - h[3, d]
                    trial[d] = z[d] + guess
                best = np.inf
                for _ in range(iterations):
                    _field(c, start, step, trial, u, J, rows)
                    error = 0.0
                    for d in range(ndim):
                        r[d] = z[d] - trial[d] - u[d]
                        error += r[d] * r[d]
                    error = np.sqrt(error)
                    if error < best:
                        best = error
                        _newton(c, J, r, dx)
                        for d in range(ndim):
                            x[d] = trial[d] + (dx[d] if error <= tolerance else 0.0)
                        if error <= tolerance:
                            break
                    else:
                        for d in range(ndim):
                            dx[d] *= 0.5
                    for d in range(ndim):
                        trial[d] = x[d] + dx[d]
                residual[b, i] = best
                for d in range(ndim):
                    h[3, d], h[2, d], h[1, d] = h[2, d], h[1, d], h[0, d]
                    h[0, d] = x[d] - z[d]
                    if k == 0:
                        first[d] = h[0, d]


@kernel
def move_at(begin, end, coefficients, start, step, affine, points, out):
    """A (x + u(x)) + t at points x (B, N, D), out alike. The outermost index counts points, image by image."""
    count, ndim = points.shape[1], points.shape[2]
    u, rows = np.empty(ndim), np.empty((3, 4))
    for b in range(begin // count, -(-end // count)):
        c, A = coefficients[b], affine[b]
        for i in range(max(begin - b * count, 0), min(end - b * count, count)):
            x = points[b, i]
            value(c, start, step, x, u, rows)
            for d in range(ndim):
                total = A[d, ndim]
                for a in range(ndim):
                    total += A[d, a] * (x[a] + u[a])
                out[b, i, d] = total


@kernel
def ends_at(begin, end, points, shape, flow, inside):
    """What takes all pixels y to points (B, N, D): flow (B, D, N) float32; whether it ends inside, (B, N).

    The outermost index counts lines of pixels, image by image.
    """
    ndim, count = len(shape), points.shape[1]
    line = shape[ndim - 1]
    lines = count // line
    y = np.empty(ndim)
    for job in range(begin, end):
        b, row = job // lines, job % lines
        y[0] = row
        if ndim == 3:
            y[0], y[1] = row // shape[1], row % shape[1]
        for k in range(line):
            i = row * line + k
            y[ndim - 1] = k
            within = True
            for d in range(ndim):
                t = points[b, i, d]
                within &= -EDGE <= t <= shape[d] - 1 + EDGE
                flow[b, d, i] = t - y[d]
            inside[b, i] = within


@kernel
def exponential_at(begin, end, coefficients, start, step, points, sign, steps, out):
    """exp(sign * v) at points (B N, D), by the classical Runge-Kutta method; out (B N, D)."""
    ndim = points.shape[1]
    count = points.shape[0] // coefficients.shape[0]
    h = sign / steps
    buffers, rows = np.empty((5, ndim)), np.empty((3, 4))
    k1, k2, k3, k4, y = buffers[0], buffers[1], buffers[2], buffers[3], buffers[4]
    for i in range(begin, end):
        c, x = coefficients[i // count], out[i]
        for d in range(ndim):
            x[d] = points[i, d]
        for _ in range(steps):
            value(c, start, step, x, k1, rows)
            for d in range(ndim):
                y[d] = x[d] + 0.5 * h * k1[d]
            value(c, start, step, y, k2, rows)
            for d in range(ndim):
                y[d] = x[d] + 0.5 * h * k2[d]
            value(c, start, step, y, k3, rows)
            for d in range(ndim):
                y[d] = x[d] + h * k3[d]
            value(c, start, step, y, k4, rows)
            for d in range(ndim):
                x[d] += h / 6.0 * (k1[d] + 2.0 * (k2[d] + k3[d]) + k4[d])
