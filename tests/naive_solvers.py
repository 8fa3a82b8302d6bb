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


def start(program):
    """s, z, v (segments) and y (rows) of the first iterate."""
    rows, g = program.rows, program.slopes
    y = np.array([g[a + (b - a) // 2] for a, b in zip(program.pointers[:-1], program.pointers[1:], strict=True)])
    margin = 0.1 * np.abs(g).mean() + 1e-6
    return program.widths / 2, y, np.maximum(g - y[rows], 0) + margin, np.maximum(y[rows] - g, 0) + margin


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


def furthest(now, step):
    """The largest length up to 1 that keeps now + length * step >= 0."""
    return min([1.0, *(-now / step)[step < 0]])


def step(program, c, s, y, z, v):
    """One predictor-corrector step."""
    t = program.widths - s
    zero = np.zeros(len(s))
    _, ds, _, dz, dv = newton(program, c, s, y, z, v, zero, zero)
    a, b = min(furthest(s, ds), furthest(t, -ds)), min(furthest(z, dz), furthest(v, dv))
    now = s @ z + t @ v
    ahead = (s + a * ds) @ (z + b * dz) + (t - a * ds) @ (v + b * dv)
    aim = now / (2 * len(s)) * (ahead / now) ** 3
    dc, ds, dy, dz, dv = newton(program, c, s, y, z, v, aim - ds * dz, aim + ds * dv)
    a = min(1.0, 0.995 * min(furthest(s / 1e9, ds), furthest(t / 1e9, -ds)) * 1e9)
    b = min(1.0, 0.995 * min(furthest(z / 1e9, dz), furthest(v / 1e9, dv)) * 1e9)
    return c + a * dc, s + a * ds, y + b * dy, z + b * dz, v + b * dv
