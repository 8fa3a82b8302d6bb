"""Kernels of what images want of a displacement field on blocks: the moving image seen through it, windows, forces.

Rasters are float32 (n0, n1, n2), n1 = 1 in 2-D, NaN where nothing is known. A block is `blocks` (3,) voxels, 1 or 2 along each
axis; fields on blocks are (K, h0, h1, h2), n = h * blocks. Vectors have D components, in 2-D those of the first and the last
axis, and count blocks. `span` (h0, h1, 2) says of each line of blocks which are looked at.
"""

import numpy as np

from solvers._compile import FAST, inlined, kernel

F = np.float32
NAN = F(np.nan)


@inlined
def _place(voxel, block, size):
    """Where a voxel lies between two blocks: the first of them, the second, its weight."""
    y = F(voxel) if block == 1 else F(0.5) * F(voxel) - F(0.25)
    y = min(max(y, F(0.0)), F(size - 1))
    first = int(y)
    return first, min(first + 1, size - 1), y - F(first)


@inlined
def _inside(index, size):
    return index >= F(-0.5) and index <= F(size) - F(0.5)


@kernel(fastmath=FAST)
def warped(begin, end, moving, sizes, field, matrix, offset, blocks, span, out):
    """moving(M (i + U(i)) + offset), linear, in lines of out; U is the field between its blocks, in voxels.

    moving is flat, of `sizes` (3,). NaN outside it, where one of the neighbours is, and outside the span.
    """
    n1, n2 = out.shape[1], out.shape[2]
    ndim, h0, h1, h2 = field.shape
    m0, m1, m2 = sizes[0], sizes[1], sizes[2]
    line = np.zeros((3, n2), F)
    row = np.empty(h2, F)
    for item in range(begin, end):
        i, j = item // n1, item % n1
        first, last = span[i // blocks[0], j // blocks[1], 0] * blocks[2], span[i // blocks[0], j // blocks[1], 1] * blocks[2]
        target = out[i, j]
        for k in range(n2):
            target[k] = NAN
        if first >= last:
            continue
        a0, a1, u = _place(i, blocks[0], h0)
        b0, b1, v = _place(j, blocks[1], h1)
        for d in range(ndim):
            axis = d if ndim == 3 else 2 * d
            scale = F(blocks[axis])
            p, q, r, s = field[d, a0, b0], field[d, a0, b1], field[d, a1, b0], field[d, a1, b1]
            w0, w1 = scale * (F(1.0) - u) * (F(1.0) - v), scale * (F(1.0) - u) * v
            w2, w3 = scale * u * (F(1.0) - v), scale * u * v
            for k in range(h2):
                row[k] = w0 * p[k] + w1 * q[k] + w2 * r[k] + w3 * s[k]
            if blocks[2] == 1:
                for k in range(h2):
                    line[axis, k] = row[k]
            else:
                for k in range(h2):
                    line[axis, 2 * k] = F(0.75) * row[k] + F(0.25) * row[max(k - 1, 0)]
                    line[axis, 2 * k + 1] = F(0.75) * row[k] + F(0.25) * row[min(k + 1, h2 - 1)]
        for k in range(first, last):
            x, y, z = F(i) + line[0, k], F(j) + line[1, k], F(k) + line[2, k]
            a = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + offset[0]
            c = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + offset[2]
            b = F(0.0)
            if ndim == 3:
                b = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + offset[1]
            if not (_inside(a, m0) and _inside(b, m1) and _inside(c, m2)):
                continue
            a, c = min(max(a, F(0.0)), F(m0 - 1)), min(max(c, F(0.0)), F(m2 - 1))
            ia, ic = min(np.int64(a), m0 - 2), min(np.int64(c), m2 - 2)
            u, w = a - F(ia), c - F(ic)
            layer = np.uint64(m1 * m2)
            if ndim == 2:
                o = np.uint64(ia * m2 + ic)
                near = moving[o] + w * (moving[o + np.uint64(1)] - moving[o])
                o += layer
                far = moving[o] + w * (moving[o + np.uint64(1)] - moving[o])
                target[k] = near + u * (far - near)
                continue
            b = min(max(b, F(0.0)), F(m1 - 1))
            ib = min(np.int64(b), m1 - 2)
            t = b - F(ib)
            o = np.uint64((ia * m1 + ib) * m2 + ic)
            e = o + np.uint64(m2)
            near = moving[o] + w * (moving[o + np.uint64(1)] - moving[o])
            below = moving[e] + w * (moving[e + np.uint64(1)] - moving[e])
            near += t * (below - near)
            o += layer
            e += layer
            far = moving[o] + w * (moving[o + np.uint64(1)] - moving[o])
            below = moving[e] + w * (moving[e + np.uint64(1)] - moving[e])
            far += t * (below - far)
            target[k] = near + u * (far - near)


@kernel(fastmath=FAST)
def moments(begin, end, fixed, moved, blocks, out):
    """Sums over the voxels of a block that both images know: of 1, f, f^2, m, m^2, f m, in lines of out (6, h0, h1, h2)."""
    n2 = fixed.shape[2]
    h1, h2 = out.shape[2], out.shape[3]
    sums = np.empty((6, n2), F)
    for item in range(begin, end):
        i, j = item // h1, item % h1
        for c in range(6):
            for k in range(n2):
                sums[c, k] = F(0.0)
        for p in range(blocks[0]):
            for q in range(blocks[1]):
                f, m = fixed[i * blocks[0] + p, j * blocks[1] + q], moved[i * blocks[0] + p, j * blocks[1] + q]
                for k in range(n2):
                    a, b = f[k], m[k]
                    known = a + b == a + b
                    a, b = (a if known else F(0.0)), (b if known else F(0.0))
                    sums[0, k] += F(1.0) if known else F(0.0)
                    sums[1, k] += a
                    sums[2, k] += a * a
                    sums[3, k] += b
                    sums[4, k] += b * b
                    sums[5, k] += a * b
        for c in range(6):
            if blocks[2] == 1:
                for k in range(h2):
                    out[c, i, j, k] = sums[c, k]
            else:
                for k in range(h2):
                    out[c, i, j, k] = sums[c, 2 * k] + sums[c, 2 * k + 1]


@kernel(fastmath=FAST)
def coefficients(begin, end, sums, numbers, out, totals):
    """Of each window what its force is made of, from its sums (6, h0, h1, h2): see `augreg.dense.level`.

    numbers (5,): voxels that a window must know, structure that counts as none in either image, the floor of variances.
    out (4, h0, h1, h2); totals (lines, 2): sums of w ncc and of w.
    """
    h1, h2 = out.shape[2], out.shape[3]
    least, none_fixed, none_moving, floor = numbers[0], numbers[1], numbers[2], numbers[3]
    for item in range(begin, end):
        i, j = item // h1, item % h1
        total, weight = F(0.0), F(0.0)
        for k in range(h2):
            n = sums[0, i, j, k]
            share = F(1.0) / max(n, F(1.0))
            f, m = sums[1, i, j, k] * share, sums[3, i, j, k] * share
            a0 = max(sums[2, i, j, k] * share - f * f, F(0.0))
            b0 = max(sums[4, i, j, k] * share - m * m, F(0.0))
            a, b = a0 + floor, b0 + floor
            w = max(a0 - none_fixed, F(0.0)) / a * (max(b0 - none_moving, F(0.0)) / b)
            w = w if n >= least else F(0.0)
            root = F(1.0) / np.sqrt(a * b)
            ncc = (sums[5, i, j, k] * share - f * m) * root
            total += w * ncc
            weight += w
            g = w * max(ncc, F(0.0)) * share
            along, own = g * root, g * ncc / b
            out[0, i, j, k] = along
            out[1, i, j, k] = own
            out[2, i, j, k] = along * f - own * m
            out[3, i, j, k] = own
        totals[item, 0] = total
        totals[item, 1] = weight


@inlined
def _difference(after, before):
    """Half of it; 0 where one of them is not known."""
    d = F(0.5) * (after - before)
    return d if d == d else F(0.0)


@kernel(fastmath=FAST)
def forces(begin, end, fixed, moved, coefficients, blocks, scale, span, out):
    """Block sums of s J and of W J J^T, in lines of out (D + D (D + 1) / 2, h0, h1, h2), s = A f - B m - C, J by `scale` (3,).

    coefficients (4, h0, h1, h2): A, B, C, W.
    """
    n0, n1, n2 = fixed.shape
    count, _, h1, h2 = out.shape
    sums = np.empty((9, n2), F)
    of = np.empty((4, n2), F)
    for item in range(begin, end):
        i, j = item // h1, item % h1
        first, last = span[i, j, 0] * blocks[2], span[i, j, 1] * blocks[2]
        for c in range(count):
            for k in range(h2):
                out[c, i, j, k] = F(0.0)
            for k in range(n2):
                sums[c, k] = F(0.0)
        if first >= last:
            continue
        for c in range(4):
            for k in range(h2):
                for t in range(blocks[2]):
                    of[c, k * blocks[2] + t] = coefficients[c, i, j, k]
        for p in range(blocks[0]):
            x = i * blocks[0] + p
            x0, x1 = max(x - 1, 0), min(x + 1, n0 - 1)
            for q in range(blocks[1]):
                y = j * blocks[1] + q
                f, m, after, before = fixed[x, y], moved[x, y], moved[x1, y], moved[x0, y]
                right, left = moved[x, min(y + 1, n1 - 1)], moved[x, max(y - 1, 0)]
                for k in range(first, last):
                    s = f[k] * of[0, k] - m[k] * of[1, k] - of[2, k]
                    known = s == s
                    s, w = (s if known else F(0.0)), (of[3, k] if known else F(0.0))
                    g0 = scale[0] * _difference(after[k], before[k])
                    g2 = scale[2] * _difference(m[min(k + 1, n2 - 1)], m[max(k - 1, 0)])
                    if count == 5:
                        sums[0, k] += s * g0
                        sums[1, k] += s * g2
                        sums[2, k] += w * g0 * g0
                        sums[3, k] += w * g0 * g2
                        sums[4, k] += w * g2 * g2
                    else:
                        g1 = scale[1] * _difference(right[k], left[k])
                        sums[0, k] += s * g0
                        sums[1, k] += s * g1
                        sums[2, k] += s * g2
                        sums[3, k] += w * g0 * g0
                        sums[4, k] += w * g0 * g1
                        sums[5, k] += w * g0 * g2
                        sums[6, k] += w * g1 * g1
                        sums[7, k] += w * g1 * g2
                        sums[8, k] += w * g2 * g2
        for c in range(count):
            for k in range(first // blocks[2], last // blocks[2]):
                for t in range(blocks[2]):
                    out[c, i, j, k] += sums[c, k * blocks[2] + t]


@kernel(fastmath=FAST)
def steps(begin, end, system, epsilon, cap, scale, out):
    """(T + eps I)^-1 G, shortened to `cap`, by `scale` (3,), in lines of out (D, h0, h1, h2); system: G and T of `forces`."""
    ndim, _, h1, h2 = out.shape
    for item in range(begin, end):
        i, j = item // h1, item % h1
        for k in range(h2):
            if ndim == 2:
                x, y = system[0, i, j, k], system[1, i, j, k]
                a, b, c = system[2, i, j, k] + epsilon, system[3, i, j, k], system[4, i, j, k] + epsilon
                share = F(1.0) / (a * c - b * b)
                x, y, z = share * (c * x - b * y), share * (a * y - b * x), F(0.0)
            else:
                a, b, c = system[3, i, j, k] + epsilon, system[4, i, j, k], system[5, i, j, k]
                d, e, f = system[6, i, j, k] + epsilon, system[7, i, j, k], system[8, i, j, k] + epsilon
                p, q, r = d * f - e * e, c * e - b * f, b * e - c * d
                share = F(1.0) / (a * p + b * q + c * r)
                s, t, u = a * f - c * c, b * c - a * e, a * d - b * b
                g0, g1, g2 = system[0, i, j, k], system[1, i, j, k], system[2, i, j, k]
                x = share * (p * g0 + q * g1 + r * g2)
                y = share * (q * g0 + s * g1 + t * g2)
                z = share * (r * g0 + t * g1 + u * g2)
            short = cap / max(np.sqrt(x * x + y * y + z * z), cap)
            out[0, i, j, k] = scale[0] * short * x
            out[1, i, j, k] = scale[2 if ndim == 2 else 1] * short * y
            if ndim == 3:
                out[2, i, j, k] = scale[2] * short * z
