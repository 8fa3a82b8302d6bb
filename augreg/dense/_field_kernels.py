"""Kernels of displacement fields on blocks, (D, h0, h1, h2) in blocks, h1 = 1 in 2-D: filters, composition, folds."""

import numpy as np

from augreg.geometry.kernels.small import determinant
from solvers._compile import FAST, inlined, kernel

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


@inlined
def _edges(field, i, j, k, out):
    """Edges (3, 2, 2, 3) of a cell whose first corner is the node (i, j, k), of id + field: [axis, p, q] at p, q of the others.

    Beyond the border the field is repeated. Returns how far they are from those of the identity: a bound of the norm of D u in
    the cell.
    """
    _, h0, h1, h2 = field.shape
    far = 0.0
    for axis in range(3):
        worst = 0.0
        for p in range(2):
            for q in range(2):
                # the two other axes in their order
                a0 = i + (0 if axis == 0 else p)
                b0 = j + (p if axis == 0 else 0 if axis == 1 else q)
                c0 = k + (0 if axis == 2 else q)
                a1, b1, c1 = a0 + int(axis == 0), b0 + int(axis == 1), c0 + int(axis == 2)
                a0, a1 = min(max(a0, 0), h0 - 1), min(max(a1, 0), h0 - 1)
                b0, b1 = min(max(b0, 0), h1 - 1), min(max(b1, 0), h1 - 1)
                c0, c1 = min(max(c0, 0), h2 - 1), min(max(c1, 0), h2 - 1)
                norm = 0.0
                for d in range(3):
                    e = np.float64(field[d, a1, b1, c1]) - np.float64(field[d, a0, b0, c0])
                    norm += e * e
                    out[axis, p, q, d] = e
                out[axis, p, q, axis] += 1.0
                worst = max(worst, norm)
        far += worst
    return np.sqrt(far)


@inlined
def _least_flat(field, i, k):
    """The least corner of the determinant in a 2-D cell, where it is linear."""
    h0, h2 = field.shape[1], field.shape[3]
    i0, i1, k0, k1 = max(i, 0), min(i + 1, h0 - 1), max(k, 0), min(k + 1, h2 - 1)
    least = np.inf
    for q in range(2):
        n = k1 if q else k0
        x0 = 1.0 + np.float64(field[0, i1, 0, n]) - np.float64(field[0, i0, 0, n])
        x1 = np.float64(field[1, i1, 0, n]) - np.float64(field[1, i0, 0, n])
        for p in range(2):
            m = i1 if p else i0
            z0 = np.float64(field[0, m, 0, k1]) - np.float64(field[0, m, 0, k0])
            z1 = 1.0 + np.float64(field[1, m, 0, k1]) - np.float64(field[1, m, 0, k0])
            least = min(least, x0 * z1 - x1 * z0)
    return least


@inlined
def _least(e):
    """The least Bernstein coefficient of the determinant in a 3-D cell, from its edges: none below it in the whole cell.

    The determinant is of degree 2 in each variable. Along an axis the edges x are linear in the two other variables, so that
    with B_p B_q = B_{p+q} / binomial(2, p + q) coefficient (i, j, k) is the sum of det(x_{bc}, y_{ac'}, z_{a'b'}) over
    a + a' = i, b + b' = j, c + c' = k, divided by the binomials.
    """
    least = np.inf
    for i in range(3):
        for j in range(3):
            for k in range(3):
                total = 0.0
                for a in range(max(i - 1, 0), min(i, 1) + 1):
                    for b in range(max(j - 1, 0), min(j, 1) + 1):
                        for c in range(max(k - 1, 0), min(k, 1) + 1):
                            x, y, z = e[0, b, c], e[1, a, k - c], e[2, i - a, j - b]
                            total += determinant(x[0], y[0], z[0], x[1], y[1], z[1], x[2], y[2], z[2])
                binomials = (2.0 if i == 1 else 1.0) * (2.0 if j == 1 else 1.0) * (2.0 if k == 1 else 1.0)
                least = min(least, total / binomials)
    return least


@kernel
def folded(begin, end, field, guard, harmless, out):
    """Which cells may have a determinant below `guard`, in lines of out (h0 + 1, h1 + 1, h2 + 1), 1 or 0.

    Cell (i, j, k) begins at node (i - 1, j - 1, k - 1): those of the border are half outside, where the field is repeated.
    Where a 3-D field changes less than `harmless`, no determinant is: det(1 + E) >= (1 - |E|)^3.
    """
    flat = field.shape[0] == 2
    c1, c2 = out.shape[1], out.shape[2]
    e = np.empty((3, 2, 2, 3))
    for item in range(begin, end):
        i, j = item // c1, item % c1
        for k in range(c2):
            if flat:
                out[i, j, k] = _least_flat(field, i - 1, k - 1) < guard
            else:
                out[i, j, k] = _edges(field, i - 1, j - 1, k - 1, e) > harmless and _least(e) < guard


@kernel
def softened(begin, end, field, where, out):
    """Binomial means of the field at the nodes `where` is not 0, in lines of out; the border is repeated."""
    ndim, h0, h1, h2 = field.shape
    wide = 1 if ndim == 3 else 0
    for item in range(begin, end):
        i, j = item // h1, item % h1
        for k in range(h2):
            for d in range(ndim):
                out[d, i, j, k] = field[d, i, j, k]
                if where[i, j, k]:
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
