"""Kernels of costs and their derivatives, over keypoints.

A keypoint's bundle is a set of `lines` parallel lines; its samples are (C, L T): channels, and the T samples of one line after
the other; NaN outside the image or its mask. A bundle of the fixed image has 2H+1 samples a line, one of the moving image
2(H ratio + X)+1: at `ratio` samples for one of the fixed image, X to each side are left over.
"""

import numpy as np

from solvers._compile import inlined, kernel

_LOOPS = frozenset({"reassoc", "contract"})


@inlined(fastmath=frozenset({"reassoc"}))
def _whole(samples):
    """Whether samples (C, n) are free of NaN: a sum is NaN if one of its parts is."""
    total = np.float32(0.0)
    for c in range(samples.shape[0]):
        for k in range(samples.shape[1]):
            total += samples[c, k]
    return not np.isnan(total)


@inlined
def correlation(n, a, b, aa, bb, ab, noise_f, noise_m):
    """NCC of n pairs from their sums and sums of products; the noises are added to the variances."""
    vf, vm = max(aa / n - (a / n) ** 2, 0.0) + noise_f, max(bb / n - (b / n) ** 2, 0.0) + noise_m
    return (ab / n - a / n * (b / n)) / np.sqrt(vf * vm)


@kernel
def ncc_costs(begin, end, fixed, moving, lines, ratio, floor, least, out):
    """1 - NCC of fixed (N, C, L T) with moving (N, C, L ...) shifted by -X..X steps; out (N, 2X+1).

    Per channel, averaged. `floor` (2, C), a variance of noise, keeps flat profiles from matching by chance. Pairs with a sample
    outside are left out; NaN where fewer than `least` of the samples remain.
    """
    channels, n = fixed.shape[1], fixed.shape[2]
    shifts = out.shape[1]
    length, wide = n // lines, moving.shape[2] // lines
    buffer = np.empty(3 * shifts)
    sm, smm, sfm = buffer[:shifts], buffer[shifts : 2 * shifts], buffer[2 * shifts :]
    for i in range(begin, end):
        for shift in range(shifts):
            out[i, shift] = 0.0
        whole = shifts > 1 and _whole(fixed[i]) and _whole(moving[i])
        for c in range(channels):
            noise_f, noise_m = floor[0, c], floor[1, c]
            if whole:
                a, aa = 0.0, 0.0
                for shift in range(shifts):
                    sm[shift] = 0.0
                    smm[shift] = 0.0
                    sfm[shift] = 0.0
                # all shifts at once: the inner loop runs over neighbours in memory
                for line in range(lines):
                    for h in range(length):
                        f = np.float64(fixed[i, c, line * length + h])
                        a += f
                        aa += f * f
                        row = moving[i, c, line * wide + h * ratio :]
                        for shift in range(shifts):
                            m = np.float64(row[shift])
                            sm[shift] += m
                            smm[shift] += m * m
                            sfm[shift] += f * m
                for shift in range(shifts):
                    ncc = correlation(n, a, sm[shift], aa, smm[shift], sfm[shift], noise_f, noise_m)
                    out[i, shift] += (1.0 - ncc) / channels
                continue
            for shift in range(shifts):
                k, a, b, aa, bb, ab = 0, 0.0, 0.0, 0.0, 0.0, 0.0
                for line in range(lines):
                    for h in range(length):
                        f = np.float64(fixed[i, c, line * length + h])
                        m = np.float64(moving[i, c, line * wide + h * ratio + shift])
                        if not np.isnan(f + m):
                            k += 1
                            a += f
                            b += m
                            aa += f * f
                            bb += m * m
                            ab += f * m
                enough = k >= least * n and k > 1
                out[i, shift] += (1.0 - correlation(k, a, b, aa, bb, ab, noise_f, noise_m)) / channels if enough else np.nan


@kernel
def ssd_costs(begin, end, fixed, moving, lines, ratio, variance, least, out):
    """Mean squared difference over channels, divided by `variance` (C,); shapes and NaN as in `ncc_costs`."""
    channels, n = fixed.shape[1], fixed.shape[2]
    shifts = out.shape[1]
    length, wide = n // lines, moving.shape[2] // lines
    buffer = np.empty(2 * shifts)
    known, total = buffer[:shifts], buffer[shifts:]
    for i in range(begin, end):
        for shift in range(shifts):
            known[shift] = 0.0
            total[shift] = 0.0
        for c in range(channels):
            for line in range(lines):
                for h in range(length):
                    f = np.float64(fixed[i, c, line * length + h])
                    row = moving[i, c, line * wide + h * ratio :]
                    for shift in range(shifts):
                        d = f - np.float64(row[shift])
                        if not np.isnan(d):
                            known[shift] += 1.0
                            total[shift] += d * d / variance[c]
        for shift in range(shifts):
            enough = known[shift] >= least * n * channels and known[shift] > 0
            out[i, shift] = total[shift] / known[shift] if enough else np.nan


