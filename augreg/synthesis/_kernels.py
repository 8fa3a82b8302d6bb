"""Numba kernels of the maps of `augreg.synthesis.spline` on the CPU, parallel over points: many times faster than torch.

A point is solved for in registers, starting from the displacements of its neighbours on the line, extrapolated by a cubic, so
that hardly more than one Newton step remains.
"""

import numpy as np
from numba import get_num_threads, prange, set_num_threads

from augreg._compile import kernel, njit

CHUNK = 1024
LINES = 8
# targets may miss the grid by rounding
EDGE = 1e-6


def threads():
    """Number of threads of all kernels."""
    return get_num_threads()


def set_threads(count):
    """Set that number."""
    set_num_threads(count)


@njit(cache=True, nogil=True, inline="always")
def weights(t):
    s = 1.0 - t
    return s * s * s / 6.0, (3.0 * t - 6.0) * t * t / 6.0 + 2.0 / 3.0, (3.0 * s - 6.0) * s * s / 6.0 + 2.0 / 3.0, t * t * t / 6.0


@njit(cache=True, nogil=True, inline="always")
def _slopes(t):
    s = 1.0 - t
    return -0.5 * s * s, (1.5 * t - 2.0) * t, (2.0 - 1.5 * s) * s, 0.5 * t * t


@njit(cache=True, nogil=True, inline="always")
def _across(c, i, j, d, w):
    """sum_p w_p c[i + p, j, d]."""
    return w[0] * c[i, j, d] + w[1] * c[i + 1, j, d] + w[2] * c[i + 2, j, d] + w[3] * c[i + 3, j, d]


