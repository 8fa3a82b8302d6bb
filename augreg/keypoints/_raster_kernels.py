"""Kernels over all voxels: pyramid and keypoints. Rasters are (n0, n1, n2, C), n0 = 1 in 2-D."""

import numpy as np

from solvers._compile import inlined, kernel


@kernel
def block_means(begin, end, values, factors, out):
    """Means over blocks of factors (3,) voxels; voxels beyond the last whole block take no part. out (m0, m1, m2, C).

    The outermost index counts the lines of out.
    """
    m1, m2, channels = out.shape[1], out.shape[2], out.shape[3]
    f0, f1, f2 = factors[0], factors[1], factors[2]
    share = np.float32(1.0 / (f0 * f1 * f2))
    for line in range(begin, end):
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


@kernel
def smooth(begin, end, values, channels, taps, out):
    """Separable convolution with the symmetric weights taps (3, 2 R + 1), borders repeated.

    values, out (n0, n1, n2 C); the outermost index counts lines.
    """
    n0, n1, length = values.shape
    radius = taps.shape[1] // 2
    border = radius * channels
    # one line, its ends repeated: all loops run over neighbours in memory
    row = np.empty(length + 2 * border, np.float32)
    for line in range(begin, end):
        i, j = line // n1, line % n1
        for t in range(length):
            row[border + t] = 0.0
        for p in range(-radius, radius + 1):
            for q in range(-radius, radius + 1):
                w = taps[0, p + radius] * taps[1, q + radius]
                if w != 0.0:
                    source = values[min(max(i + p, 0), n0 - 1), min(max(j + q, 0), n1 - 1)]
                    for t in range(length):
                        row[border + t] += w * source[t]
        for t in range(border):
            row[t] = row[border + t % channels]
            row[border + length + t] = row[border + length - channels + t % channels]
        goal = out[i, j]
        for t in range(length):
            goal[t] = 0.0
        for r in range(2 * radius + 1):
            w = taps[2, r]
            part = row[r * channels :]
            for t in range(length):
                goal[t] += w * part[t]


@inlined
def _difference(values, at, back, ahead, scale):
    """(f(x + h) - f(x - h)) scale from flat places."""
    return (values[at + ahead] - values[at - back]) * scale


@kernel
def strongest_per_cell(begin, end, values, shape, allowed, scale, cell, margin, indices, gradients):
    """The voxel with the largest gradient in every cell of cell (3,) voxels: indices (cells, 3), -1 where none is allowed.

    values, of `shape` (n0, n1, n2, C), and allowed are flat; of several channels the one with the largest gradient counts.
    scale (3,): 1 / (2 spacing), 0 for an axis of length one. gradients (cells, 3) are those there, along the index axes;
    margin (3,) voxels at the border take no part; an `allowed` without elements allows all.
    """
    n0, n1, n2, channels = shape
    layer, line = n1 * n2 * channels, n2 * channels
    c1, c2 = -(-n1 // cell[1]), -(-n2 // cell[2])
    for number in range(begin, end):
        a, b, d = number // (c1 * c2), (number // c2) % c1, number % c2
        best = 0.0
        indices[number, 0] = -1
        for i in range(max(a * cell[0], margin[0]), min((a + 1) * cell[0], n0 - margin[0])):
            # outside stands what stands at the border
            back_0, ahead_0 = np.uint64(layer if i > 0 else 0), np.uint64(layer if i < n0 - 1 else 0)
            for j in range(max(b * cell[1], margin[1]), min((b + 1) * cell[1], n1 - margin[1])):
                back_1, ahead_1 = np.uint64(line if j > 0 else 0), np.uint64(line if j < n1 - 1 else 0)
                for k in range(max(d * cell[2], margin[2]), min((d + 1) * cell[2], n2 - margin[2])):
                    back_2, ahead_2 = np.uint64(channels if k > 0 else 0), np.uint64(channels if k < n2 - 1 else 0)
                    voxel = (i * n1 + j) * n2 + k
                    for c in range(channels):
                        at = np.uint64(voxel * channels + c)
                        x = _difference(values, at, back_0, ahead_0, scale[0]) if n0 > 1 else 0.0
                        y = _difference(values, at, back_1, ahead_1, scale[1])
                        z = _difference(values, at, back_2, ahead_2, scale[2])
                        size = x * x + y * y + z * z
                        if size > best and (allowed.size == 0 or allowed[voxel]):
                            best = size
                            indices[number, 0], indices[number, 1], indices[number, 2] = i, j, k
                            gradients[number, 0], gradients[number, 1], gradients[number, 2] = x, y, z


@inlined
def _outward(labels, shape, i, j, k, spacing, reach):
    """Sum of o / |o|^2 over the offsets o (mm) within `reach` voxels at which another label stands."""
    n0, n1, n2, _ = shape
    own = labels[(i * n1 + j) * n2 + k]
    u, v, w = 0.0, 0.0, 0.0
    for p in range(max(i - reach, 0), min(i + reach + 1, n0)):
        for q in range(max(j - reach, 0), min(j + reach + 1, n1)):
            for r in range(max(k - reach, 0), min(k + reach + 1, n2)):
                if labels[(p * n1 + q) * n2 + r] != own:
                    x, y, z = (p - i) * spacing[0], (q - j) * spacing[1], (r - k) * spacing[2]
                    size = x * x + y * y + z * z
                    u += x / size
                    v += y / size
                    w += z / size
    return u, v, w


@kernel
def flattest_per_cell(begin, end, labels, shape, allowed, spacing, reach, cell, margin, indices, normals):
    """The voxel beside another label with the flattest boundary in every cell; arguments as in `strongest_per_cell`.

    spacing (3,) mm; normals (cells, 3) point out of the voxel's own label, along the index axes, the longer the flatter.
    """
    n0, n1, n2, _ = shape
    layer = n1 * n2
    c1, c2 = -(-n1 // cell[1]), -(-n2 // cell[2])
    for number in range(begin, end):
        a, b, d = number // (c1 * c2), (number // c2) % c1, number % c2
        best = 0.0
        indices[number, 0] = -1
        for i in range(max(a * cell[0], margin[0]), min((a + 1) * cell[0], n0 - margin[0])):
            for j in range(max(b * cell[1], margin[1]), min((b + 1) * cell[1], n1 - margin[1])):
                for k in range(max(d * cell[2], margin[2]), min((d + 1) * cell[2], n2 - margin[2])):
                    at = (i * n1 + j) * n2 + k
                    own = labels[at]
                    beside = (
                        labels[at - layer if i > 0 else at] != own
                        or labels[at + layer if i < n0 - 1 else at] != own
                        or labels[at - n2 if j > 0 else at] != own
                        or labels[at + n2 if j < n1 - 1 else at] != own
                        or labels[at - 1 if k > 0 else at] != own
                        or labels[at + 1 if k < n2 - 1 else at] != own
                    )
                    if not beside or (allowed.size > 0 and not allowed[at]):
                        continue
                    x, y, z = _outward(labels, shape, i, j, k, spacing, reach)
                    size = x**2 + y**2 + z**2
                    if size > best:
                        best = size
                        indices[number, 0], indices[number, 1], indices[number, 2] = i, j, k
                        normals[number, 0], normals[number, 1], normals[number, 2] = x, y, z
