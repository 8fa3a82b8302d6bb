"""Weights of joint label fusion at the disputed voxels."""

import numpy as np

from solvers._compile import FAST, inlined, kernel

F = np.float32


@inlined(fastmath=FAST)
def _difference(target, image, c0, c1, c2, o0, o1, o2, r0, r1, r2, out):
    """|image(c + o + p) - target(c + p)| over a patch, border values going on, to out; the sum of squares."""
    n0, n1, n2 = target.shape
    total, at = F(0.0), 0
    # most patches lie inside, with every offset
    near = min(c0 + min(o0, 0) - r0, c1 + min(o1, 0) - r1, c2 + min(o2, 0) - r2)
    far = max(c0 + max(o0, 0) + r0 - n0, c1 + max(o1, 0) + r1 - n1, c2 + max(o2, 0) + r2 - n2)
    if near >= 0 and far < 0:
        for p0 in range(-r0, r0 + 1):
            for p1 in range(-r1, r1 + 1):
                for p2 in range(-r2, r2 + 1):
                    d = abs(image[c0 + o0 + p0, c1 + o1 + p1, c2 + o2 + p2] - target[c0 + p0, c1 + p1, c2 + p2])
                    out[at] = d
                    total += d * d
                    at += 1
        return total
    for p0 in range(-r0, r0 + 1):
        a, x = min(max(c0 + p0, 0), n0 - 1), min(max(c0 + o0 + p0, 0), n0 - 1)
        for p1 in range(-r1, r1 + 1):
            b, y = min(max(c1 + p1, 0), n1 - 1), min(max(c1 + o1 + p1, 0), n1 - 1)
            for p2 in range(-r2, r2 + 1):
                c, z = min(max(c2 + p2, 0), n2 - 1), min(max(c2 + o2 + p2, 0), n2 - 1)
                d = abs(image[x, y, z] - target[a, b, c])
                out[at] = d
                total += d * d
                at += 1
    return total


@inlined(fastmath=FAST)
def _product(a, b):
    total = F(0.0)
    for p in range(len(a)):
        total += a[p] * b[p]
    return total


@kernel
def nearest_patches(begin, end, disputed, target, images, labels, radius, search, places):
    """Flat indices (V, n) of the places around every disputed voxel whose patches are nearest to the target's; -1 for none."""
    n = images.shape[0]
    n0, n1, n2 = target.shape
    r0, r1, r2 = radius if n0 > 1 else 0, radius if n1 > 1 else 0, radius if n2 > 1 else 0
    s0, s1, s2 = search if n0 > 1 else 0, search if n1 > 1 else 0, search if n2 > 1 else 0
    trial = np.zeros((2 * r0 + 1) * (2 * r1 + 1) * (2 * r2 + 1), F)
    for v in range(begin, end):
        flat = disputed[v]
        c0, c1, c2 = flat // (n1 * n2), flat // n2 % n1, flat % n2
        for i in range(n):
            best, place = F(np.inf), -1
            for o0 in range(-s0, s0 + 1):
                for o1 in range(-s1, s1 + 1):
                    for o2 in range(-s2, s2 + 1):
                        x, y, z = c0 + o0, c1 + o1, c2 + o2
                        if x < 0 or y < 0 or z < 0 or x >= n0 or y >= n1 or z >= n2 or labels[i, x, y, z] < 0:
                            continue
                        total = _difference(target, images[i], c0, c1, c2, o0, o1, o2, r0, r1, r2, trial)
                        # of equal patches the nearest: the one without an offset
                        if total < best or (total == best and o0 == 0 and o1 == 0 and o2 == 0):
                            best, place = total, (x * n1 + y) * n2 + z
            places[v, i] = place


@kernel(fastmath=FAST)
def joint_weights(begin, end, disputed, places, target, images, radius, beta, alpha, weights):
    """w = M^-1 1 / (1^T M^-1 1), (V, n), at voxels (V,) from the patches at `places` (V, n); 0 where there is none."""
    n = images.shape[0]
    n0, n1, n2 = target.shape
    r0, r1, r2 = radius if n0 > 1 else 0, radius if n1 > 1 else 0, radius if n2 > 1 else 0
    size = (2 * r0 + 1) * (2 * r1 + 1) * (2 * r2 + 1)
    patches, shown = np.zeros((n, size), F), np.zeros(n, np.int64)
    M, w = np.zeros((n, n)), np.zeros(n)
    for v in range(begin, end):
        flat = disputed[v]
        c0, c1, c2 = flat // (n1 * n2), flat // n2 % n1, flat % n2
        known = 0
        for i in range(n):
            weights[v, i] = F(0.0)
            at = places[v, i]
            if at < 0:
                continue
            o0, o1, o2 = at // (n1 * n2) - c0, at // n2 % n1 - c1, at % n2 - c2
            _difference(target, images[i], c0, c1, c2, o0, o1, o2, r0, r1, r2, patches[known])
            shown[known] = i
            known += 1
        diagonal = 0.0
        for i in range(known):
            for j in range(i, known):
                alike = float(_product(patches[i], patches[j])) / size
                M[i, j] = alike * alike if beta == 2.0 else alike**beta
            diagonal += M[i, i]
        # patches that are equal to the target's leave nothing to weigh
        more = alpha * diagonal / max(known, 1) if diagonal > 0.0 else 1.0
        for i in range(known):
            M[i, i] += more
        _solved(M, w, known)
        total = 0.0
        for i in range(known):
            total += w[i]
        if total != 0.0:
            for i in range(known):
                weights[v, shown[i]] = w[i] / total