@njit(cache=True, nogil=True, inline="always")
def _along(c, i, j, d, w, s, v, r):
    """One component at (i, j): value and its two derivatives, from the weights w, v and slopes s, r of the two axes."""
    a0, a1, a2, a3 = _across(c, i, j, d, w), _across(c, i, j + 1, d, w), _across(c, i, j + 2, d, w), _across(c, i, j + 3, d, w)
    b0, b1, b2, b3 = _across(c, i, j, d, s), _across(c, i, j + 1, d, s), _across(c, i, j + 2, d, s), _across(c, i, j + 3, d, s)
    return (
        v[0] * a0 + v[1] * a1 + v[2] * a2 + v[3] * a3,
        v[0] * b0 + v[1] * b1 + v[2] * b2 + v[3] * b3,
        r[0] * a0 + r[1] * a1 + r[2] * a2 + r[3] * a3,
    )


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _field(c, start, step, x, u, J, rows):
    """u (D,) and its derivatives J (D, D) at a point x (D,); c (1, n1, n2, 2) or (3, n0, n1, n2); buffers rows (3, 4).

    These orders of axes, and taps written out in 2-D, loops in 3-D, are what compiles to vector instructions.
    """
    ndim = x.size
    u[:] = 0.0
    J[:] = 0.0
    if ndim == 2:
        t0, t1 = start[0] + step[0] * x[0], start[1] + step[1] * x[1]
        if not (t0 >= 1.0 and t0 <= c.shape[1] - 2.0 and t1 >= 1.0 and t1 <= c.shape[2] - 2.0):
            return
        i, j = min(int(t0), c.shape[1] - 3), min(int(t1), c.shape[2] - 3)
        w, s = weights(t0 - i), _slopes(t0 - i)
        v, r = weights(t1 - j), _slopes(t1 - j)
        for d in range(2):
            value, by0, by1 = _along(c[0], i - 1, j - 1, d, w, s, v, r)
            u[d] = value
            J[d, 0] = step[0] * by0
            J[d, 1] = step[1] * by1
        return
    t0, t1, t2 = start[0] + step[0] * x[0], start[1] + step[1] * x[1], start[2] + step[2] * x[2]
    n0, n1, n2 = c.shape[1], c.shape[2], c.shape[3]
    if not (t0 >= 1.0 and t0 <= n0 - 2.0 and t1 >= 1.0 and t1 <= n1 - 2.0 and t2 >= 1.0 and t2 <= n2 - 2.0):
        return
    k, i, j = min(int(t0), n0 - 3) - 1, min(int(t1), n1 - 3) - 1, min(int(t2), n2 - 3) - 1
    p, q = weights(t0 - k - 1.0), _slopes(t0 - k - 1.0)
    w, s = weights(t1 - i - 1.0), _slopes(t1 - i - 1.0)
    v, r = weights(t2 - j - 1.0), _slopes(t2 - j - 1.0)
    A, B, E = rows[0], rows[1], rows[2]
    for d in range(3):
        A[:] = 0.0
        B[:] = 0.0
        E[:] = 0.0
        for a in range(4):
            for b in range(4):
                c0, c1 = c[d, k, i + a, j + b], c[d, k + 1, i + a, j + b]
                c2, c3 = c[d, k + 2, i + a, j + b], c[d, k + 3, i + a, j + b]
                m = p[0] * c0 + p[1] * c1 + p[2] * c2 + p[3] * c3
                A[b] += w[a] * m
                B[b] += w[a] * (q[0] * c0 + q[1] * c1 + q[2] * c2 + q[3] * c3)
                E[b] += s[a] * m
        u[d] = v[0] * A[0] + v[1] * A[1] + v[2] * A[2] + v[3] * A[3]
        J[d, 0] = step[0] * (v[0] * B[0] + v[1] * B[1] + v[2] * B[2] + v[3] * B[3])
        J[d, 1] = step[1] * (v[0] * E[0] + v[1] * E[1] + v[2] * E[2] + v[3] * E[3])
        J[d, 2] = step[2] * (r[0] * A[0] + r[1] * A[1] + r[2] * A[2] + r[3] * A[3])


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _value(c, start, step, x, u, rows):
    """u (D,) alone, see `_field`."""
    ndim = x.size
    u[:] = 0.0
    if ndim == 2:
        t0, t1 = start[0] + step[0] * x[0], start[1] + step[1] * x[1]
        if not (t0 >= 1.0 and t0 <= c.shape[1] - 2.0 and t1 >= 1.0 and t1 <= c.shape[2] - 2.0):
            return
        i, j = min(int(t0), c.shape[1] - 3), min(int(t1), c.shape[2] - 3)
        w, v = weights(t0 - i), weights(t1 - j)
        for d in range(2):
            u[d] = _along(c[0], i - 1, j - 1, d, w, w, v, v)[0]
        return
    t0, t1, t2 = start[0] + step[0] * x[0], start[1] + step[1] * x[1], start[2] + step[2] * x[2]
    n0, n1, n2 = c.shape[1], c.shape[2], c.shape[3]
    if not (t0 >= 1.0 and t0 <= n0 - 2.0 and t1 >= 1.0 and t1 <= n1 - 2.0 and t2 >= 1.0 and t2 <= n2 - 2.0):
        return
    k, i, j = min(int(t0), n0 - 3) - 1, min(int(t1), n1 - 3) - 1, min(int(t2), n2 - 3) - 1
    p, w, v = weights(t0 - k - 1.0), weights(t1 - i - 1.0), weights(t2 - j - 1.0)
    A = rows[0]
    for d in range(3):
        A[:] = 0.0
        for a in range(4):
            for b in range(4):
                c0, c1 = c[d, k, i + a, j + b], c[d, k + 1, i + a, j + b]
                c2, c3 = c[d, k + 2, i + a, j + b], c[d, k + 3, i + a, j + b]
                A[b] += w[a] * (p[0] * c0 + p[1] * c1 + p[2] * c2 + p[3] * c3)
        u[d] = v[0] * A[0] + v[1] * A[1] + v[2] * A[2] + v[3] * A[3]


@njit(cache=True, nogil=True)
def _newton(J, r, dx):
    """(I + J) dx = r; near a singular matrix dx is short of it."""
    if r.size == 2:
        a, b, c, d = 1.0 + J[0, 0], J[0, 1], J[1, 0], 1.0 + J[1, 1]
        det = a * d - b * c
        if abs(det) < 1e-3:
            det = 1.0
        dx[0] = (d * r[0] - b * r[1]) / det
        dx[1] = (a * r[1] - c * r[0]) / det
        return
    a, b, c = 1.0 + J[0, 0], J[0, 1], J[0, 2]
    d, e, f = J[1, 0], 1.0 + J[1, 1], J[1, 2]
    g, h, i = J[2, 0], J[2, 1], 1.0 + J[2, 2]
    det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(det) < 1e-3:
        det = 1.0
    dx[0] = ((e * i - f * h) * r[0] + (c * h - b * i) * r[1] + (b * f - c * e) * r[2]) / det
    dx[1] = ((f * g - d * i) * r[0] + (a * i - c * g) * r[1] + (c * d - a * f) * r[2]) / det
    dx[2] = ((d * h - e * g) * r[0] + (b * g - a * h) * r[1] + (a * e - b * d) * r[2]) / det


