"""Kernels of displacement fields on blocks, (D, h0, h1, h2) in blocks, h1 = 1 in 2-D: filters, composition, smoothing."""

import numpy as np

from solvers._compile import FAST, kernel

F = np.float32


@kernel(fastmath=FAST)
def filtered(begin, end, values, taps, radius, repeat, out):
    """Symmetric separable filters of values (K, h0, h1, h2), taps (3, R + 1); the border is repeated, or 0 beyond.

    radius (3,) is the reach of the taps of each axis. An index is a layer of one of the K.
    """
    _, h0, h1, h2 = values.shape
    reach = radius[2]
    layer = np.empty((h1, h2), F)
    row = np.empty(h2 + 2 * reach, F)
    none = np.zeros(h2, F)
    for item in range(begin, end):
        c, i = item // h0, item % h0
        for j in range(h1):
            target, source = layer[j], values[c, i, j]
            for k in range(h2):
                target[k] = taps[0, 0] * source[k]
            for t in range(1, radius[0] + 1):
                weight = taps[0, t]
                after = values[c, min(i + t, h0 - 1), j] if repeat or i + t < h0 else none
                before = values[c, max(i - t, 0), j] if repeat or i >= t else none
                for k in range(h2):
                    target[k] += weight * (after[k] + before[k])
        for j in range(h1):
            target, source = row[reach : reach + h2], layer[j]
            for k in range(h2):
                target[k] = taps[1, 0] * source[k]
            for t in range(1, radius[1] + 1):
                weight = taps[1, t]
                after = layer[min(j + t, h1 - 1)] if repeat or j + t < h1 else none
                before = layer[max(j - t, 0)] if repeat or j >= t else none
                for k in range(h2):
                    target[k] += weight * (after[k] + before[k])
            for t in range(reach):
                row[t] = row[reach] if repeat else F(0.0)
                row[reach + h2 + t] = row[reach + h2 - 1] if repeat else F(0.0)
            target = out[c, i, j]
            for k in range(h2):
                target[k] = taps[2, 0] * row[reach + k]
            for t in range(1, reach + 1):
                weight, right, left = taps[2, t], row[reach + t :], row[reach - t :]
                for k in range(h2):
                    target[k] += weight * (right[k] + left[k])


@kernel(fastmath=FAST)
def composed(begin, end, field, step, out):
    """step + field o (id + step), in lines of out; |step| < 1 along each axis, so that neighbours suffice; border repeated."""
    ndim, h0, h1, h2 = field.shape
    wide = 1 if ndim == 3 else 0
    near = np.empty(h2 + 2, F)
    zero = np.zeros(h2, F)
    for item in range(begin, end):
        i, j = item // h1, item % h1
        x, z = step[0, i, j], step[ndim - 1, i, j]
        y = step[1, i, j] if ndim == 3 else zero
        for d in range(ndim):
            target, own = out[d, i, j], step[d, i, j]
            for k in range(h2):
                target[k] = own[k]
            for p in range(-1, 2):
                for q in range(-wide, wide + 1):
                    source = field[d, min(max(i + p, 0), h0 - 1), min(max(j + q, 0), h1 - 1)]
                    for k in range(h2):
                        near[k + 1] = source[k]
                    near[0], near[h2 + 1] = source[0], source[h2 - 1]
                    left, right = near[:h2], near[2:]
                    for k in range(h2):
                        u = F(1.0) - abs(x[k]) if p == 0 else max(F(p) * x[k], F(0.0))
                        v = F(1.0) - abs(y[k]) if q == 0 else max(F(q) * y[k], F(0.0))
                        w = z[k]
                        value = max(-w, F(0.0)) * left[k] + (F(1.0) - abs(w)) * source[k] + max(w, F(0.0)) * right[k]
                        target[k] += u * v * value


@kernel
def reached(begin, end, cells, reach, out):
    """1 in out (h0, h1, h2) at the nodes of cells (N, 3), each of which ends at the node of its number, and so many around."""
    h0, h1, h2 = out.shape
    for item in range(begin, end):
        i, j, k = cells[item, 0], cells[item, 1], cells[item, 2]
        for a in range(max(i - 1 - reach, 0), min(i + reach + 1, h0)):
            for b in range(max(j - 1 - reach, 0), min(j + reach + 1, h1)):
                for c in range(max(k - 1 - reach, 0), min(k + reach + 1, h2)):
                    out[a, b, c] = 1


@kernel
def touched(begin, end, nodes, out):
    """1 in out, of as many cells as nodes along each axis, or one more, at the cells that have one of the nodes (N, 3)."""
    c0, c1, c2 = out.shape
    for item in range(begin, end):
        i, j, k = nodes[item, 0], nodes[item, 1], nodes[item, 2]
        for a in range(i, min(i + 2, c0)):
            for b in range(j, min(j + 2, c1)):
                for c in range(k, min(k + 2, c2)):
                    out[a, b, c] = 1


@kernel
def softened(begin, end, field, nodes, out):
    """Binomial means of the field at the nodes (N, 3), in out; the border is repeated."""
    ndim, h0, h1, h2 = field.shape
    wide = 1 if ndim == 3 else 0
    for item in range(begin, end):
        i, j, k = nodes[item, 0], nodes[item, 1], nodes[item, 2]
        for d in range(ndim):
            total = 0.0
            for p in range(-1, 2):
                for q in range(-wide, wide + 1):
                    for r in range(-1, 2):
                        weight = (0.5 if p == 0 else 0.25) * (0.5 if r == 0 else 0.25)
                        if wide:
                            weight *= 0.5 if q == 0 else 0.25
                        a, b, c = min(max(i + p, 0), h0 - 1), min(max(j + q, 0), h1 - 1), min(max(k + r, 0), h2 - 1)
                        total += weight * field[d, a, b, c]
            out[d, i, j, k] = total
