"""Kernels of textures: mosaics, the prefilter of cubic B-splines, interpolation. Twins in `augreg.synthesis.render.tensors`.

Images have three index axes; a 2-D one gets a first axis of length one.
"""

import numpy as np

from augreg.geometry.kernels.cubic import mirrored_index
from augreg.geometry.kernels.sampling import cubic, taps
from solvers._compile import inlined, kernel

CHUNK = 1024


@inlined(fastmath=frozenset({"contract", "nnan"}))
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


@kernel(fastmath=frozenset({"contract", "nnan"}))
def blend_at(begin, end, fields, textures, out, chosen):
    """sum_i w_i t_i with w = softmax_i(g_i): fields g (B, n, N), textures t (n, N), out (B, N), float32; argmax_i g_i (B, N).

    The outermost index counts sets of CHUNK pixels, image by image: they stay in the cache while image after image is added.
    """
    n, count = fields.shape[1], fields.shape[2]
    chunks = (count + CHUNK - 1) // CHUNK
    buffer = np.empty((2, CHUNK), np.float32)
    highest, total = buffer[0], buffer[1]
    for job in range(begin, end):
        b, top = job // chunks, (job % chunks) * CHUNK
        size = min(CHUNK, count - top)
        best, blend = chosen[b, top : top + size], out[b, top : top + size]
        for k in range(size):
            highest[k] = fields[b, 0, top + k]
            best[k] = 0
            total[k] = 0.0
            blend[k] = 0.0
        for i in range(1, n):
            g = fields[b, i, top : top + size]
            for k in range(size):
                best[k] = i if g[k] > highest[k] else best[k]
                highest[k] = max(highest[k], g[k])
        for i in range(n):
            g, t = fields[b, i, top : top + size], textures[i, top : top + size]
            for k in range(size):
                w = _exponential(g[k] - highest[k])
                total[k] += w
                blend[k] += w * t[k]
        for k in range(size):
            blend[k] /= total[k]


@kernel
def prefilter_along(begin, end, values):
    """Cubic B-spline coefficients along the middle axis of (B, n, m), in place, whole-sample mirrored (Unser 1999, Box 2)."""
    n, m = values.shape[1], values.shape[2]
    pole = np.float32(np.sqrt(3.0) - 2.0)
    scale = pole / (pole * pole - np.float32(1.0))
    # mirrored values that still count; the period of a short axis ends before
    period = 2 * (n - 1)
    reach = min(period, 16)
    full = np.float32(1.0) / (np.float32(1.0) - pole**reach)
    # an axis of one value is its own coefficient
    for b in range(begin, end if n > 1 else begin):
        c = values[b]
        power = np.float32(1.0)
        for i in range(1, reach):
            power *= pole
            at = i if i < n else period - i
            for j in range(m):
                c[0, j] += power * c[at, j]
        for j in range(m):
            c[0, j] *= full
        for i in range(1, n):
            for j in range(m):
                c[i, j] += pole * c[i - 1, j]
        for j in range(m):
            c[n - 1, j] = scale * (c[n - 1, j] + pole * c[n - 2, j])
        for i in range(n - 2, -1, -1):
            for j in range(m):
                c[i, j] = pole * (c[i + 1, j] - c[i, j])
        for i in range(n):
            for j in range(m):
                c[i, j] *= np.float32(6.0)


@kernel
def interpolate_at(begin, end, coefficients, shape, points, out):
    """Cubic B-splines, flat, of K images of `shape` (n0, n1, n2, 1), mirrored, at points (B N, D); out (B N,).

    B / K images share one.
    """
    ndim = points.shape[1]
    size, layers = shape[0] * shape[1] * shape[2], 4 if shape[0] > 1 else 1
    count = points.shape[0] * size // coefficients.size
    weight, where = np.empty(12), np.empty(12, np.int64)
    weight[0], where[0] = 1.0, 0
    for image in range(begin // count, -(-end // count)):
        for i in range(max(begin, image * count), min(end, (image + 1) * count)):
            taps(points[i, 0], points[i, ndim - 2], points[i, ndim - 1], shape, weight, where)
            out[i] = cubic(coefficients, image * size, layers, weight, where)


@kernel
def labels_at(begin, end, labels, shape, points, out):
    """Labels, flat, of K images of `shape` (n0, n1, n2, 1), mirrored, at the pixels nearest to points (B N, D); out (B N,)."""
    ndim = points.shape[1]
    count = points.shape[0] * shape[0] * shape[1] * shape[2] // labels.size
    for i in range(begin, end):
        at = i // count
        for a in range(3):
            n = shape[a]
            k = np.int64(np.rint(points[i, a + ndim - 3])) if a + ndim >= 3 else 0
            at = at * n + (k if k >= 0 and k < n else mirrored_index(k, n))
        out[i] = labels[at]
