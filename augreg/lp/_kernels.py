"""Numba kernels of the boundary-sampling registration, parallel over keypoints.

Rasters are (n0, n1, n2, C) with n0 = 1 in 2-D, as in `augreg._kernels`.
"""

import numpy as np
from numba import njit, prange

from augreg._kernels import EDGE, _cubic_weights


@njit(cache=True, parallel=True, nogil=True)
def gradient(values, scale, out):
    """World-scaled central differences along the index axes: values (n0, n1, n2, C), out (n0, n1, n2, 3).

    Of several channels the one with the largest gradient counts. scale (3,): 1 / (2 spacing), 0 for an axis of length one.
    """
    n0, n1, n2, channels = values.shape
    for i in prange(n0):
        for j in range(n1):
            for k in range(n2):
                best = -1.0
                i0, i1, j0, j1, k0, k1 = (
                    max(i - 1, 0),
                    min(i + 1, n0 - 1),
                    max(j - 1, 0),
                    min(j + 1, n1 - 1),
                    max(k - 1, 0),
                    min(k + 1, n2 - 1),
                )
                for c in range(channels):
                    x = (values[i1, j, k, c] - values[i0, j, k, c]) * scale[0]
                    y = (values[i, j1, k, c] - values[i, j0, k, c]) * scale[1]
                    z = (values[i, j, k1, c] - values[i, j, k0, c]) * scale[2]
                    size = x * x + y * y + z * z
                    if size > best:
                        best = size
                        out[i, j, k, 0], out[i, j, k, 1], out[i, j, k, 2] = x, y, z


