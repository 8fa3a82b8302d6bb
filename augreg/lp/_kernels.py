"""Numba kernels of bundles, envelopes and rows, parallel over keypoints; those of costs are in `_cost_kernels`.

Rasters are (n0, n1, n2, C) with n0 = 1 in 2-D, as in `augreg._kernels`. A bundle at a keypoint is a set of parallel lines; its
samples are (C, L, T): channels, lines, samples along a line, NaN outside the image or its mask. A mask `allowed` without
elements allows all.
"""

import numpy as np
from numba import prange

from augreg._compile import kernel, njit
from augreg._kernels import EDGE, _cubic_weights


@kernel()
def moved_bundles(normals, across, jacobian, along, moved_across, covectors):
    """Bundles seen through a map with Jacobians J: along = q / |q|^2 with q = J^-T n, and J t for every offset t.

    normals (N, D), across (N, L, D), jacobian (N, D, D); out: along (N, D), moved_across (N, L, D), covectors q (N, D). All are
    NaN where J is singular.
    """
    count, ndim = normals.shape
    for i in prange(count):
        J, n, q = jacobian[i], normals[i], covectors[i]
        if ndim == 2:
            det = J[0, 0] * J[1, 1] - J[0, 1] * J[1, 0]
            q[0] = J[1, 1] * n[0] - J[1, 0] * n[1]
            q[1] = J[0, 0] * n[1] - J[0, 1] * n[0]
        else:
            # rows of the cofactor matrix: J^-T = cof(J) / det J
            for a in range(3):
                b, c = (a + 1) % 3, (a + 2) % 3
                q[a] = 0.0
                for d in range(3):
                    e, f = (d + 1) % 3, (d + 2) % 3
                    q[a] += (J[b, e] * J[c, f] - J[b, f] * J[c, e]) * n[d]
            det = J[0, 0] * (J[1, 1] * J[2, 2] - J[1, 2] * J[2, 1])
            det += J[0, 1] * (J[1, 2] * J[2, 0] - J[1, 0] * J[2, 2])
            det += J[0, 2] * (J[1, 0] * J[2, 1] - J[1, 1] * J[2, 0])
        size = 0.0
        for a in range(ndim):
            q[a] = q[a] / det if abs(det) > 1e-12 else np.nan
            size += q[a] * q[a]
        for a in range(ndim):
            along[i, a] = q[a] / size
            for line in range(across.shape[1]):
                total = 0.0
                for b in range(ndim):
                    total += J[a, b] * across[i, line, b]
                moved_across[i, line, a] = total


@njit(cache=True, nogil=True)
def _line_2d(values, y, z, dy, dz, out):
    """Linear interpolation along a line that lies wholly inside; values (n1, n2, C), out (C, T)."""
    n1, n2, channels = values.shape
    for t in range(out.shape[1]):
        a, b = max(y + t * dy, 0.0), max(z + t * dz, 0.0)
        q, r = min(int(a), n1 - 2), min(int(b), n2 - 2)
        v, w = np.float32(a - q), np.float32(b - r)
        for c in range(channels):
            low = values[q, r, c] + w * (values[q, r + 1, c] - values[q, r, c])
            high = values[q + 1, r, c] + w * (values[q + 1, r + 1, c] - values[q + 1, r, c])
            out[c, t] = low + v * (high - low)


@njit(cache=True, nogil=True)
def _grey_line_2d(values, y, z, dy, dz, out):
    """The same with one channel: values (n1, n2), out (T,)."""
    last, end = values.shape[0] - 2, values.shape[1] - 2
    for t in range(len(out)):
        a, b = max(y + t * dy, 0.0), max(z + t * dz, 0.0)
        q, r = min(int(a), last), min(int(b), end)
        v, w = np.float32(a - q), np.float32(b - r)
        upper, lower = values[q], values[q + 1]
        low = upper[r] + w * (upper[r + 1] - upper[r])
        high = lower[r] + w * (lower[r + 1] - lower[r])
        out[t] = low + v * (high - low)


@njit(cache=True, nogil=True)
def _line_3d(values, x, y, z, dx, dy, dz, out):
    """Linear interpolation along a line that lies wholly inside; values (n0, n1, n2, C), out (C, T)."""
    n0, n1, n2, channels = values.shape
    for t in range(out.shape[1]):
        o, a, b = max(x + t * dx, 0.0), max(y + t * dy, 0.0), max(z + t * dz, 0.0)
        p, q, r = min(int(o), n0 - 2), min(int(a), n1 - 2), min(int(b), n2 - 2)
        u, v, w = np.float32(o - p), np.float32(a - q), np.float32(b - r)
        for c in range(channels):
            near_low = values[p, q, r, c] + w * (values[p, q, r + 1, c] - values[p, q, r, c])
            near_high = values[p, q + 1, r, c] + w * (values[p, q + 1, r + 1, c] - values[p, q + 1, r, c])
            near = near_low + v * (near_high - near_low)
            far_low = values[p + 1, q, r, c] + w * (values[p + 1, q, r + 1, c] - values[p + 1, q, r, c])
            far_high = values[p + 1, q + 1, r, c] + w * (values[p + 1, q + 1, r + 1, c] - values[p + 1, q + 1, r, c])
            far = far_low + v * (far_high - far_low)
            out[c, t] = near + u * (far - near)