@kernel
def tallied(begin, end, named, weights, ranks, sums, counts):
    """The different labels of each row of `named` (V, n) as `ranks` (V, n), -1 after them, and the sums of their weights."""
    n = named.shape[1]
    for v in range(begin, end):
        different = 0
        for i in range(n):
            ranks[v, i], sums[v, i] = -1, F(0.0)
            if named[v, i] < 0:
                continue
            k = 0
            while k < different and ranks[v, k] != named[v, i]:
                k += 1
            if k == different:
                ranks[v, k] = named[v, i]
                different += 1
            sums[v, k] += weights[v, i]
        counts[v] = different


@kernel
def gathered_support(begin, end, disputed, place, agreed, ranks, sums, counts, own, out):
    """Support (V, K) of the different labels of a voxel: its own weights, `own` times more, and its neighbours', summed.

    place : row of a voxel in `ranks` and `sums`, (n0, n1, n2); -1 where all atlases agree on `agreed`
    """
    n0, n1, n2 = place.shape
    r0, r1, r2 = 1 if n0 > 1 else 0, 1 if n1 > 1 else 0, 1 if n2 > 1 else 0
    for v in range(begin, end):
        different = counts[v]
        out[v] = F(0.0)
        flat = disputed[v]
        c0, c1, c2 = flat // (n1 * n2), flat // n2 % n1, flat % n2
        for o0 in range(-r0, r0 + 1):
            for o1 in range(-r1, r1 + 1):
                for o2 in range(-r2, r2 + 1):
                    x = min(max(c0 + o0, 0), n0 - 1)
                    y = min(max(c1 + o1, 0), n1 - 1)
                    z = min(max(c2 + o2, 0), n2 - 1)
                    factor = F(1.0 + own) if o0 == 0 and o1 == 0 and o2 == 0 else F(1.0)
                    row = place[x, y, z]
                    if row < 0:
                        for k in range(different):
                            if ranks[v, k] == agreed[x, y, z]:
                                out[v, k] += factor
                    else:
                        for j in range(counts[row]):
                            for k in range(different):
                                if ranks[v, k] == ranks[row, j]:
                                    out[v, k] += factor * sums[row, j]
        total = F(0.0)
        for k in range(different):
            out[v, k] = max(out[v, k], F(0.0))
            total += out[v, k]
        for k in range(different):
            out[v, k] = out[v, k] / total if total > F(0.0) else F(0.0)


@inlined(fastmath=FAST)
def _solved(M, w, n):
    """M w = 1 for the first n: M = U^T U in the upper triangle, the lower one is not looked at; where that fails, by pivots."""
    for i in range(n):
        for j in range(i):
            M[i, j] = M[j, i]
        w[i] = M[i, i]
    good = True
    for k in range(n):
        if not M[k, k] > 1e-12 * w[k]:
            good = False
            break
        root = 1.0 / np.sqrt(M[k, k])
        for j in range(k, n):
            M[k, j] *= root
        for i in range(k + 1, n):
            share = M[k, i]
            for j in range(i, n):
                M[i, j] -= share * M[k, j]
    if not good:
        for i in range(n):
            M[i, i] = w[i]
            w[i] = 1.0
            for j in range(i):
                M[j, i] = M[i, j]
        _by_pivots(M, w, n)
        return
    for i in range(n):
        w[i] = 1.0
    for k in range(n):
        w[k] /= M[k, k]
        for j in range(k + 1, n):
            w[j] -= M[k, j] * w[k]
    for k in range(n - 1, -1, -1):
        total = w[k]
        for j in range(k + 1, n):
            total -= M[k, j] * w[j]
        w[k] = total / M[k, k]


@inlined
def _by_pivots(M, x, n):
    """M[:n, :n] x = b by elimination with pivots; b comes in x, M is spoilt."""
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(M[i, k]) > abs(M[pivot, k]):
                pivot = i
        if pivot != k:
            for j in range(n):
                M[k, j], M[pivot, j] = M[pivot, j], M[k, j]
            x[k], x[pivot] = x[pivot], x[k]
        for i in range(k + 1, n):
            share = M[i, k] / M[k, k]
            for j in range(k, n):
                M[i, j] -= share * M[k, j]
            x[i] -= share * x[k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            x[k] -= M[k, j] * x[j]
        x[k] /= M[k, k]
