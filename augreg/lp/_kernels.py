"""Numba kernels of the boundary-sampling registration, parallel over keypoints.

Rasters are (n0, n1, n2, C) with n0 = 1 in 2-D, as in `augreg._kernels`. A bundle at a keypoint is a set of parallel lines; its
samples are (C, L, T): channels, lines, samples along a line, NaN outside the image or its mask. A mask `allowed` without
elements allows all.
"""

import numpy as np
from numba import njit, prange

from augreg._kernels import EDGE, _cubic_weights


@njit(cache=True, parallel=True, nogil=True)
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


@njit(cache=True, parallel=True, nogil=True)
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
            elif ndim == 2:
                _line_2d(values[0], y, z, dy, dz, out[i, :, line])
            else:
                _line_3d(values, x, y, z, dx, dy, dz, out[i, :, line])


@njit(cache=True, nogil=True)
def _whole(samples):
    """Whether a bundle (C, L, T) is free of NaN."""
    total = 0.0
    for c in range(samples.shape[0]):
        for line in range(samples.shape[1]):
            for t in range(samples.shape[2]):
                total += samples[c, line, t]
    return not np.isnan(total)


@njit(cache=True, parallel=True, nogil=True)
def ncc_costs(fixed, moving, ratio, floor, least, out):
    """1 - NCC of fixed (N, C, L, 2H+1) with moving (N, C, L, 2(H ratio + X)+1) shifted by -X..X steps; out (N, 2X+1).

    Per channel, averaged. `floor` (2, C), a variance of noise, keeps flat profiles from matching by chance. Pairs with a sample
    outside are left out; NaN where fewer than `least` of the samples remain.
    """
    count, channels, lines, length = fixed.shape
    shifts = out.shape[1]
    for i in prange(count):
        sm, smm, sfm = np.empty(shifts), np.empty(shifts), np.empty(shifts)
        out[i] = 0.0
        if _whole(fixed[i]) and _whole(moving[i]):
            # all shifts at once: the inner loop runs over neighbours in memory
            n = lines * length
            for c in range(channels):
                sf, sff = 0.0, 0.0
                sm[:] = 0.0
                smm[:] = 0.0
                sfm[:] = 0.0
                for line in range(lines):
                    for h in range(length):
                        f = np.float64(fixed[i, c, line, h])
                        sf += f
                        sff += f * f
                        row = moving[i, c, line, h * ratio : h * ratio + shifts]
                        for shift in range(shifts):
                            m = np.float64(row[shift])
                            sm[shift] += m
                            smm[shift] += m * m
                            sfm[shift] += f * m
                vf = max(sff / n - (sf / n) ** 2, 0.0) + floor[0, c]
                for shift in range(shifts):
                    vm = max(smm[shift] / n - (sm[shift] / n) ** 2, 0.0) + floor[1, c]
                    covariance = sfm[shift] / n - sf / n * (sm[shift] / n)
                    out[i, shift] += (1.0 - covariance / np.sqrt(vf * vm)) / channels
            continue
        for shift in range(shifts):
            for c in range(channels):
                n = 0
                a, b, aa, bb, ab = 0.0, 0.0, 0.0, 0.0, 0.0
                for line in range(lines):
                    for h in range(length):
                        f, m = np.float64(fixed[i, c, line, h]), np.float64(moving[i, c, line, h * ratio + shift])
                        if not np.isnan(f + m):
                            n += 1
                            a += f
                            b += m
                            aa += f * f
                            bb += m * m
                            ab += f * m
                if n >= least * lines * length and n > 1:
                    vf, vm = max(aa / n - (a / n) ** 2, 0.0), max(bb / n - (b / n) ** 2, 0.0)
                    covariance = ab / n - a / n * (b / n)
                    out[i, shift] += (1.0 - covariance / np.sqrt((vf + floor[0, c]) * (vm + floor[1, c]))) / channels
                else:
                    out[i, shift] = np.nan


@njit(cache=True, parallel=True, nogil=True)
def ssd_costs(fixed, moving, ratio, variance, least, out):
    """Mean squared difference over channels, divided by `variance` (C,); shapes and NaN as in `ncc_costs`."""
    count, channels, lines, length = fixed.shape
    shifts = out.shape[1]
    for i in prange(count):
        n = np.zeros(shifts, np.int64)
        total = np.zeros(shifts)
        for c in range(channels):
            for line in range(lines):
                for h in range(length):
                    f = np.float64(fixed[i, c, line, h])
                    for shift in range(shifts):
                        d = f - np.float64(moving[i, c, line, h * ratio + shift])
                        if not np.isnan(d):
                            n[shift] += 1
                            total[shift] += d * d / variance[c]
        for shift in range(shifts):
            enough = n[shift] >= least * lines * length * channels and n[shift] > 0
            out[i, shift] = total[shift] / n[shift] if enough else np.nan


@njit(cache=True, parallel=True, nogil=True)
def classify(samples, bounds, out):
    """Classes (N, L, T) of samples (N, C, L, T), by their mean over channels: the first ascending bound above; -1 for NaN."""
    count, channels, lines, length = samples.shape
    for i in prange(count):
        for line in range(lines):
            for t in range(length):
                value = 0.0
                for c in range(channels):
                    value += samples[i, c, line, t]
                value /= channels
                if np.isnan(value):
                    out[i, line, t] = -1
                    continue
                low, high = 0, len(bounds) - 1
                while low < high:
                    middle = (low + high) // 2
                    if bounds[middle] < value:
                        low = middle + 1
                    else:
                        high = middle
                out[i, line, t] = low


