"""Numba kernels of `augreg.synthesis.spline` on the CPU, parallel over points: several times faster than the torch functions.

Arrays have three index axes; a 2-D array gets a first axis of length one, with a stencil of one tap. A point is solved for in
registers, starting from its neighbour's displacement, so that a Newton step or two remain.
"""

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads

CHUNK = 1024
LINES = 8


def threads():
    """Number of threads of all kernels."""
    return get_num_threads()


def set_threads(count):
    """Set that number."""
    set_num_threads(count)


@njit(cache=True, nogil=True, inline="always")
def _weights(t, w):
    s = 1.0 - t
    w[0] = s * s * s / 6.0
    w[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0
    w[2] = (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0
    w[3] = t * t * t / 6.0


@njit(cache=True, nogil=True, inline="always")
def _slopes(t, w):
    s = 1.0 - t
    w[0] = -0.5 * s * s
    w[1] = 1.5 * t * t - 2.0 * t
    w[2] = 2.0 * s - 1.5 * s * s
    w[3] = 0.5 * t * t


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _field(c, start, step, x, w, s, first, u, J, derivatives):
    """u and its derivatives at one point; c (n0, n1, n2, D), buffers w, s (3, 4), first (3,), u (D,), J (D, D)."""
    ndim = x.size
    lead = 3 - ndim
    u[:] = 0.0
    J[:] = 0.0
    for a in range(ndim):
        n = c.shape[lead + a]
        t = start[a] + step[a] * x[a]
        if not (t >= 1.0 and t <= n - 2.0):
            return
        begin = min(max(int(np.floor(t)), 1), n - 3)
        first[lead + a] = begin - 1
        _weights(t - begin, w[lead + a])
        if derivatives:
            _slopes(t - begin, s[lead + a])
    i, j, k = first[0], first[1], first[2]
    w0, w1, w2, w3 = w[2, 0], w[2, 1], w[2, 2], w[2, 3]
    s0, s1, s2, s3 = s[2, 0], s[2, 1], s[2, 2], s[2, 3]
    for d in range(ndim):
        value, by0, by1, by2 = 0.0, 0.0, 0.0, 0.0
        for p in range(1 if ndim == 2 else 4):
            for q in range(4):
                c0, c1 = c[i + p, j + q, k, d], c[i + p, j + q, k + 1, d]
                c2, c3 = c[i + p, j + q, k + 2, d], c[i + p, j + q, k + 3, d]
                along = w0 * c0 + w1 * c1 + w2 * c2 + w3 * c3
                value += w[0, p] * w[1, q] * along
                if derivatives:
                    by0 += s[0, p] * w[1, q] * along
                    by1 += w[0, p] * s[1, q] * along
                    by2 += w[0, p] * w[1, q] * (s0 * c0 + s1 * c1 + s2 * c2 + s3 * c3)
        u[d] = value
        if derivatives:
            if ndim == 3:
                J[d, 0] = step[0] * by0
            J[d, ndim - 2] = step[ndim - 2] * by1
            J[d, ndim - 1] = step[ndim - 1] * by2


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


@njit(cache=True, parallel=True, nogil=True)
def displacement_at(coefficients, start, step, points, out):
    """u (B, N, D) at points (B, N, D); coefficients (B, n0, n1, n2, D)."""
    batch, count, ndim = points.shape
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        w, s, first = np.ones((3, 4)), np.zeros((3, 4)), np.zeros(3, np.int64)
        J = np.empty((ndim, ndim))
        for i in range(begin, min(begin + CHUNK, count)):
            _field(coefficients[b], start, step, points[b, i], w, s, first, out[b, i], J, False)


@njit(cache=True, parallel=True, nogil=True)
def invert_at(coefficients, start, step, targets, line, tolerance, iterations, out, residual):
    """x with x + u(x) = z by damped Newton, out (B, N, D), and |z - x - u(x)|, residual (B, N).

    Targets are neighbours along lines of that length: each starts from the displacements of the two before it, extrapolated.
    """
    batch, count, ndim = targets.shape
    lines = (count + line - 1) // line
    jobs = (lines + LINES - 1) // LINES
    for job in prange(batch * jobs):
        b, begin = job // jobs, (job % jobs) * LINES * line
        c = coefficients[b]
        w, s, first = np.ones((3, 4)), np.zeros((3, 4)), np.zeros(3, np.int64)
        u, J = np.empty(ndim), np.empty((ndim, ndim))
        trial, r, dx = np.empty(ndim), np.empty(ndim), np.zeros(ndim)
        last, change, line_start = np.zeros(ndim), np.zeros(ndim), np.zeros(ndim)
        for i in range(begin, min(begin + LINES * line, count)):
            z, x = targets[b, i], out[b, i]
            if i % line == 0:
                last[:] = line_start
                change[:] = 0.0
            best = np.inf
            for d in range(ndim):
                trial[d] = z[d] + last[d] + change[d]
            for _ in range(iterations):
                _field(c, start, step, trial, w, s, first, u, J, True)
                error = 0.0
                for d in range(ndim):
                    r[d] = z[d] - trial[d] - u[d]
                    error += r[d] * r[d]
                error = np.sqrt(error)
                if error < best:
                    best = error
                    for d in range(ndim):
                        x[d] = trial[d]
                    if error <= tolerance:
                        break
                    _newton(J, r, dx)
                else:
                    for d in range(ndim):
                        dx[d] *= 0.5
                for d in range(ndim):
                    trial[d] = x[d] + dx[d]
            residual[b, i] = best
            for d in range(ndim):
                change[d] = x[d] - z[d] - last[d] if i % line else 0.0
                last[d] = x[d] - z[d]
            if i % line == 0:
                line_start[:] = last


@njit(cache=True, parallel=True, nogil=True)
def blend_at(fields, textures, out):
    """sum_i w_i t_i with w = softmax_i(g_i): fields g (B, n, N), textures t (n, N), out (B, N)."""
    batch, n, count = fields.shape
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        end = min(begin + CHUNK, count)
        # image by image over a chunk that stays in the cache, so that the inner loops run over contiguous values
        highest = fields[b, 0, begin:end].copy()
        for i in range(1, n):
            for k in range(end - begin):
                highest[k] = max(highest[k], fields[b, i, begin + k])
        total = np.zeros_like(highest)
        blend = np.zeros_like(highest)
        for i in range(n):
            for k in range(end - begin):
                w = np.exp(fields[b, i, begin + k] - highest[k])
                total[k] += w
                blend[k] += w * textures[i, begin + k]
        for k in range(end - begin):
            out[b, begin + k] = blend[k] / total[k]


@njit(cache=True, nogil=True, inline="always")
def _mirror(i, n):
    period = 2 * (n - 1)
    i = abs(i) % period
    return i if i < n else period - i


@njit(cache=True, parallel=True, nogil=True)
def interpolate_at(coefficients, points, out):
    """Cubic B-splines (B, n0, n1, n2) mirrored at their borders, at points (B, N, D); out (B, N)."""
    batch, count, ndim = points.shape
    lead = 3 - ndim
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        c = coefficients[b]
        w, at = np.ones((3, 4)), np.zeros((3, 4), np.int64)
        for i in range(begin, min(begin + CHUNK, count)):
            for a in range(ndim):
                x = points[b, i, a]
                low = int(np.floor(x))
                _weights(x - low, w[lead + a])
                n = c.shape[lead + a]
                for p in range(4):
                    k = low - 1 + p
                    at[lead + a, p] = k if 0 <= k < n else _mirror(k, n)
            total = 0.0
            for p in range(1 if ndim == 2 else 4):
                for q in range(4):
                    row = c[at[0, p], at[1, q]]
                    value = 0.0
                    for k in range(4):
                        value += w[2, k] * row[at[2, k]]
                    total += w[0, p] * w[1, q] * value
            out[b, i] = total
