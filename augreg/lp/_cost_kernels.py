"""Numba kernels of costs and their derivatives, parallel over keypoints.

A keypoint's bundle is a set of parallel lines; its samples are (C, L, T): channels, lines, samples along a line, NaN outside the
image or its mask.
"""

import numpy as np
from numba import prange

from augreg._compile import kernel, njit


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _whole(samples):
    """Whether a bundle (C, L, T) is free of NaN: a sum is NaN if one of its parts is."""
    total = np.float32(0.0)
    for value in samples.ravel():
        total += value
    return not np.isnan(total)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _ncc(f, m, noise_f, noise_m):
    """NCC of two whole bundles of one channel, each (n,); the noises are added to the variances."""
    n = len(f)
    a, b, aa, bb, ab = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        x, y = np.float64(f[k]), np.float64(m[k])
        a += x
        b += y
        aa += x * x
        bb += y * y
        ab += x * y
    vf, vm = max(aa / n - (a / n) ** 2, 0.0), max(bb / n - (b / n) ** 2, 0.0)
    return (ab / n - a / n * (b / n)) / np.sqrt((vf + noise_f) * (vm + noise_m))


@kernel()
def ncc_costs(fixed, moving, ratio, floor, least, out):
    """1 - NCC of fixed (N, C, L, 2H+1) with moving (N, C, L, 2(H ratio + X)+1) shifted by -X..X steps; out (N, 2X+1).

    Per channel, averaged. `floor` (2, C), a variance of noise, keeps flat profiles from matching by chance. Pairs with a sample
    outside are left out; NaN where fewer than `least` of the samples remain.
    """
    count, channels, lines, length = fixed.shape
    shifts = out.shape[1]
    for i in prange(count):
        out[i] = 0.0
        whole = _whole(fixed[i]) and _whole(moving[i])
        if whole and shifts == 1 and ratio == 1:
            for c in range(channels):
                ncc = _ncc(fixed[i, c].ravel(), moving[i, c].ravel(), floor[0, c], floor[1, c])
                out[i, 0] += (1.0 - ncc) / channels
            continue
        if whole:
            sm, smm, sfm = np.empty(shifts), np.empty(shifts), np.empty(shifts)
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


@kernel()
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


@kernel()
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


@kernel()
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


@kernel(fastmath={"reassoc", "contract"})
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


@kernel(fastmath={"reassoc", "contract"})
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
