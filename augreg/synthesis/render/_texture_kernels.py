"""Kernels of textures: mosaics, the prefilter of cubic B-splines, interpolation. Twins in `augreg.synthesis.render.tensors`.

Images have three index axes; a 2-D one gets a first axis of length one.
"""

import numpy as np

from augreg.geometry.kernels.cubic import mirrored_index, weights
from augreg.geometry.kernels.sampling import cubic, taps
from solvers._compile import inlined, kernel

_SUMS = frozenset({"contract", "reassoc", "nsz"})


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


@kernel(fastmath=frozenset({"contract", "nnan", "reassoc", "nsz"}))
def mosaic_at(begin, end, rows, basis, textures, out, chosen):
    """sum_i w_i t_i with w = softmax_i(g_i), g_i = sum_q r_iq m_q on a line; argmax_i g_i; all float32.

    rows r (B, n, L, q) of L lines of pixels, basis m (q, N / L) along them, textures t (n, N), out and chosen (B, N). The
    outermost index counts lines, image by image: the fields of a line stay in the cache, and are never written down.
    """
    n, lines, columns = rows.shape[1], rows.shape[2], rows.shape[3]
    size = basis.shape[1]
    fields, highest, total = np.empty((n, size), np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for job in range(begin, end):
        b, top = job // lines, (job % lines) * size
        best, blend = chosen[b, top : top + size], out[b, top : top + size]
        for i in range(n):
            g, r = fields[i], rows[b, i, job % lines]
            for k in range(size):
                g[k] = 0.0
            for q in range(columns):
                factor, m = r[q], basis[q]
                for k in range(size):
                    g[k] += factor * m[k]
        for k in range(size):
            highest[k] = fields[0, k]
            best[k] = 0
            total[k] = 0.0
            blend[k] = 0.0
        for i in range(1, n):
            g = fields[i]
            for k in range(size):
                best[k] = i if g[k] > highest[k] else best[k]
                highest[k] = max(highest[k], g[k])
        for i in range(n):
            g, t = fields[i], textures[i, top : top + size]
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


@inlined(fastmath=_SUMS)
def _line(c, at, along, w0, w1, w2, w3):
    """Four neighbours along an axis; places without a sign: it is not asked whether they count from the end."""
    return w0 * c[at] + w1 * c[at + along] + w2 * c[at + along + along] + w3 * c[at + along + along + along]


@inlined(fastmath=_SUMS)
def _inner(c, first, shape, x, y, z, i, j, k):
    """A cubic B-spline, of flat values that begin at `first`, at a point (x, y, z) whose neighbours i .., j .., k .. exist."""
    a, b, e = weights(x - i - 1.0), weights(y - j - 1.0), weights(z - k - 1.0)
    b0, b1, b2, b3 = np.float32(b[0]), np.float32(b[1]), np.float32(b[2]), np.float32(b[3])
    beside, above = np.uint64(shape[2]), np.uint64(shape[1] * shape[2])
    at, total = np.uint64(first + (i * shape[1] + j) * shape[2] + k), np.float32(0.0)
    if shape[0] == 1:
        at = np.uint64(first + j * shape[2] + k)
    for r in range(4):
        place = at + np.uint64(r)
        line = _line(c, place, beside, b0, b1, b2, b3)
        if shape[0] > 1:
            line *= np.float32(a[0])
            line += np.float32(a[1]) * _line(c, place + above, beside, b0, b1, b2, b3)
            line += np.float32(a[2]) * _line(c, place + above + above, beside, b0, b1, b2, b3)
            line += np.float32(a[3]) * _line(c, place + above + above + above, beside, b0, b1, b2, b3)
        total += np.float32(e[0] if r == 0 else e[1] if r == 1 else e[2] if r == 2 else e[3]) * line
    return total


@inlined
def textured(coefficients, first, shape, x, y, z, weight, where):
    """A cubic B-spline, of flat values that begin at `first`, mirrored, at a point; buffers weight, where (12,), see `taps`.

    Where all neighbours exist, as nearly everywhere, there is a shorter way in the values' own precision.
    """
    i, j, k = np.int64(np.floor(x)) - 1, np.int64(np.floor(y)) - 1, np.int64(np.floor(z)) - 1
    layers = 4 if shape[0] > 1 else 1
    inner = j >= 0 and k >= 0 and j + 4 <= shape[1] and k + 4 <= shape[2]
    if inner and (layers == 1 or (i >= 0 and i + 4 <= shape[0])):
        return _inner(coefficients, first, shape, x, y, z, i, j, k)
    taps(x, y, z, shape, weight, where)
    return cubic(coefficients, first, layers, weight, where)


@kernel
def interpolate_at(begin, end, coefficients, shape, points, out):
    """Cubic B-splines, flat, of K images of `shape` (n0, n1, n2, 1), mirrored, at points (B N, D); out (B N,).

    B / K images share one.
    """
    ndim = points.shape[1]
    size = shape[0] * shape[1] * shape[2]
    count = points.shape[0] * size // coefficients.size
    weight, where = np.empty(12), np.empty(12, np.int64)
    weight[0], where[0] = 1.0, 0
    for image in range(begin // count, -(-end // count)):
        for p in range(max(begin, image * count), min(end, (image + 1) * count)):
            x, y, z = points[p, 0], points[p, ndim - 2], points[p, ndim - 1]
            out[p] = textured(coefficients, image * size, shape, x, y, z, weight, where)


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
