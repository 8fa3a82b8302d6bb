"""Determinants of the corners of mapped voxels: of all combinations of one-sided differences to a voxel's neighbours."""

import numpy as np

from solvers._compile import kernel


@kernel
def least_corners(begin, end, mapped, spacing, slopes, sign, skip0, skip1, least):
    """The least determinant of the 2^D combinations, and of what `least` (n0, n1, n2) holds, in lines along the last axis.

    mapped (m0, m1, m2, D) has the voxels of `least` from (skip0, skip1) on, and their neighbours where there are any: where one
    is missing, the other one serves for both. Along an axis of one voxel `slopes` (N, D, D) have the derivative, along the
    grid's axes; they may be empty where there is no such axis. sign is that of the grid's axes.
    """
    _, n1, n2 = least.shape
    m0, m1, m2, ndim = mapped.shape
    lead = 3 - ndim
    # of every axis, forward and backward
    d = np.zeros((3, 2, 3))
    scale = 1.0 / spacing
    for line in range(begin, end):
        i, j = line // n1, line % n1
        p, q = i + skip0, j + skip1
        for k in range(n2):
            for axis in range(lead, 3):
                a = axis - lead
                at = p if axis == 0 else q if axis == 1 else k
                size = m0 if axis == 0 else m1 if axis == 1 else m2
                if size == 1:
                    for c in range(ndim):
                        d[a, 0, c] = d[a, 1, c] = slopes[(i * n1 + j) * n2 + k, c, a]
                    continue
                for side in range(2):
                    low = min(at, size - 2) if side == 0 else max(at - 1, 0)
                    up = low + 1
                    for c in range(ndim):
                        if axis == 0:
                            d[a, side, c] = (mapped[up, q, k, c] - mapped[low, q, k, c]) * scale[a]
                        elif axis == 1:
                            d[a, side, c] = (mapped[p, up, k, c] - mapped[p, low, k, c]) * scale[a]
                        else:
                            d[a, side, c] = (mapped[p, q, up, c] - mapped[p, q, low, c]) * scale[a]
            lowest = least[i, j, k]
            if ndim == 2:
                for s in range(4):
                    x, y = d[0, s // 2], d[1, s % 2]
                    value = sign * (x[0] * y[1] - y[0] * x[1])
                    # what is no number stays what it was
                    if value < lowest:
                        lowest = value
            else:
                for s in range(4):
                    y, z = d[1, s // 2], d[2, s % 2]
                    # y x z
                    p0, p1, p2 = y[1] * z[2] - y[2] * z[1], y[2] * z[0] - y[0] * z[2], y[0] * z[1] - y[1] * z[0]
                    for side in range(2):
                        value = sign * (d[0, side, 0] * p0 + d[0, side, 1] * p1 + d[0, side, 2] * p2)
                        if value < lowest:
                            lowest = value
            least[i, j, k] = lowest
