"""Weights of joint label fusion at the disputed voxels."""

import numpy as np

from solvers._compile import FAST, inlined, kernel

F = np.float32


@inlined(fastmath=FAST)
def _difference(target, image, c0, c1, c2, o0, o1, o2, r0, r1, r2, out):
    """|image(c + o + p) - target(c + p)| over a patch, border values going on, to out; the sum of squares."""
    n0, n1, n2 = target.shape
    total, at = F(0.0), 0
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
def joint_votes(begin, end, disputed, target, images, labels, radius, search, beta, alpha, named, weights):
    """Labels (V, n) that the best patches around every disputed voxel name, and the weights w = M^-1 1 / (1^T M^-1 1)."""
    n = images.shape[0]
    n0, n1, n2 = target.shape
    r0, r1, r2 = radius if n0 > 1 else 0, radius if n1 > 1 else 0, radius if n2 > 1 else 0
    s0, s1, s2 = search if n0 > 1 else 0, search if n1 > 1 else 0, search if n2 > 1 else 0
    size = (2 * r0 + 1) * (2 * r1 + 1) * (2 * r2 + 1)
    patches, trial = np.zeros((n, size), F), np.zeros(size, F)
    M, w, root = np.zeros((n, n)), np.zeros(n), np.zeros(n)
    for v in range(begin, end):
        flat = disputed[v]
        c0, c1, c2 = flat // (n1 * n2), flat // n2 % n1, flat % n2
        for i in range(n):
            best, rank = F(np.inf), -1
            for o0 in range(-s0, s0 + 1):
                for o1 in range(-s1, s1 + 1):
                    for o2 in range(-s2, s2 + 1):
                        x, y, z = c0 + o0, c1 + o1, c2 + o2
                        if x < 0 or y < 0 or z < 0 or x >= n0 or y >= n1 or z >= n2 or labels[i, x, y, z] < 0:
                            continue
                        total = _difference(target, images[i], c0, c1, c2, o0, o1, o2, r0, r1, r2, trial)
                        # of equal patches the nearest: the one without an offset
                        if total < best or (total == best and o0 == 0 and o1 == 0 and o2 == 0):
                            best, rank = total, labels[i, x, y, z]
                            for p in range(size):
                                patches[i, p] = trial[p]
            named[v, i] = rank
        diagonal, known = 0.0, 0
        for i in range(n):
            for j in range(i + 1):
                alike = float(_product(patches[i], patches[j])) / size
                M[i, j] = alike * alike if beta == 2.0 else alike**beta
                M[j, i] = M[i, j]
            if named[v, i] >= 0:
                diagonal += M[i, i]
                known += 1
        # patches that are equal to the target's leave nothing to weigh
        more = alpha * diagonal / max(known, 1) if diagonal > 0.0 else 1.0
        for i in range(n):
            w[i] = 1.0
            M[i, i] += more
            if named[v, i] < 0:
                w[i] = 0.0
                for j in range(n):
                    M[i, j] = 0.0
                    M[j, i] = 0.0
                M[i, i] = 1.0
        if not _factored(M, root):
            _solve(M, w)
        else:
            for i in range(n):
                for k in range(i):
                    w[i] -= M[i, k] * w[k]
                w[i] /= root[i]
            for i in range(n - 1, -1, -1):
                w[i] /= root[i]
                for k in range(i):
                    w[k] -= M[i, k] * w[i]
        total = 0.0
        for i in range(n):
            total += w[i]
        for i in range(n):
            weights[v, i] = w[i] / total if total != 0.0 else 0.0


@kernel
def gathered_support(begin, end, disputed, place, agreed, named, weights, own, out):
    """Support (V, n) of the label that each atlas names: that of the voxel, `own` times more, and of its neighbours, summed.

    place : row of a voxel in `named` and `weights`, (n0, n1, n2); -1 where all atlases agree on `agreed`
    """
    n = named.shape[1]
    n0, n1, n2 = place.shape
    r0, r1, r2 = 1 if n0 > 1 else 0, 1 if n1 > 1 else 0, 1 if n2 > 1 else 0
    ranks, sums, slot = np.zeros(n, np.int32), np.zeros(n), np.zeros(n, np.int64)
    for v in range(begin, end):
        different = 0
        for i in range(n):
            slot[i] = -1
            for k in range(different):
                if ranks[k] == named[v, i]:
                    slot[i] = k
            if slot[i] < 0 and named[v, i] >= 0:
                ranks[different] = named[v, i]
                sums[different] = 0.0
                slot[i] = different
                different += 1
        flat = disputed[v]
        c0, c1, c2 = flat // (n1 * n2), flat // n2 % n1, flat % n2
        for o0 in range(-r0, r0 + 1):
            for o1 in range(-r1, r1 + 1):
                for o2 in range(-r2, r2 + 1):
                    x = min(max(c0 + o0, 0), n0 - 1)
                    y = min(max(c1 + o1, 0), n1 - 1)
                    z = min(max(c2 + o2, 0), n2 - 1)
                    factor = 1.0 + own if o0 == 0 and o1 == 0 and o2 == 0 else 1.0
                    row = place[x, y, z]
                    if row < 0:
                        for k in range(different):
                            if ranks[k] == agreed[x, y, z]:
                                sums[k] += factor
                    else:
                        for j in range(n):
                            for k in range(different):
                                if ranks[k] == named[row, j]:
                                    sums[k] += factor * weights[row, j]
        total = 0.0
        for k in range(different):
            sums[k] = max(sums[k], 0.0)
            total += sums[k]
        for i in range(n):
            out[v, i] = sums[slot[i]] / total if slot[i] >= 0 and total > 0.0 else 0.0


@inlined(fastmath=FAST)
def _factored(M, root):
    """L of M = L L^T below the diagonal, its diagonal in root; where M is not positive definite it is as before, and False."""
    n = len(root)
    for i in range(n):
        for j in range(i + 1):
            total = M[i, j]
            for k in range(j):
                total -= M[i, k] * M[j, k]
            if i != j:
                M[i, j] = total / root[j]
            elif total > 1e-12 * M[i, i]:
                root[i] = np.sqrt(total)
            else:
                for p in range(n):
                    for q in range(p):
                        M[p, q] = M[q, p]
                return False
    return True


@inlined
def _solve(M, x):
    """M x = b by elimination with pivots; b comes in x, M is spoilt."""
    n = len(x)
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
