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


@inlined
def _narrow(w):
    """Four weights in the values' precision."""
    return np.float32(w[0]), np.float32(w[1]), np.float32(w[2]), np.float32(w[3])


@inlined(fastmath=_SUMS)
def _sums(c, at, beside, w):
    """sum_q w_q c[at + q beside + r], r = 0 .. 3; places without a sign: it is not asked whether they count from the end."""
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    b = at + beside
    d = b + beside
    e = d + beside
    return (
        w[0] * c[at] + w[1] * c[b] + w[2] * c[d] + w[3] * c[e],
        w[0] * c[at + one] + w[1] * c[b + one] + w[2] * c[d + one] + w[3] * c[e + one],
        w[0] * c[at + two] + w[1] * c[b + two] + w[2] * c[d + two] + w[3] * c[e + two],
        w[0] * c[at + three] + w[1] * c[b + three] + w[2] * c[d + three] + w[3] * c[e + three],
    )


@inlined(fastmath=_SUMS)
def _dot(w, v):
    return w[0] * v[0] + w[1] * v[1] + w[2] * v[2] + w[3] * v[3]


@inlined(fastmath=_SUMS)
def _inner_2(c, first, shape, y, z, j, k):
    """A cubic B-spline, of flat values that begin at `first`, at a point (y, z) whose neighbours j .., k .. exist."""
    sums = _sums(c, np.uint64(first + j * shape[2] + k), np.uint64(shape[2]), _narrow(weights(y - j - 1.0)))
    return _dot(_narrow(weights(z - k - 1.0)), sums)


@inlined(fastmath=_SUMS)
def _inner_3(c, first, shape, x, y, z, i, j, k):
    """A cubic B-spline, of flat values that begin at `first`, at a point (x, y, z) whose neighbours i .., j .., k .. exist."""
    beside, above = np.uint64(shape[2]), np.uint64(shape[1] * shape[2])
    at, b = np.uint64(first + (i * shape[1] + j) * shape[2] + k), _narrow(weights(y - j - 1.0))
    p, q = _sums(c, at, beside, b), _sums(c, at + above, beside, b)
    r, s = _sums(c, at + above + above, beside, b), _sums(c, at + above + above + above, beside, b)
    a, e = _narrow(weights(x - i - 1.0)), _narrow(weights(z - k - 1.0))
    both = (
        _dot(a, (p[0], q[0], r[0], s[0])),
        _dot(a, (p[1], q[1], r[1], s[1])),
        _dot(a, (p[2], q[2], r[2], s[2])),
        _dot(a, (p[3], q[3], r[3], s[3])),
    )
    return _dot(e, both)


@inlined
def _inner(shape, x, y, z):
    """Whether all neighbours of a point exist."""
    i, j, k = np.int64(np.floor(x)) - 1, np.int64(np.floor(y)) - 1, np.int64(np.floor(z)) - 1
    within = j >= 0 and k >= 0 and j + 4 <= shape[1] and k + 4 <= shape[2]
    return within and (shape[0] == 1 or (i >= 0 and i + 4 <= shape[0]))


@inlined
def textured(coefficients, first, shape, points, begin, end, weight, where, out):
    """A cubic B-spline, of flat values that begin at `first`, mirrored, at points begin .. end (N, D), out (N,).

    Where all neighbours exist, as nearly everywhere, there is a shorter way in the values' own precision; the others have a loop
    of their own, for one loop of both takes four times as long. Buffers weight, where (12,), see `taps`.
    """
    ndim = points.shape[1]
    for p in range(begin, end):
        x, y, z = points[p, 0], points[p, ndim - 2], points[p, ndim - 1]
        if _inner(shape, x, y, z):
            i, j, k = np.int64(np.floor(x)) - 1, np.int64(np.floor(y)) - 1, np.int64(np.floor(z)) - 1
            if shape[0] == 1:
                out[p] = _inner_2(coefficients, first, shape, y, z, j, k)
            else:
                out[p] = _inner_3(coefficients, first, shape, x, y, z, i, j, k)
    for p in range(begin, end):
        x, y, z = points[p, 0], points[p, ndim - 2], points[p, ndim - 1]
        if not _inner(shape, x, y, z):
            taps(x, y, z, shape, weight, where)
            out[p] = cubic(coefficients, first, 4 if shape[0] > 1 else 1, weight, where)


@kernel
def interpolate_at(begin, end, coefficients, shape, points, out):
    """Cubic B-splines, flat, of K images of `shape` (n0, n1, n2, 1), mirrored, at points (B N, D); out (B N,).

    B / K images share one.
    """
    size = shape[0] * shape[1] * shape[2]
    count = points.shape[0] * size // coefficients.size
    weight, where = np.empty(12), np.empty(12, np.int64)
    weight[0], where[0] = 1.0, 0
    for image in range(begin // count, -(-end // count)):
        first, last = max(begin, image * count), min(end, (image + 1) * count)
        textured(coefficients, image * size, shape, points, first, last, weight, where, out)


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
