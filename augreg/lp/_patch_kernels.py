"""Numba kernel of block matching. Rasters are (n0, n1, n2), n0 = 1 in 2-D, NaN where nothing is known."""

import numpy as np
from numba import prange

from augreg._compile import kernel


@kernel()
def best_offsets(fixed, moved, corner, centers, half, reach, floor, least, out, scores):
    """Of every patch of fixed the offset at which moved correlates best with it.

    moved begins `corner` (3,) voxels before fixed. Patches reach half (3,) voxels to each side of centers (N, 3), offsets
    reach (3,). Pairs with a NaN are left out; offsets at which fewer than `least` of a patch's voxels remain do not count.
    `floor` (2,) are variances of noise. out (N, 3) offsets; scores (N, 3): NCC there, NCC at no offset (NaN where that is not
    known), and the least one.
    """
    for i in prange(len(centers)):
        total = (2 * half[0] + 1) * (2 * half[1] + 1) * (2 * half[2] + 1)
        best, worst = -2.0, 2.0
        scores[i] = np.nan
        out[i] = 0
        for p in range(-reach[0], reach[0] + 1):
            for q in range(-reach[1], reach[1] + 1):
                for r in range(-reach[2], reach[2] + 1):
                    n, a, b, aa, bb, ab = 0, 0.0, 0.0, 0.0, 0.0, 0.0
                    for u in range(-half[0], half[0] + 1):
                        x = centers[i, 0] + u
                        if x < 0 or x >= fixed.shape[0]:
                            continue
                        for v in range(-half[1], half[1] + 1):
                            y = centers[i, 1] + v
                            if y < 0 or y >= fixed.shape[1]:
                                continue
                            for w in range(-half[2], half[2] + 1):
                                z = centers[i, 2] + w
                                if z < 0 or z >= fixed.shape[2]:
                                    continue
                                f = np.float64(fixed[x, y, z])
                                m = np.float64(moved[x + p + corner[0], y + q + corner[1], z + r + corner[2]])
                                if not np.isnan(f + m):
                                    n += 1
                                    a += f
                                    b += m
                                    aa += f * f
                                    bb += m * m
                                    ab += f * m
                    if n < least * total or n < 2:
                        continue
                    vf, vm = max(aa / n - (a / n) ** 2, 0.0) + floor[0], max(bb / n - (b / n) ** 2, 0.0) + floor[1]
                    score = (ab / n - a / n * (b / n)) / np.sqrt(vf * vm)
                    if p == 0 and q == 0 and r == 0:
                        scores[i, 1] = score
                    if score < worst:
                        worst = score
                        scores[i, 2] = score
                    if score > best:
                        best = score
                        scores[i, 0] = score
                        out[i, 0], out[i, 1], out[i, 2] = p, q, r