@kernel()
def pull_at(coefficients, start, step, affine, shape, tolerance, iterations, out, residual):
    """x (B, N, D) with x + u(x) = A y + t at all pixels y, by damped Newton; |A y + t - x - u(x)| before the last step, (B, N).

    coefficients (B, 1, n1, n2, 2) or (B, 3, n0, n1, n2), affine (B, D, D + 1), shape (D,) of the pixels.
    """
    batch, count, ndim = out.shape
    line = shape[ndim - 1]
    lines = count // line
    jobs = (lines + LINES - 1) // LINES
    for job in prange(batch * jobs):
        b, begin = job // jobs, (job % jobs) * LINES
        c, A = coefficients[b], affine[b]
        u, J, rows = np.empty(ndim), np.empty((ndim, ndim)), np.empty((3, 4))
        z, trial, r, dx = np.empty(ndim), np.empty(ndim), np.empty(ndim), np.zeros(ndim)
        # displacements x - z of the four points before, the last one first
        h = np.zeros((4, ndim))
        first = np.zeros(ndim)
        for row in range(begin, min(begin + LINES, lines)):
            y0, y1 = (row // shape[1], row % shape[1]) if ndim == 3 else (row, 0)
            for k in range(line):
                i = row * line + k
                x = out[b, i]
                for d in range(ndim):
                    z[d] = A[d, 0] * y0 + A[d, ndim - 1] * k + A[d, ndim]
                    if ndim == 3:
                        z[d] += A[d, 1] * y1
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
                        _newton(J, r, dx)
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


@kernel()
def push_at(coefficients, start, step, affine, shape, points, flow, inside):
    """Flow A (x + u(x)) + t - y, (B, D, N) float32, at the points x (B, N, D) of all pixels y; whether it ends inside, (B, N)."""
    batch, count, ndim = points.shape
    line = shape[ndim - 1]
    lines = count // line
    for job in prange(batch * lines):
        b, row = job // lines, job % lines
        c, A, u, rows = coefficients[b], affine[b], np.empty(ndim), np.empty((3, 4))
        y = np.zeros(ndim)
        if ndim == 3:
            y[0], y[1] = row // shape[1], row % shape[1]
        else:
            y[0] = row
        for k in range(line):
            i = row * line + k
            y[ndim - 1] = k
            x = points[b, i]
            _value(c, start, step, x, u, rows)
            within = True
            for d in range(ndim):
                t = A[d, ndim]
                for a in range(ndim):
                    t += A[d, a] * (x[a] + u[a])
                within &= -EDGE <= t <= shape[d] - 1 + EDGE
                flow[b, d, i] = t - y[d]
            inside[b, i] = within


@njit(cache=True, nogil=True)
def _advance(c, start, step, x, sign, steps, buffers, rows):
    """x (D,) carried along the velocity sign * v for unit time, in place, by Runge-Kutta; buffers (5, D)."""
    h = sign / steps
    ndim = x.size
    k1, k2, k3, k4, y = buffers[0], buffers[1], buffers[2], buffers[3], buffers[4]
    for _ in range(steps):
        _value(c, start, step, x, k1, rows)
        for d in range(ndim):
            y[d] = x[d] + 0.5 * h * k1[d]
        _value(c, start, step, y, k2, rows)
        for d in range(ndim):
            y[d] = x[d] + 0.5 * h * k2[d]
        _value(c, start, step, y, k3, rows)
        for d in range(ndim):
            y[d] = x[d] + h * k3[d]
        _value(c, start, step, y, k4, rows)
        for d in range(ndim):
            x[d] += h / 6.0 * (k1[d] + 2.0 * (k2[d] + k3[d]) + k4[d])


@kernel()
def flow_at(coefficients, start, step, points, sign, steps, out):
    """exp(sign * v) at points (B, N, D), out (B, N, D); coefficients as of `pull_at`."""
    batch, count, ndim = points.shape
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        c, buffers, rows = coefficients[b], np.empty((5, ndim)), np.empty((3, 4))
        for i in range(begin, min(begin + CHUNK, count)):
            x = out[b, i]
            for d in range(ndim):
                x[d] = points[b, i, d]
            _advance(c, start, step, x, sign, steps, buffers, rows)
