"""Numba kernels over all voxels: pyramid and keypoints. Rasters are (n0, n1, n2, C), n0 = 1 in 2-D, as in `augreg._kernels`."""

import numpy as np
from numba import prange

from augreg._compile import kernel, njit


@kernel()
def block_means(values, factors, out):
    """Means over blocks of factors (3,) voxels; voxels beyond the last whole block take no part. out (m0, m1, m2, C)."""
    m0, m1, m2, channels = out.shape
    f0, f1, f2 = factors
    share = np.float32(1.0 / (f0 * f1 * f2))
    for line in prange(m0 * m1):
        i, j = line // m1, line % m1
        for k in range(m2):
            for c in range(channels):
                out[i, j, k, c] = 0.0
        for p in range(f0):
            for q in range(f1):
                source = values[i * f0 + p, j * f1 + q]
                for k in range(m2):
                    for r in range(f2):
                        for c in range(channels):
                            out[i, j, k, c] += share * source[k * f2 + r, c]


@kernel()
def smooth(values, taps, out):
    """Separable convolution with the symmetric weights taps (3, 2 R + 1), borders repeated; arrays of any layout."""
    n0, n1, n2, channels = values.shape
    radius = taps.shape[1] // 2
    length, border = n2 * channels, radius * channels
    for line in prange(n0 * n1):
        i, j = line // n1, line % n1
        # one line, its ends repeated: all loops run over neighbours in memory
        row = np.zeros(length + 2 * border, np.float32)
        for p in range(-radius, radius + 1):
            for q in range(-radius, radius + 1):
                w = taps[0, p + radius] * taps[1, q + radius]
                if w != 0.0:
                    source = values[min(max(i + p, 0), n0 - 1), min(max(j + q, 0), n1 - 1)].ravel()
                    for t in range(length):
                        row[border + t] += w * source[t]
        for t in range(border):
            row[t] = row[border + t % channels]
            row[border + length + t] = row[border + length - channels + t % channels]
        goal = np.zeros(length, np.float32)
        for r in range(2 * radius + 1):
            w = taps[2, r]
            part = row[r * channels :]
            for t in range(length):
                goal[t] += w * part[t]
        # not through a view of `out`: of an array in another order it would be a copy
        for k in range(n2):
            for c in range(channels):
                out[i, j, k, c] = goal[k * channels + c]


@njit(cache=True, nogil=True, inline="always")
def _gradient(values, i, j, k, scale, out):
    """World-scaled central differences along the index axes at one voxel, and their squared size.

    Of several channels the one with the largest gradient counts. scale (3,): 1 / (2 spacing), 0 for an axis of length one.
    """
    n0, n1, n2, channels = values.shape
    i0, i1, j0, j1, k0, k1 = (
        max(i - 1, 0),
        min(i + 1, n0 - 1),
        max(j - 1, 0),
        min(j + 1, n1 - 1),
        max(k - 1, 0),
        min(k + 1, n2 - 1),
    )
    best = -1.0
    for c in range(channels):
        x = (values[i1, j, k, c] - values[i0, j, k, c]) * scale[0] if n0 > 1 else 0.0
        y = (values[i, j1, k, c] - values[i, j0, k, c]) * scale[1]
        z = (values[i, j, k1, c] - values[i, j, k0, c]) * scale[2]
        size = x * x + y * y + z * z
        if size > best:
            best = size
            out[0], out[1], out[2] = x, y, z
    return best


@kernel()
def strongest_per_cell(values, allowed, scale, cell, margin, indices, gradients):
    """The voxel with the largest gradient in every cell of cell (3,) voxels: indices (cells, 3), -1 where none is allowed.

    gradients (cells, 3) are those there, along the index axes; margin (3,) voxels at the border take no part; an `allowed`
    without elements allows all.
    """
    n0, n1, n2, _ = values.shape
    c1, c2 = -(-n1 // cell[1]), -(-n2 // cell[2])
    for number in prange(indices.shape[0]):
        a, b, d = number // (c1 * c2), (number // c2) % c1, number % c2
        best = 0.0
        gradient = np.zeros(3)
        indices[number, 0] = -1
        for i in range(max(a * cell[0], margin[0]), min((a + 1) * cell[0], n0 - margin[0])):
            for j in range(max(b * cell[1], margin[1]), min((b + 1) * cell[1], n1 - margin[1])):
                for k in range(max(d * cell[2], margin[2]), min((d + 1) * cell[2], n2 - margin[2])):
                    size = _gradient(values, i, j, k, scale, gradient)
                    if size > best and (allowed.size == 0 or allowed[i, j, k]):
                        best = size
                        indices[number, 0], indices[number, 1], indices[number, 2] = i, j, k
                        gradients[number, 0], gradients[number, 1], gradients[number, 2] = gradient[0], gradient[1], gradient[2]


@njit(cache=True, nogil=True)
def _outward(labels, i, j, k, spacing, reach, out):
    """Sum of o / |o|^2 over the offsets o (mm) within `reach` voxels at which another label stands, and its squared size."""
    n0, n1, n2, _ = labels.shape
    own = labels[i, j, k, 0]
    out[:] = 0.0
    for p in range(max(i - reach, 0), min(i + reach + 1, n0)):
        for q in range(max(j - reach, 0), min(j + reach + 1, n1)):
            for r in range(max(k - reach, 0), min(k + reach + 1, n2)):
                if labels[p, q, r, 0] != own:
                    x, y, z = (p - i) * spacing[0], (q - j) * spacing[1], (r - k) * spacing[2]
                    size = x * x + y * y + z * z
                    out[0] += x / size
                    out[1] += y / size
                    out[2] += z / size
    return out[0] ** 2 + out[1] ** 2 + out[2] ** 2


@kernel()
def flattest_per_cell(labels, allowed, spacing, reach, cell, margin, indices, normals):
    """The voxel beside another label with the flattest boundary in every cell; arguments as in `strongest_per_cell`.

    spacing (3,) mm; normals (cells, 3) point out of the voxel's own label, along the index axes, the longer the flatter.
    """
    n0, n1, n2, _ = labels.shape
    c1, c2 = -(-n1 // cell[1]), -(-n2 // cell[2])
    for number in prange(indices.shape[0]):
        a, b, d = number // (c1 * c2), (number // c2) % c1, number % c2
        best = 0.0
        normal = np.zeros(3)
        indices[number, 0] = -1
        for i in range(max(a * cell[0], margin[0]), min((a + 1) * cell[0], n0 - margin[0])):
            for j in range(max(b * cell[1], margin[1]), min((b + 1) * cell[1], n1 - margin[1])):
                for k in range(max(d * cell[2], margin[2]), min((d + 1) * cell[2], n2 - margin[2])):
                    own = labels[i, j, k, 0]
                    beside = (
                        labels[max(i - 1, 0), j, k, 0] != own
                        or labels[min(i + 1, n0 - 1), j, k, 0] != own
                        or labels[i, max(j - 1, 0), k, 0] != own
                        or labels[i, min(j + 1, n1 - 1), k, 0] != own
                        or labels[i, j, max(k - 1, 0), 0] != own
                        or labels[i, j, min(k + 1, n2 - 1), 0] != own
                    )
                    if not beside or (allowed.size > 0 and not allowed[i, j, k]):
                        continue
                    size = _outward(labels, i, j, k, spacing, reach, normal)
                    if size > best:
                        best = size
                        indices[number, 0], indices[number, 1], indices[number, 2] = i, j, k
                        normals[number, 0], normals[number, 1], normals[number, 2] = normal[0], normal[1], normal[2]
