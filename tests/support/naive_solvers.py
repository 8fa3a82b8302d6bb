"""Slow twins of the kernels of `solvers`: the definitions, with full matrices, one segment at a time."""

import numpy as np


def unpacked(band, n):
    """The lower triangle (n, n) that a band holds."""
    full = np.zeros((n, n))
    for q in range(n):
        block = q // 8
        for r in range(q % 8, band.shape[2]):
            if 8 * block + r < n:
                full[8 * block + r, q] = band[block, q % 8, r]
    return full


def packed(full, band):
    """Fill an empty band with a matrix; 1 on the diagonal where the last block has no column."""
    for q in range(8 * band.shape[0]):
        for p in range(q, min(8 * (q // 8) + band.shape[2], len(full))):
            band[q // 8, q % 8, p - 8 * (q // 8)] = full[p, q]
        if q >= len(full):
            band[q // 8, q % 8, q % 8] = 1.0
    return band


def cost(program, i, xi):
    """f_i at xi, continued with its last slopes: knot after knot."""
    part = slice(program.pointers[i], program.pointers[i + 1])
    w, g = program.widths[part], program.slopes[part]
    knots = program.lower[i] + np.concatenate([[0], np.cumsum(w)])
    f = program.values[i] + np.concatenate([[0], np.cumsum(w * g)])
    inside = min(max(xi, knots[0]), knots[-1])
    beyond = (xi - inside) * (g[0] if xi < inside else g[-1])
    if knots[-1] == knots[0]:
        return f[0] + beyond
    return np.interp(inside, knots, f) + beyond


def excess(program, i, xi):
    part = slice(program.pointers[i], program.pointers[i + 1])
    return max(program.lower[i] - xi, xi - program.lower[i] - program.widths[part].sum(), 0.0)


def conjugate(program, i, mu):
    """f_i*: the best of all knots."""
    part = slice(program.pointers[i], program.pointers[i + 1])
    w, g = program.widths[part], program.slopes[part]
    knots = program.lower[i] + np.concatenate([[0], np.cumsum(w)])
    f = program.values[i] + np.concatenate([[0], np.cumsum(w * g)])
    return np.max(mu * knots - f)


def start(program, c):
    """s, z, v (segments) and y (rows) of the first iterate."""
    rows, g, w = program.rows, program.slopes, program.widths
    s, y = np.empty(len(w)), np.empty(len(program.lower))
    xi = program.matrix @ c
    for i, (a, b) in enumerate(zip(program.pointers[:-1], program.pointers[1:], strict=True)):
        knots = program.lower[i] + np.concatenate([[0], np.cumsum(w[a:b])])
        s[a:b] = w[a:b] / 4 + np.clip(xi[i] - knots[:-1], 0, w[a:b]) / 2
        y[i] = g[a + max(np.searchsorted(knots[:-1], xi[i]) - 1, 0)]
    mu = 0.3 * np.abs(g).mean() * w.mean() + 1e-6
    return s, y, np.maximum(g - y[rows], 0) + mu / s, np.maximum(y[rows] - g, 0) + mu / (w - s)


def newton(program, c, s, y, z, v, to_z, to_v):
    """The whole Newton system, nothing eliminated: s z and t v shall become to_z and to_v, to first order."""
    A, rows = program.matrix.toarray(), program.rows
    m, n = A.shape
    S = len(s)
    E = np.zeros((m, S))
    E[rows, np.arange(S)] = 1.0
    t, one, zero = program.widths - s, np.eye(S), np.zeros
    system = np.block(
        [
            [A, -E, zero((m, m)), zero((m, S)), zero((m, S))],
            [zero((n, n)), zero((n, S)), A.T, zero((n, S)), zero((n, S))],
            [zero((S, n)), zero((S, S)), -E.T, -one, one],
            [zero((S, n)), np.diag(z), zero((S, m)), np.diag(s), zero((S, S))],
            [zero((S, n)), -np.diag(v), zero((S, m)), zero((S, S)), np.diag(t)],
        ]
    )
    right = np.concatenate(
        [program.lower + E @ s - A @ c, -A.T @ y, y[rows] + z - v - program.slopes, to_z - s * z, to_v - t * v]
    )
    return np.split(np.linalg.solve(system, right), np.cumsum([n, S, m, S]))
