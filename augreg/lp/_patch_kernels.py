"""Kernel of block matching. Rasters are (n0, n1, n2), n0 = 1 in 2-D, NaN where nothing is known."""

import numpy as np

from augreg.lp._cost_kernels import correlation
from solvers._compile import kernel


@kernel
def best_offsets(begin, end, fixed, moved, corner, centers, half, reach, floor, least, out, scores):
    """Of every patch of fixed the offset at which moved correlates best with it.

    moved begins `corner` (3,) voxels before fixed. Patches reach half (3,) voxels to each side of centers (N, 3), offsets
    reach (3,). Pairs with a NaN are left out; offsets at which fewer than `least` of a patch's voxels remain do not count.
    `floor` (2,) are variances of noise. out (N, 3) offsets; scores (N, 3): NCC there, NCC at no offset (NaN where that is not
    known), and the least one.
    """
    total = (2 * half[0] + 1) * (2 * half[1] + 1) * (2 * half[2] + 1)
    n0, n1, n2 = fixed.shape
    for i in range(begin, end):
        x, y, z = centers[i, 0], centers[i, 1], centers[i, 2]
        best, worst = -2.0, 2.0
        for a in range(3):
            scores[i, a] = np.nan
            out[i, a] = 0
        for p in range(-reach[0], reach[0] + 1):
            for q in range(-reach[1], reach[1] + 1):
                for r in range(-reach[2], reach[2] + 1):
                    n, a, b, aa, bb, ab = 0, 0.0, 0.0, 0.0, 0.0, 0.0
                    for u in range(max(x - half[0], 0), min(x + half[0] + 1, n0)):
                        for v in range(max(y - half[1], 0), min(y + half[1] + 1, n1)):
                            still, other = fixed[u, v], moved[u + p + corner[0], v + q + corner[1]]
                            for w in range(max(z - half[2], 0), min(z + half[2] + 1, n2)):
                                f, m = np.float64(still[w]), np.float64(other[w + r + corner[2]])
                                if not np.isnan(f + m):
                                    n += 1
                                    a += f
                                    b += m
                                    aa += f * f
                                    bb += m * m
                                    ab += f * m
                    if n < least * total or n < 2:
                        continue
                    score = correlation(n, a, b, aa, bb, ab, floor[0], floor[1])
                    if p == 0 and q == 0 and r == 0:
                        scores[i, 1] = score
                    if score < worst:
                        worst = score
                        scores[i, 2] = score
                    if score > best:
                        best = score
                        scores[i, 0] = score
                        out[i, 0], out[i, 1], out[i, 2] = p, q, r