@njit(cache=True, parallel=True, nogil=True)
def strongest_per_cell(gradients, allowed, cell, margin, indices, strengths):
    """Index of the voxel with the largest gradient in every cell, (cells, 3), and its squared size; -1 where none is allowed."""
    n0, n1, n2, _ = gradients.shape
    c1, c2 = -(-n1 // cell[1]), -(-n2 // cell[2])
    for number in prange(indices.shape[0]):
        a, b, d = number // (c1 * c2), (number // c2) % c1, number % c2
        best = 0.0
        indices[number, 0] = -1
        for i in range(max(a * cell[0], margin[0]), min((a + 1) * cell[0], n0 - margin[0])):
            for j in range(max(b * cell[1], margin[1]), min((b + 1) * cell[1], n1 - margin[1])):
                for k in range(max(d * cell[2], margin[2]), min((d + 1) * cell[2], n2 - margin[2])):
                    g = gradients[i, j, k]
                    size = g[0] * g[0] + g[1] * g[1] + g[2] * g[2]
                    if size > best and allowed[i, j, k]:
                        best = size
                        indices[number, 0], indices[number, 1], indices[number, 2] = i, j, k
        strengths[number] = best


@njit(cache=True, parallel=True, nogil=True)
def sample_lines(values, allowed, origin, world_to_index, centers, along, across, first, step, nearest, out):
    """Values on bundles of lines: out[i, l, t] at centers[i] + across[i, l] + (first + t) step along[i]; NaN outside.

    centers, along (N, D), across (N, L, D) mm; out (N, L, T, C). Linear interpolation, or nearest for labels.
    """
    count, ndim = centers.shape
    n0, n1, n2, channels = values.shape
    lead = 3 - ndim
    for i in prange(count):
        base = np.zeros(3)
        ahead = np.zeros(3)
        for line in range(across.shape[1]):
            for a in range(ndim):
                base[lead + a] = 0.0
                ahead[lead + a] = 0.0
                for b in range(ndim):
                    start = centers[i, b] + across[i, line, b] - origin[b] + first * step * along[i, b]
                    base[lead + a] += world_to_index[a, b] * start
                    ahead[lead + a] += world_to_index[a, b] * step * along[i, b]
            for t in range(out.shape[2]):
                x, y, z = base[0] + t * ahead[0], base[1] + t * ahead[1], base[2] + t * ahead[2]
                inside = (
                    x >= -EDGE and x <= n0 - 1 + EDGE and y >= -EDGE and y <= n1 - 1 + EDGE and z >= -EDGE and z <= n2 - 1 + EDGE
                )
                if inside:
                    inside = allowed[int(x + 0.5), int(y + 0.5), int(z + 0.5)]
                if not inside:
                    for c in range(channels):
                        out[i, line, t, c] = np.nan
                    continue
                if nearest:
                    for c in range(channels):
                        out[i, line, t, c] = values[int(x + 0.5), int(y + 0.5), int(z + 0.5), c]
                    continue
                p, q, r = max(int(x), 0), max(int(y), 0), max(int(z), 0)
                u, v, w = max(x - p, 0.0), max(y - q, 0.0), max(z - r, 0.0)
                p1, q1, r1 = min(p + 1, n0 - 1), min(q + 1, n1 - 1), min(r + 1, n2 - 1)
                for c in range(channels):
                    near = (1 - v) * ((1 - w) * values[p, q, r, c] + w * values[p, q, r1, c])
                    near += v * ((1 - w) * values[p, q1, r, c] + w * values[p, q1, r1, c])
                    if n0 > 1:
                        far = (1 - v) * ((1 - w) * values[p1, q, r, c] + w * values[p1, q, r1, c])
                        far += v * ((1 - w) * values[p1, q1, r, c] + w * values[p1, q1, r1, c])
                        near += u * (far - near)
                    out[i, line, t, c] = near


@njit(cache=True, parallel=True, nogil=True)
def ncc_costs(fixed, moving, ratio, floor, least, out):
    """1 - NCC of fixed (N, L, 2H+1, C) with moving (N, L, 2(H ratio + X)+1, C) shifted by -X..X steps; out (N, 2X+1).

    Per channel, averaged. `floor` (2, C), a variance of noise, keeps flat profiles from matching by chance. Pairs with a sample
    outside are left out; NaN where fewer than `least` of the samples remain.
    """
    count, lines, length, channels = fixed.shape
    for i in prange(count):
        for shift in range(out.shape[1]):
            total, used = 0.0, 0
            for c in range(channels):
                n = 0
                sf, sm, sff, smm, sfm = 0.0, 0.0, 0.0, 0.0, 0.0
                for line in range(lines):
                    for h in range(length):
                        f, m = np.float64(fixed[i, line, h, c]), np.float64(moving[i, line, h * ratio + shift, c])
                        if not np.isnan(f + m):
                            n += 1
                            sf += f
                            sm += m
                            sff += f * f
                            smm += m * m
                            sfm += f * m
                if n >= least * lines * length and n > 1:
                    vf, vm = max(sff / n - (sf / n) ** 2, 0.0), max(smm / n - (sm / n) ** 2, 0.0)
                    covariance = sfm / n - sf / n * (sm / n)
                    total += 1.0 - covariance / np.sqrt((vf + floor[0, c]) * (vm + floor[1, c]))
                    used += 1
            out[i, shift] = total / used if used == channels else np.nan


@njit(cache=True, parallel=True, nogil=True)
def ssd_costs(fixed, moving, ratio, variance, least, out):
    """Mean squared difference over channels, divided by `variance` (C,); shapes and NaN as in `ncc_costs`."""
    count, lines, length, channels = fixed.shape
    for i in prange(count):
        for shift in range(out.shape[1]):
            n, total = 0, 0.0
            for line in range(lines):
                for h in range(length):
                    for c in range(channels):
                        d = np.float64(fixed[i, line, h, c]) - np.float64(moving[i, line, h * ratio + shift, c])
                        if not np.isnan(d):
                            n += 1
                            total += d * d / variance[c]
            out[i, shift] = total / n if n >= least * lines * length * channels and n > 0 else np.nan


@njit(cache=True, parallel=True, nogil=True)
def table_costs(fixed, moving, ratio, table, least, out):
    """Mean of table[f, m] over classes f (N, L, 2H+1), m (N, L, ...), -1 for outside; shapes and NaN as in `ncc_costs`."""
    count, lines, length = fixed.shape
    for i in prange(count):
        for shift in range(out.shape[1]):
            n, total = 0, 0.0
            for line in range(lines):
                for h in range(length):
                    f, m = fixed[i, line, h], moving[i, line, h * ratio + shift]
                    if f >= 0 and m >= 0:
                        n += 1
                        total += table[f, m]
            out[i, shift] = total / n if n >= least * lines * length and n > 0 else np.nan


@njit(cache=True, nogil=True)
def joint_histogram(fixed, moving, ratio, shift, out):
    """Counts of class pairs (f, m) at one shift, added to out (F, M)."""
    count, lines, length = fixed.shape
    for i in range(count):
        for line in range(lines):
            for h in range(length):
                f, m = fixed[i, line, h], moving[i, line, h * ratio + shift]
                if f >= 0 and m >= 0:
                    out[f, m] += 1.0


@njit(cache=True, parallel=True, nogil=True)
def lower_envelopes(costs, knots, counts):
    """Vertices of the lower convex hull of (x, costs[i, x]) for every row: columns in knots[i, :counts[i]] (monotone chain)."""
    count, length = costs.shape
    for i in prange(count):
        n = 0
        for x in range(length):
            while n >= 2:
                a, b = knots[i, n - 2], knots[i, n - 1]
                # b lies on or above the chord from a to x: equal slopes merge
                if (costs[i, b] - costs[i, a]) * (x - a) >= (costs[i, x] - costs[i, a]) * (b - a):
                    n -= 1
                else:
                    break
            knots[i, n] = x
            n += 1
        counts[i] = n


@njit(cache=True, parallel=True, nogil=True)
def spline_rows(points, directions, origin, world_to_index, shape, numbers, columns, values):
    """Sparse rows n . v(p) of a B-spline displacement v with control grid `shape` (3,).

    points, directions (N, D) mm; numbers (n0 n1 n2): the position of a coefficient among the unknowns, -1 if it is fixed at 0;
    columns, values (N, 4^D D). Entries of fixed coefficients have value 0 and column 0.
    """
    count, ndim = points.shape
    lead = 3 - ndim
    for i in prange(count):
        weights = np.zeros((3, 4))
        weights[0, 0] = 1.0
        first = np.zeros(3, np.int64)
        for a in range(ndim):
            index = 0.0
            for b in range(ndim):
                index += world_to_index[a, b] * (points[i, b] - origin[b])
            size = shape[lead + a]
            first[lead + a] = min(max(int(np.floor(index)) - 1, 0), size - 4)
            _cubic_weights(index - first[lead + a] - 1.0, weights[lead + a])
        entry = 0
        for p in range(1 if ndim == 2 else 4):
            for q in range(4):
                for r in range(4):
                    w = weights[0, p] * weights[1, q] * weights[2, r]
                    number = numbers[first[0] + p, first[1] + q, first[2] + r]
                    for d in range(ndim):
                        columns[i, entry] = max(number, 0) * ndim + d
                        values[i, entry] = w * directions[i, d] if number >= 0 else 0.0
                        entry += 1