@njit(cache=True, nogil=True, inline="always")
def _inside(x, y, z, shape):
    return (
        x >= -EDGE
        and x <= shape[0] - 1 + EDGE
        and y >= -EDGE
        and y <= shape[1] - 1 + EDGE
        and z >= -EDGE
        and z <= shape[2] - 1 + EDGE
    )


@njit(cache=True, nogil=True)
def _line_checked(values, allowed, x, y, z, dx, dy, dz, nearest, out):
    """Samples one by one: NaN outside the voxel centres or where `allowed` is false; linear, or nearest for labels."""
    n0, n1, n2, channels = values.shape
    for t in range(out.shape[1]):
        o, a, b = x + t * dx, y + t * dy, z + t * dz
        inside = _inside(o, a, b, values.shape)
        if inside and allowed.size > 0:
            inside = allowed[int(o + 0.5), int(a + 0.5), int(b + 0.5)]
        if not inside:
            for c in range(channels):
                out[c, t] = np.nan
            continue
        if nearest:
            for c in range(channels):
                out[c, t] = values[int(o + 0.5), int(a + 0.5), int(b + 0.5), c]
            continue
        p, q, r = max(int(o), 0), max(int(a), 0), max(int(b), 0)
        u, v, w = max(o - p, 0.0), max(a - q, 0.0), max(b - r, 0.0)
        p1, q1, r1 = min(p + 1, n0 - 1), min(q + 1, n1 - 1), min(r + 1, n2 - 1)
        for c in range(channels):
            near = (1 - v) * ((1 - w) * values[p, q, r, c] + w * values[p, q, r1, c])
            near += v * ((1 - w) * values[p, q1, r, c] + w * values[p, q1, r1, c])
            if n0 > 1:
                far = (1 - v) * ((1 - w) * values[p1, q, r, c] + w * values[p1, q, r1, c])
                far += v * ((1 - w) * values[p1, q1, r, c] + w * values[p1, q1, r1, c])
                near += u * (far - near)
            out[c, t] = near


@kernel()
def sample_lines(values, allowed, nearest, origin, world_to_index, centers, along, across, first, step, out):
    """Values on bundles of lines: out[i, c, l, t] at centers[i] + across[i, l] + (first + t) step along[i]; NaN outside.

    centers, along (N, D), across (N, L, D) mm; out (N, C, L, T). Linear interpolation, or nearest for labels.
    """
    count, ndim = centers.shape
    lead = 3 - ndim
    shape = values.shape
    lines, last = out.shape[2], out.shape[3] - 1
    for i in prange(count):
        base = np.zeros(3)
        ahead = np.zeros(3)
        for line in range(lines):
            for a in range(ndim):
                base[lead + a] = 0.0
                ahead[lead + a] = 0.0
                for b in range(ndim):
                    start = centers[i, b] + across[i, line, b] - origin[b] + first * step * along[i, b]
                    base[lead + a] += world_to_index[a, b] * start
                    ahead[lead + a] += world_to_index[a, b] * step * along[i, b]
            x, y, z, dx, dy, dz = base[0], base[1], base[2], ahead[0], ahead[1], ahead[2]
            whole = (
                allowed.size == 0
                and not nearest
                and _inside(x, y, z, shape)
                and _inside(x + last * dx, y + last * dy, z + last * dz, shape)
            )
            if not whole:
                _line_checked(values, allowed, x, y, z, dx, dy, dz, nearest, out[i, :, line])
            elif ndim == 2 and shape[3] == 1:
                _grey_line_2d(values[0, :, :, 0], y, z, dy, dz, out[i, 0, line])
            elif ndim == 2:
                _line_2d(values[0], y, z, dy, dz, out[i, :, line])
            else:
                _line_3d(values, x, y, z, dx, dy, dz, out[i, :, line])


@njit(cache=True, nogil=True)
def lower_envelopes(costs, step, weights, counts, widths, slopes):
    """Segments of the lower convex hull of (x step, weights[i] costs[i, x]) for every row (monotone chain).

    counts (N,); widths, slopes (N 2X,) are filled one row after the other. Returns the number of segments.
    """
    count, length = costs.shape
    knots = np.empty(length, np.int64)
    used = 0
    for i in range(count):
        n = 0
        for x in range(length):
            while n >= 2:
                a, b = knots[n - 2], knots[n - 1]
                # b lies on or above the chord from a to x: equal slopes merge
                if (costs[i, b] - costs[i, a]) * (x - a) >= (costs[i, x] - costs[i, a]) * (b - a):
                    n -= 1
                else:
                    break
            knots[n] = x
            n += 1
        counts[i] = n - 1
        for k in range(n - 1):
            a, b = knots[k], knots[k + 1]
            widths[used] = (b - a) * step
            slopes[used] = weights[i] * (costs[i, b] - costs[i, a]) / widths[used]
            if k > 0:
                # up to rounding they ascend
                slopes[used] = max(slopes[used], slopes[used - 1])
            used += 1
    return used


@kernel()
def spline_rows(points, directions, origin, world_to_index, shape, numbers, columns, values):
    """Sparse rows n . v(p) of a B-spline displacement v with control grid `shape` (3,).

    points, directions (N, D) mm; numbers (n0 n1 n2): the position of a coefficient among the unknowns, -1 if it is fixed at 0;
    columns, values (N, 4^D D). Entries of fixed coefficients have value 0 and column 0; their number is returned.
    """
    count, ndim = points.shape
    lead = 3 - ndim
    fillers = 0
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
                    if number < 0:
                        fillers += 1
    return fillers
