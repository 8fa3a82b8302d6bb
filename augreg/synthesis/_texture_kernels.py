"""Numba kernels of textures: mosaics, the prefilter of cubic B-splines, interpolation. Twins in `augreg.synthesis.spline`.

Images have three index axes; a 2-D one gets a first axis of length one.
"""

import numpy as np
from numba import prange

from augreg._compile import kernel, njit
from augreg.synthesis._kernels import CHUNK, weights


@njit(cache=True, nogil=True, inline="always")
def _exponential(x):
    """exp(x) for x <= 0 to 2e-6, as (exp(x / 32))^32: only products and sums, so that loops of it vectorise."""
    r = max(x, np.float32(-32.0)) * np.float32(1 / 32)
    e = np.float32(1 / 5040)
    for k in (720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0):
        e = e * r + np.float32(1.0 / k)
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@kernel(fastmath={"contract", "nnan"})
def blend_at(fields, textures, out, chosen):
    """sum_i w_i t_i with w = softmax_i(g_i): fields g (B, n, N), textures t (n, N), out (B, N), float32; argmax_i g_i (B, N)."""
    batch, n, count = fields.shape
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        end = min(begin + CHUNK, count)
        # image by image over a chunk that stays in the cache, so that the inner loops run over contiguous values
        highest = fields[b, 0, begin:end].copy()
        best = np.zeros(end - begin, np.int32)
        for i in range(1, n):
            g = fields[b, i, begin:end]
            for k in range(end - begin):
                best[k] = i if g[k] > highest[k] else best[k]
                highest[k] = max(highest[k], g[k])
        chosen[b, begin:end] = best
        total = np.zeros_like(highest)
        blend = np.zeros_like(highest)
        for i in range(n):
            g, t = fields[b, i, begin:end], textures[i, begin:end]
            for k in range(end - begin):
                w = _exponential(g[k] - highest[k])
                total[k] += w
                blend[k] += w * t[k]
        for k in range(end - begin):
            out[b, begin + k] = blend[k] / total[k]


@kernel()
def prefilter_along(values):
    """Cubic B-spline coefficients along the middle axis of (B, n, m), in place, whole-sample mirrored (Unser 1999, Box 2)."""
    batch, n, m = values.shape
    if n == 1:
        return
    pole = np.float32(np.sqrt(3.0) - 2.0)
    # mirrored values that still count; the period of a short axis ends before
    period = 2 * (n - 1)
    reach = min(period, 16)
    full = np.float32(1.0) / (np.float32(1.0) - pole**reach)
    for b in prange(batch):
        c = values[b]
        start = c[0].copy()
        power = np.float32(1.0)
        for i in range(1, reach):
            power *= pole
            at = i if i < n else period - i
            for j in range(m):
                start[j] += power * c[at, j]
        for j in range(m):
            c[0, j] = start[j] * full
        for i in range(1, n):
            for j in range(m):
                c[i, j] += pole * c[i - 1, j]
        scale = pole / (pole * pole - np.float32(1.0))
        for j in range(m):
            c[n - 1, j] = scale * (c[n - 1, j] + pole * c[n - 2, j])
        for i in range(n - 2, -1, -1):
            for j in range(m):
                c[i, j] = pole * (c[i + 1, j] - c[i, j])
        for i in range(n):
            for j in range(m):
                c[i, j] *= np.float32(6.0)


@njit(cache=True, nogil=True, inline="always")
def _mirror(i, n):
    period = 2 * (n - 1)
    i = abs(i) % max(period, 1)
    return i if i < n else period - i


@kernel()
def interpolate_at(coefficients, points, out):
    """Cubic B-splines (K, n0, n1, n2) mirrored at their borders, at points (B, N, D); out (B, N). B / K points share a spline."""
    batch, count, ndim = points.shape
    lead = 3 - ndim
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        c = coefficients[b * len(coefficients) // batch]
        w, at = np.ones((3, 4)), np.zeros((3, 4), np.int64)
        for i in range(begin, min(begin + CHUNK, count)):
            for a in range(ndim):
                x = points[b, i, a]
                low = int(np.floor(x))
                w[lead + a, 0], w[lead + a, 1], w[lead + a, 2], w[lead + a, 3] = weights(x - low)
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


@kernel()
def nearest_at(labels, points, out):
    """Labels (K, n0, n1, n2), mirrored, at the pixels nearest to points (B, N, D); out (B, N). B / K points share a map."""
    batch, count, ndim = points.shape
    lead = 3 - ndim
    chunks = (count + CHUNK - 1) // CHUNK
    for job in prange(batch * chunks):
        b, begin = job // chunks, (job % chunks) * CHUNK
        known, at = labels[b * len(labels) // batch], np.zeros(3, np.int64)
        for i in range(begin, min(begin + CHUNK, count)):
            for a in range(ndim):
                n = known.shape[lead + a]
                k = int(np.rint(points[b, i, a]))
                at[lead + a] = k if 0 <= k < n else _mirror(k, n)
            out[b, i] = known[at[0], at[1], at[2]]