@kernel
def classify(begin, end, samples, bounds, out):
    """Classes (N, n) of samples (N, C, n), by their mean over channels: the first ascending bound above; -1 for NaN."""
    channels = samples.shape[1]
    for i in range(begin, end):
        for t in range(samples.shape[2]):
            value = 0.0
            for c in range(channels):
                value += samples[i, c, t]
            value /= channels
            if np.isnan(value):
                out[i, t] = -1
                continue
            low, high = 0, bounds.size - 1
            while low < high:
                middle = (low + high) // 2
                if bounds[middle] < value:
                    low = middle + 1
                else:
                    high = middle
            out[i, t] = low


@kernel
def table_costs(begin, end, fixed, moving, lines, ratio, table, least, out):
    """Mean of table[f, m] over classes f (N, L T), m (N, L ...), -1 for outside; shapes and NaN as in `ncc_costs`."""
    n, shifts = fixed.shape[1], out.shape[1]
    length, wide = n // lines, moving.shape[1] // lines
    buffer = np.empty(2 * shifts)
    known, total = buffer[:shifts], buffer[shifts:]
    for i in range(begin, end):
        for shift in range(shifts):
            known[shift] = 0.0
            total[shift] = 0.0
        for line in range(lines):
            for h in range(length):
                f = fixed[i, line * length + h]
                if f < 0:
                    continue
                row = moving[i, line * wide + h * ratio :]
                for shift in range(shifts):
                    m = row[shift]
                    if m >= 0:
                        known[shift] += 1.0
                        total[shift] += table[f, m]
        for shift in range(shifts):
            enough = known[shift] >= least * n and known[shift] > 0
            out[i, shift] = total[shift] / known[shift] if enough else np.nan


@kernel
def joint_histogram(fixed, moving, lines, ratio, shift, out):
    """Counts of class pairs (f, m) at one shift, added to out (F, M); shapes as in `table_costs`."""
    length, wide = fixed.shape[1] // lines, moving.shape[1] // lines
    for i in range(fixed.shape[0]):
        for line in range(lines):
            for h in range(length):
                f, m = fixed[i, line * length + h], moving[i, line * wide + h * ratio + shift]
                if f >= 0 and m >= 0:
                    out[f, m] += 1.0


@kernel(fastmath=_LOOPS)
def inner_products(begin, end, fixed, moving, side, scale, out):
    """Sums over each bundle's samples of all products of 1, f, g and the derivatives of g: out (N, C, D+3, D+3).

    Those of g along normal and tangents are central differences, scale = 1 / (2 step). fixed f, (N, C, side^(D-1) T); moving
    (N, C, (side + 2)^(D-1) (T + 2)) has one more line and sample all around. NaN for bundles with a sample outside.
    """
    n, size = fixed.shape[2], out.shape[2]
    solid = size == 6
    lines = side * side if solid else side
    length = n // lines
    # samples to the neighbour on the next line, and on the next row of lines
    beside = length + 2
    above = (side + 2) * beside if solid else 0
    rows = np.empty((size, n))
    for i in range(begin, end):
        for c in range(out.shape[1]):
            f, g, products = fixed[i, c], moving[i, c], out[i, c]
            for line in range(lines):
                first, at = line * length, line // side * above + (line % side + 1) * beside + above + 1
                for t in range(length):
                    rows[0, first + t] = 1.0
                    rows[1, first + t] = f[first + t]
                    rows[2, first + t] = g[at + t]
                for row in range(3, size):
                    away = 1 if row == 3 else beside if row == size - 1 else above
                    for t in range(length):
                        rows[row, first + t] = (g[at + t + away] - g[at + t - away]) * scale
            for p in range(size):
                for q in range(p + 1):
                    x, y, total = rows[p], rows[q], 0.0
                    for k in range(n):
                        total += x[k] * y[k]
                    products[p, q] = total
                    products[q, p] = total
