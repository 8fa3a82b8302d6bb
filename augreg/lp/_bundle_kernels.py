"""Kernels of bundles, envelopes and rows, over keypoints; those of costs are in `_cost_kernels`.

Rasters are (n0, n1, n2, C) with n0 = 1 in 2-D. A bundle at a keypoint is a set of parallel lines; its samples are (C, L, T):
channels, lines, samples along a line, NaN outside the image or its mask. A mask `allowed` without elements allows all.
"""

import numpy as np

from augreg.geometry.kernels.cubic import first_knot, weights
from augreg.geometry.kernels.sampling import EDGE
from augreg.geometry.kernels.small import determinant, solved_2, solved_3
from solvers._compile import inlined, kernel


@kernel
def moved_bundles(begin, end, normals, across, jacobian, along, moved_across):
    """Bundles seen through a map with Jacobians J: along = q / |q|^2 with q = J^-T n, and J t for every offset t.

    normals (N, D), across (N, L, D), jacobian (N, D D), row by row; out: along (N, D), NaN where J is singular, moved_across
    (N, L, D).
    """
    ndim = normals.shape[1]
    for i in range(begin, end):
        J, n, r = jacobian[i], normals[i], 0.0
        if ndim == 2:
            det = J[0] * J[3] - J[1] * J[2]
            det = det if abs(det) > 1e-12 else np.nan
            p, q = solved_2(J[0], J[2], J[1], J[3], det, n[0], n[1])
        else:
            det = determinant(J[0], J[1], J[2], J[3], J[4], J[5], J[6], J[7], J[8])
            det = det if abs(det) > 1e-12 else np.nan
            p, q, r = solved_3(J[0], J[3], J[6], J[1], J[4], J[7], J[2], J[5], J[8], det, n[0], n[1], n[2])
        size = p * p + q * q + r * r
        along[i, ndim - 1] = r / size
        along[i, 0], along[i, 1] = p / size, q / size
        for line in range(across.shape[1]):
            x, y, z = across[i, line, 0], across[i, line, 1], across[i, line, ndim - 1]
            for a in range(ndim):
                total = J[a * ndim] * x + J[a * ndim + 1] * y
                moved_across[i, line, a] = total + J[a * ndim + 2] * z if ndim == 3 else total


@inlined
def _inside(x, size):
    return x >= -EDGE and x <= size - 1 + EDGE


@inlined
def _lower(x, last):
    """The lower one of two neighbours, and the share of the other."""
    x = x if x > 0.0 else 0.0
    i = np.int64(x)
    i = i if i < last else last
    return i, np.float32(x - i)


@inlined
def _linear(values, at, deep, down, right, u, v, w):
    """Linear interpolation from the flat place `at` and those one layer, row and column on; shares u, v, w float32."""
    low = values[at] + w * (values[at + right] - values[at])
    high = values[at + down] + w * (values[at + down + right] - values[at + down])
    near = low + v * (high - low)
    if deep == 0:
        return near
    at += deep
    low = values[at] + w * (values[at + right] - values[at])
    high = values[at + down] + w * (values[at + down + right] - values[at + down])
    return near + u * (low + v * (high - low) - near)