@njit(cache=True, parallel=True, nogil=True)
def table_costs(fixed, moving, ratio, table, least, out):
    """Mean of table[f, m] over classes f (N, L, 2H+1), m (N, L, ...), -1 for outside; shapes and NaN as in `ncc_costs`."""
    count, lines, length = fixed.shape
    shifts = out.shape[1]
    for i in prange(count):
        n = np.zeros(shifts, np.int64)
        total = np.zeros(shifts)
        for line in range(lines):
            for h in range(length):
                f = fixed[i, line, h]
                if f < 0:
                    continue
                for shift in range(shifts):
                    m = moving[i, line, h * ratio + shift]
                    if m >= 0:
                        n[shift] += 1
                        total[shift] += table[f, m]
        for shift in range(shifts):
            enough = n[shift] >= least * lines * length and n[shift] > 0
            out[i, shift] = total[shift] / n[shift] if enough else np.nan


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


@njit(cache=True, parallel=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _derivatives(moving, c, side, scale, values, slopes):
    """Values (n,) and derivatives (D, n) along normal and tangents of a bundle's inner samples, by central differences.

    moving (C, (side + 2)^(D-1), T + 2) has one more line and sample all around; scale = 1 / (2 step).
    """
    length = moving.shape[2] - 2
    wide = side + 2
    flat = len(slopes) == 2
    for a in range(1 if flat else side):
        for b in range(side):
            at = b + 1 if flat else (a + 1) * wide + b + 1
            first = (a * side + b) * length
            for t in range(length):
                k = first + t
                values[k] = moving[c, at, t + 1]
                slopes[0, k] = (moving[c, at, t + 2] - moving[c, at, t]) * scale
                slopes[len(slopes) - 1, k] = (moving[c, at + 1, t + 1] - moving[c, at - 1, t + 1]) * scale
                if not flat:
                    slopes[1, k] = (moving[c, at + wide, t + 1] - moving[c, at - wide, t + 1]) * scale


@njit(cache=True, parallel=True, nogil=True, fastmath={"reassoc", "contract"})
def ncc_tensors(fixed, moving, side, step, floor, hessian, gradient):
    """Second and first derivatives of 1 - NCC of every bundle by a shift w along its normal and tangents, mm.

    With f', g' centred and scaled to unit norm, 1 - NCC = |f' - g'|^2 / 2; Gauss-Newton: H = sum dg'/dw dg'/dw^T and
    gradient = -sum dg'/dw f'. fixed (N, C, side^(D-1), T), moving (N, C, (side + 2)^(D-1), T + 2); hessian (N, D, D), gradient
    (N, D): 0 for bundles with a sample outside.
    """
    count, channels, lines, length = fixed.shape
    ndim = gradient.shape[1]
    n = lines * length
    for i in prange(count):
        hessian[i] = 0.0
        gradient[i] = 0.0
        if not (_whole(fixed[i]) and _whole(moving[i])):
            continue
        slopes = np.empty((ndim, n))
        g = np.empty(n)
        for c in range(channels):
            _derivatives(moving[i], c, side, 0.5 / step, g, slopes)
            f = fixed[i, c].ravel()
            sf, sff, sg, sgg, sfg = 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(n):
                a, b = np.float64(f[k]), g[k]
                sf += a
                sff += a * a
                sg += b
                sgg += b * b
                sfg += a * b
            vf = sff - sf * sf / n + n * floor[0, c]
            vg = sgg - sg * sg / n + n * floor[1, c]
            size = np.sqrt(vf * vg)
            for a in range(ndim):
                s, sa, saf, sag = slopes[a], 0.0, 0.0, 0.0
                for k in range(n):
                    sa += s[k]
                    saf += s[k] * f[k]
                    sag += s[k] * g[k]
                # centred products; g' is projected out of dg'
                along_f, along_g = saf - sa * sf / n, sag - sa * sg / n
                gradient[i, a] -= (along_f - along_g * (sfg - sf * sg / n) / vg) / size / channels
                for b in range(a + 1):
                    other, sb, sbg, sab = slopes[b], 0.0, 0.0, 0.0
                    for k in range(n):
                        sb += other[k]
                        sbg += other[k] * g[k]
                        sab += s[k] * other[k]
                    product = sab - sa * sb / n - along_g * (sbg - sb * sg / n) / vg
                    hessian[i, a, b] += product / vg / channels
                    hessian[i, b, a] = hessian[i, a, b]


@njit(cache=True, parallel=True, nogil=True, fastmath={"reassoc", "contract"})
def ssd_tensors(fixed, moving, side, step, variance, hessian, gradient):
    """As `ncc_tensors`, of the mean squared difference over channels divided by `variance` (C,)."""
    count, channels, lines, length = fixed.shape
    ndim = gradient.shape[1]
    n = lines * length
    for i in prange(count):
        hessian[i] = 0.0
        gradient[i] = 0.0
        if not (_whole(fixed[i]) and _whole(moving[i])):
            continue
        slopes = np.empty((ndim, n))
        g = np.empty(n)
        for c in range(channels):
            scale = 2.0 / (variance[c] * channels * n)
            _derivatives(moving[i], c, side, 0.5 / step, g, slopes)
            f = fixed[i, c].ravel()
            for a in range(ndim):
                s, total = slopes[a], 0.0
                for k in range(n):
                    total += s[k] * (f[k] - g[k])
                gradient[i, a] -= scale * total
                for b in range(a + 1):
                    other, total = slopes[b], 0.0
                    for k in range(n):
                        total += s[k] * other[k]
                    hessian[i, a, b] += scale * total
                    hessian[i, b, a] = hessian[i, a, b]
