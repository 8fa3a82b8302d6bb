"""Determinants of id + u in cells between nodes, where u is multilinear: fields are (D, h0, h1, h2) in steps of the nodes."""

import numpy as np

from augreg.geometry.kernels.small import determinant
from solvers._compile import inlined, kernel

F = np.float32


@inlined
def _edges(field, i, j, k, out):
    """Edges (3, 2, 2, 3) of a cell whose first corner is the node (i, j, k), of id + field: [axis, p, q] at p, q of the others.

    Beyond the border the field is repeated.
    """
    _, h0, h1, h2 = field.shape
    for axis in range(3):
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
                for d in range(3):
                    out[axis, p, q, d] = np.float64(field[d, a1, b1, c1]) - np.float64(field[d, a0, b0, c0])
                out[axis, p, q, axis] += 1.0


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


@inlined
def _permanent(a, b, c, d, e, f, g, h, i):
    """The determinant with plus signs alone."""
    return a * (e * i + f * h) + b * (d * i + f * g) + c * (d * h + e * g)


@inlined
def _is_below(field, i, j, k, guard, e, m, r):
    """Whether a coefficient of a 3-D cell is below `guard`; e (3, 2, 2, 3), m and r (3, 3) are scratch.

    First all edges of an axis are taken as one, m, give or take r: a determinant of such columns differs from that of m by no
    more than the permanent of |m| + r from that of |m|.
    """
    _edges(field, i, j, k, e)
    for a in range(3):
        for d in range(3):
            low = min(min(e[a, 0, 0, d], e[a, 0, 1, d]), min(e[a, 1, 0, d], e[a, 1, 1, d]))
            high = max(max(e[a, 0, 0, d], e[a, 0, 1, d]), max(e[a, 1, 0, d], e[a, 1, 1, d]))
            m[a, d], r[a, d] = 0.5 * (low + high), 0.5 * (high - low)
    least = determinant(m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2], m[2, 0], m[2, 1], m[2, 2])
    for a in range(3):
        for d in range(3):
            m[a, d] = abs(m[a, d])
            r[a, d] += m[a, d]
    least += _permanent(m[0, 0], m[0, 1], m[0, 2], m[1, 0], m[1, 1], m[1, 2], m[2, 0], m[2, 1], m[2, 2])
    least -= _permanent(r[0, 0], r[0, 1], r[0, 2], r[1, 0], r[1, 1], r[1, 2], r[2, 0], r[2, 1], r[2, 2])
    return least < guard + 1e-9 and _least(e) < guard


@kernel
def doubtful_among(begin, end, cells, field, guard, out):
    """Which of some cells (N, 3) may have a determinant below `guard`, 1 or 0 in out (N,); numbers as those of `doubtful`."""
    e, m, r = np.empty((3, 2, 2, 3)), np.empty((3, 3)), np.empty((3, 3))
    for item in range(begin, end):
        i, j, k = cells[item, 0] - 1, cells[item, 1] - 1, cells[item, 2] - 1
        if len(field) == 2:
            out[item] = _least_flat(field, i, k) < guard
        else:
            out[item] = _is_below(field, i, j, k, guard, e, m, r)


@inlined
def _widest(first, second, out):
    """out (N,) at least the squared distances of two lines of vectors, (D, N) each."""
    p0, p1, q0, q1 = first[0], first[1], second[0], second[1]
    if len(first) == 2:
        for k in range(len(out)):
            x, y = q0[k] - p0[k], q1[k] - p1[k]
            out[k] = max(out[k], x * x + y * y)
    else:
        p2, q2 = first[2], second[2]
        for k in range(len(out)):
            x, y, z = q0[k] - p0[k], q1[k] - p1[k], q2[k] - p2[k]
            out[k] = max(out[k], x * x + y * y + z * z)


@kernel
def doubtful(begin, end, field, guard, harmless, out):
    """Which cells may have a determinant below `guard`, in lines of out (h0 + 1, h1 + 1, h2 + 1), 1 or 0.

    Cell (i, j, k) begins at node (i - 1, j - 1, k - 1): those of the border are half outside, where the field is repeated.
    Where the field changes less than `harmless`, no determinant is: det(1 + E) >= (1 - |E|)^D. |E| is at most the root of the
    sum, over the axes, of the longest edge's square: a look at whole lines, which leaves few cells.
    """
    ndim, h0, h1, h2 = field.shape
    c1, c2 = out.shape[1], out.shape[2]
    e, m, r = np.empty((3, 2, 2, 3)), np.empty((3, 3)), np.empty((3, 3))
    least_far = harmless * harmless * (1.0 - 1e-5)
    # of nodes along the first two axes, of edges along the last one
    across, along, far = np.empty(h2, F), np.empty(h2 - 1, F), np.empty(c2, F)
    for item in range(begin, end):
        i, j = item // c1, item % c1
        a0, a1, b0, b1 = max(i - 1, 0), min(i, h0 - 1), max(j - 1, 0), min(j, h1 - 1)
        for k in range(c2):
            far[k] = F(0.0)
        for axis in range(2):
            for k in range(h2):
                across[k] = F(0.0)
            if axis == 0:
                _widest(field[:, a0, b0], field[:, a1, b0], across)
                _widest(field[:, a0, b1], field[:, a1, b1], across)
            else:
                _widest(field[:, a0, b0], field[:, a0, b1], across)
                _widest(field[:, a1, b0], field[:, a1, b1], across)
            far[0] += across[0]
            far[h2] += across[h2 - 1]
            inner, after = far[1:h2], across[1:]
            for k in range(h2 - 1):
                inner[k] += max(across[k], after[k])
        for k in range(h2 - 1):
            along[k] = F(0.0)
        for p in range(2):
            for q in range(2):
                line = field[:, a1 if p else a0, b1 if q else b0]
                _widest(line[:, : h2 - 1], line[:, 1:], along)
        inner = far[1:h2]
        for k in range(h2 - 1):
            inner[k] += along[k]
        for k in range(c2):
            out[i, j, k] = 0
            if far[k] > least_far:
                if ndim == 2:
                    out[i, j, k] = _least_flat(field, i - 1, k - 1) < guard
                else:
                    out[i, j, k] = _is_below(field, i - 1, j - 1, k - 1, guard, e, m, r)