@kernel
def sample_lines(begin, end, values, shape, allowed, nearest, origin, world_to_index, centers, along, across, first, step, out):
    """Values on bundles of lines: out[i, c, l, t] at centers[i] + across[i, l] + (first + t) step along[i]; NaN outside.

    values, of `shape` (n0, n1, n2, C), and allowed are flat; centers, along (N, D), across (N, L, D) mm; out (N, C, L, T). Linear
    interpolation between voxel centres, or nearest for labels.
    """
    n0, n1, n2, channels = shape
    length, ndim = out.shape[3], centers.shape[1]
    # an axis of length one has no neighbours; an index without a sign is not asked whether it counts from the end
    deep, down = np.uint64(n1 * n2 * channels * (n0 > 1)), np.uint64(n2 * channels * (n1 > 1))
    right = np.uint64(channels * (n2 > 1))
    last_0, last_1, last_2 = n0 - 2 if n0 > 1 else 0, n1 - 2 if n1 > 1 else 0, n2 - 2 if n2 > 1 else 0
    # where a line begins and its step, index units; in 2-D the first axis has no part in it
    start, ahead = np.empty(3), np.empty(3)
    start[0], ahead[0] = 0.0, 0.0
    for i in range(begin, end):
        for a in range(ndim):
            total = 0.0
            for b in range(ndim):
                total += world_to_index[a, b] * step * along[i, b]
            ahead[3 - ndim + a] = total
        dx, dy, dz = ahead[0], ahead[1], ahead[2]
        for line in range(out.shape[2]):
            for a in range(ndim):
                total = 0.0
                for b in range(ndim):
                    total += world_to_index[a, b] * (centers[i, b] + across[i, line, b] - origin[b] + first * step * along[i, b])
                start[3 - ndim + a] = total
            x, y, z = start[0], start[1], start[2]
            whole = allowed.size == 0 and not nearest
            for t in (0, length - 1):
                whole = whole and _inside(x + t * dx, n0) and _inside(y + t * dy, n1) and _inside(z + t * dz, n2)
            row = out[i, 0, line]
            for t in range(length):
                o, p, q = x + t * dx, y + t * dy, z + t * dz
                if not whole:
                    e, f, g = np.int64(o + 0.5), np.int64(p + 0.5), np.int64(q + 0.5)
                    voxel = (e * n1 + f) * n2 + g
                    known = _inside(o, n0) and _inside(p, n1) and _inside(q, n2) and (allowed.size == 0 or allowed[voxel])
                    if nearest or not known:
                        for c in range(channels):
                            out[i, c, line, t] = values[voxel * channels + c] if known else np.nan
                        continue
                j, u = _lower(o, last_0) if deep > 0 else (0, np.float32(0.0))
                k, v = _lower(p, last_1)
                r, w = _lower(q, last_2)
                at = np.uint64(((j * n1 + k) * n2 + r) * channels)
                # grey images, the usual ones, see no loop
                row[t] = _linear(values, at, deep, down, right, u, v, w)
                for c in range(1, channels):
                    out[i, c, line, t] = _linear(values, at + np.uint64(c), deep, down, right, u, v, w)


@kernel
def lower_envelopes(costs, step, factors, knots, counts, widths, slopes):
    """Segments of the lower convex hull of (x step, factors[i] costs[i, x]) for every row (monotone chain).

    knots (2X+1,) is a buffer, counts (N,); widths, slopes (N 2X,) are filled one row after the other.
    """
    used = 0
    for i in range(costs.shape[0]):
        n = 0
        for x in range(costs.shape[1]):
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
            slopes[used] = factors[i] * (costs[i, b] - costs[i, a]) / widths[used]
            if k > 0:
                # up to rounding they ascend
                slopes[used] = max(slopes[used], slopes[used - 1])
            used += 1


@kernel
def spline_rows(begin, end, points, directions, origin, world_to_index, shape, numbers, columns, values, fillers):
    """Sparse rows n . v(p) of a B-spline displacement v with control grid `shape` (n0, n1, n2).

    points, directions (N, D) mm; numbers flat: the position of a coefficient among the unknowns, -1 if it is fixed at 0; columns,
    values (N, 4^D D). Entries of fixed coefficients have value 0 and column 0; fillers (N,) is how many of a row.
    """
    ndim = points.shape[1]
    n1, n2 = shape[1], shape[2]
    # in 2-D the first axis has one tap
    taps, corner = np.empty(12), np.empty(3, np.int64)
    taps[0], corner[0] = 1.0, 0
    for i in range(begin, end):
        for a in range(ndim):
            index = 0.0
            for b in range(ndim):
                index += world_to_index[a, b] * (points[i, b] - origin[b])
            axis = 3 - ndim + a
            knot = first_knot(index, shape[axis])
            corner[axis] = knot
            w0, w1, w2, w3 = weights(index - knot - 1.0)
            taps[4 * axis], taps[4 * axis + 1], taps[4 * axis + 2], taps[4 * axis + 3] = w0, w1, w2, w3
        entry, fixed = 0, 0
        for p in range(4 if ndim == 3 else 1):
            for q in range(4):
                at = ((corner[0] + p) * n1 + corner[1] + q) * n2 + corner[2]
                for r in range(4):
                    number = numbers[at + r]
                    weight = taps[p] * taps[4 + q] * taps[8 + r] if number >= 0 else 0.0
                    fixed += number < 0
                    for d in range(ndim):
                        columns[i, entry] = max(number, 0) * ndim + d
                        values[i, entry] = weight * directions[i, d]
                        entry += 1
        fillers[i] = fixed
