"""Kernels of what images want of a displacement field on blocks: the moving image seen through it, windows, forces.

Rasters are float32 (n0, n1, n2), n1 = 1 in 2-D, NaN where nothing is known. A block is `blocks` (3,) voxels, 1 or 2 along each
axis; fields on blocks are (K, h0, h1, h2), n = h * blocks. Vectors have D components, in 2-D those of the first and the last
axis, and count blocks. `span` (h0, h1, 2) says of each line of blocks which are looked at.

Lines are worked on in pieces of a fixed length, in scratch whose rows lie at known distances: only then, and where indices begin
at 0, can a compiler tell that no two of ten rows overlap, and take many voxels at a time.
"""

import numpy as np

from solvers._compile import FAST, inlined, kernel

F = np.float32
NAN = F(np.nan)
# voxels of a piece, even
PIECE = 128


@inlined
def _place(voxel, block, size):
    """Where a voxel lies between two blocks: the first of them, the second, its weight."""
    y = F(voxel) if block == 1 else F(0.5) * F(voxel) - F(0.25)
    y = min(max(y, F(0.0)), F(size - 1))
    first = int(y)
    return first, min(first + 1, size - 1), y - F(first)


@inlined
def _line_between(field, places, scale, begin, count, out):
    """Between four lines of a field, times a scale: nodes begin - 1 to begin + count, the border repeated, in out (count + 2)."""
    h2 = field.shape[2]
    a0, a1, u, b0, b1, v = places
    first, last = max(begin - 1, 0), min(begin + count + 1, h2)
    p, q, r, s = field[a0, b0, first:last], field[a0, b1, first:last], field[a1, b0, first:last], field[a1, b1, first:last]
    w0, w1 = scale * (F(1.0) - u) * (F(1.0) - v), scale * (F(1.0) - u) * v
    w2, w3 = scale * u * (F(1.0) - v), scale * u * v
    target = out[first - begin + 1 :]
    for k in range(last - first):
        target[k] = w0 * p[k] + w1 * q[k] + w2 * r[k] + w3 * s[k]
    if begin == 0:
        out[0] = out[1]
    if begin + count == h2:
        out[count + 1] = out[count]


@kernel(fastmath=FAST)
def warped(begin, end, moving, sizes, field, matrix, offset, blocks, span, out):
    """moving(M (i + U(i)) + offset), linear, in lines of out; U is the field between its blocks, in voxels.

    moving is flat, of `sizes` (3,). NaN outside it, where one of the neighbours is, and outside the span.
    """
    n1 = out.shape[1]
    ndim, h0, h1, _ = field.shape
    m0, m1, m2 = sizes[0], sizes[1], sizes[2]
    e0, e1, e2 = F(m0 - 1), F(m1 - 1), F(m2 - 1)
    line, weights = np.empty((3, PIECE), F), np.empty((3, PIECE), F)
    nodes, place = np.empty(PIECE + 2, F), np.empty(PIECE, np.uint64)
    layer, next_line, one = np.uint64(m1 * m2), np.uint64(m2), np.uint64(1)
    for k in range(PIECE):
        line[1, k] = F(0.0)
    for item in range(begin, end):
        i, j = item // n1, item % n1
        first, last = span[i // blocks[0], j // blocks[1], 0] * blocks[2], span[i // blocks[0], j // blocks[1], 1] * blocks[2]
        before, after = out[i, j, : max(first, 0)], out[i, j, max(last, 0) :]
        for k in range(len(before)):
            before[k] = NAN
        for k in range(len(after)):
            after[k] = NAN
        a0, a1, u = _place(i, blocks[0], h0)
        b0, b1, v = _place(j, blocks[1], h1)
        for start in range(first, last, PIECE):
            width = min(PIECE, last - start)
            for d in range(ndim):
                axis = d if ndim == 3 else 2 * d
                count = width // blocks[2]
                _line_between(field[d], (a0, a1, u, b0, b1, v), F(blocks[axis]), start // blocks[2], count, nodes)
                if blocks[2] == 1:
                    for k in range(count):
                        line[axis, k] = nodes[k + 1]
                else:
                    for k in range(count):
                        line[axis, 2 * k] = F(0.75) * nodes[k + 1] + F(0.25) * nodes[k]
                        line[axis, 2 * k + 1] = F(0.75) * nodes[k + 1] + F(0.25) * nodes[k + 2]
            for k in range(width):
                x, y, z = F(i) + line[0, k], F(j) + line[1, k], F(start + k) + line[2, k]
                a = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + offset[0]
                b = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + offset[1]
                c = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + offset[2]
                b = b if ndim == 3 else F(0.0)
                # the greatest of the distances beyond the borders
                beyond = max(max(max(-a, a - e0), max(-b, b - e1)), max(-c, c - e2))
                a, b, c = min(max(a, F(0.0)), e0), min(max(b, F(0.0)), e1), min(max(c, F(0.0)), e2)
                ia, ib, ic = (
                    np.int32(min(a, e0 - F(1.0))),
                    np.int32(max(min(b, e1 - F(1.0)), F(0.0))),
                    np.int32(min(c, e2 - F(1.0))),
                )
                weights[0, k] = a - F(ia) if beyond <= F(0.5) else NAN
                weights[1, k] = b - F(ib)
                weights[2, k] = c - F(ic)
                place[k] = (np.int64(ia) * m1 + np.int64(ib)) * m2 + np.int64(ic)
            target = out[i, j, start : start + width]
            if ndim == 2:
                for k in range(width):
                    o, w = place[k], weights[2, k]
                    near = moving[o] + w * (moving[o + one] - moving[o])
                    o += layer
                    far = moving[o] + w * (moving[o + one] - moving[o])
                    target[k] = near + weights[0, k] * (far - near)
            else:
                for k in range(width):
                    o, t, w = place[k], weights[1, k], weights[2, k]
                    e = o + next_line
                    near = moving[o] + w * (moving[o + one] - moving[o])
                    below = moving[e] + w * (moving[e + one] - moving[e])
                    near += t * (below - near)
                    o += layer
                    e += layer
                    far = moving[o] + w * (moving[o + one] - moving[o])
                    below = moving[e] + w * (moving[e + one] - moving[e])
                    far += t * (below - far)
                    target[k] = near + weights[0, k] * (far - near)


@kernel(fastmath=FAST)
def moments(begin, end, fixed, moved, blocks, span, out):
    """Sums over the voxels of a block that both images know: of 1, f, f^2, m, m^2, f m, in lines of out (6, h0, h1, h2).

    0 outside the span.
    """
    h1, h2 = out.shape[2], out.shape[3]
    sums = np.empty((6, PIECE), F)
    for item in range(begin, end):
        i, j = item // h1, item % h1
        first, last = span[i, j, 0], span[i, j, 1]
        for c in range(6):
            target = out[c, i, j]
            for k in range(first):
                target[k] = F(0.0)
            for k in range(max(last, 0), h2):
                target[k] = F(0.0)
        for start in range(first * blocks[2], last * blocks[2], PIECE):
            width = min(PIECE, last * blocks[2] - start)
            for c in range(6):
                for k in range(PIECE):
                    sums[c, k] = F(0.0)
            for p in range(blocks[0]):
                for q in range(blocks[1]):
                    x, y = i * blocks[0] + p, j * blocks[1] + q
                    f, m = fixed[x, y, start : start + width], moved[x, y, start : start + width]
                    for k in range(width):
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
                _by_blocks(sums[c], blocks[2], width, False, out[c, i, j, start // blocks[2] :])


@inlined
def _by_blocks(values, block, width, more, out):
    """Sums over blocks of one line; with `more` added to what is there."""
    for k in range(width // block):
        value = values[k] if block == 1 else values[2 * k] + values[2 * k + 1]
        out[k] = out[k] + value if more else value


@kernel(fastmath=FAST)
def coefficients(begin, end, sums, numbers, out, totals):
    """Of each window what its force is made of, from its sums (C, 6, h0, h1, h2): see `augreg.dense.level`.

    numbers (4,): voxels that a window must know, structure that counts as none in either image, the floor of variances.
    out (2 + C, h0, h1, h2): those of A, of B, and of C for every channel; totals (lines, 2): sums of w ncc and of w.
    """
    channels, h1, h2 = len(sums), out.shape[2], out.shape[3]
    least, none_fixed, none_moving, floor = numbers[0], numbers[1], numbers[2], numbers[3]
    a, b, c = np.empty(h2, F), np.empty(h2, F), np.empty(h2, F)
    for item in range(begin, end):
        i, j = item // h1, item % h1
        for k in range(h2):
            a[k], b[k], c[k] = F(0.0), F(0.0), F(0.0)
        for channel in range(channels):
            for k in range(h2):
                share = F(1.0) / max(sums[channel, 0, i, j, k], F(1.0))
                f, m = sums[channel, 1, i, j, k] * share, sums[channel, 3, i, j, k] * share
                a[k] += max(sums[channel, 2, i, j, k] * share - f * f, F(0.0))
                b[k] += max(sums[channel, 4, i, j, k] * share - m * m, F(0.0))
                c[k] += sums[channel, 5, i, j, k] * share - f * m
        total, weight = F(0.0), F(0.0)
        for k in range(h2):
            n = sums[0, 0, i, j, k]
            va, vb = a[k] + floor, b[k] + floor
            w = max(a[k] - none_fixed, F(0.0)) / va * (max(b[k] - none_moving, F(0.0)) / vb)
            w = w if n >= least else F(0.0)
            root = F(1.0) / np.sqrt(va * vb)
            ncc = c[k] * root
            total += w * ncc
            weight += w
            g = w * max(ncc, F(0.0)) / max(n, F(1.0))
            out[0, i, j, k] = g * root
            out[1, i, j, k] = g * ncc / vb
        totals[item, 0] = total
        totals[item, 1] = weight
        for channel in range(channels):
            for k in range(h2):
                share = F(1.0) / max(sums[channel, 0, i, j, k], F(1.0))
                f, m = sums[channel, 1, i, j, k] * share, sums[channel, 3, i, j, k] * share
                out[2 + channel, i, j, k] = out[0, i, j, k] * f - out[1, i, j, k] * m


@inlined
def _difference(after, before):
    """Half of it; 0 where one of them is not known."""
    d = F(0.5) * (after - before)
    return d if d == d else F(0.0)


@kernel(fastmath=FAST)
def forces(begin, end, fixed, moved, channel, coefficients, blocks, scale, span, out):
    """Block sums of s J and of B J J^T, in lines of out (D + D (D + 1) / 2, h0, h1, h2), s = A f - B m - C, J by `scale` (3,).

    coefficients (2 + channels, h0, h1, h2): A, B, and C of every channel. What the first channel has, others are added to.
    """
    n0, n1, n2 = fixed.shape
    count, _, h1, h2 = out.shape
    sums, of = np.empty((9, PIECE), F), np.empty((3, PIECE), F)
    part, near = np.empty((5, PIECE), F), np.empty(PIECE + 2, F)
    for item in range(begin, end):
        i, j = item // h1, item % h1
        first, last = span[i, j, 0], span[i, j, 1]
        for c in range(count if channel == 0 else 0):
            target = out[c, i, j]
            for k in range(first):
                target[k] = F(0.0)
            for k in range(max(last, 0), h2):
                target[k] = F(0.0)
        for start in range(first * blocks[2], last * blocks[2], PIECE):
            width = min(PIECE, last * blocks[2] - start)
            for c in range(count):
                for k in range(PIECE):
                    sums[c, k] = F(0.0)
            for c in range(3):
                own = coefficients[c if c < 2 else 2 + channel, i, j, start // blocks[2] :]
                if blocks[2] == 1:
                    for k in range(width):
                        of[c, k] = own[k]
                else:
                    for k in range(width // 2):
                        of[c, 2 * k] = own[k]
                        of[c, 2 * k + 1] = own[k]
            for p in range(blocks[0]):
                x = i * blocks[0] + p
                x0, x1 = max(x - 1, 0), min(x + 1, n0 - 1)
                for q in range(blocks[1]):
                    y = j * blocks[1] + q
                    y0, y1 = max(y - 1, 0), min(y + 1, n1 - 1)
                    stop = start + width
                    f, m = fixed[x, y, start:stop], moved[x, y, start:stop]
                    after, before = moved[x1, y, start:stop], moved[x0, y, start:stop]
                    right, left = moved[x, y1, start:stop], moved[x, y0, start:stop]
                    near[0], near[width + 1] = moved[x, y, max(start - 1, 0)], moved[x, y, min(stop, n2 - 1)]
                    for k in range(width):
                        near[k + 1] = m[k]
                    for k in range(width):
                        s = f[k] * of[0, k] - m[k] * of[1, k] - of[2, k]
                        known = s == s
                        part[0, k] = s if known else F(0.0)
                        part[1, k] = of[1, k] if known else F(0.0)
                        part[2, k] = scale[0] * _difference(after[k], before[k])
                        part[3, k] = scale[1] * _difference(right[k], left[k])
                        part[4, k] = scale[2] * _difference(near[k + 2], near[k])
                    _gathered(part, width, count, sums)
            for c in range(count):
                _by_blocks(sums[c], blocks[2], width, channel > 0, out[c, i, j, start // blocks[2] :])


@inlined
def _gathered(part, width, count, sums):
    """Add s J and w J J^T to sums; part has s, w and J."""
    if count == 5:
        for k in range(width):
            s, w, x, z = part[0, k], part[1, k], part[2, k], part[4, k]
            sums[0, k] += s * x
            sums[1, k] += s * z
            sums[2, k] += w * x * x
            sums[3, k] += w * x * z
            sums[4, k] += w * z * z
    else:
        for k in range(width):
            s, w, x, y, z = part[0, k], part[1, k], part[2, k], part[3, k], part[4, k]
            sums[0, k] += s * x
            sums[1, k] += s * y
            sums[2, k] += s * z
            sums[3, k] += w * x * x
            sums[4, k] += w * x * y
            sums[5, k] += w * x * z
            sums[6, k] += w * y * y
            sums[7, k] += w * y * z
            sums[8, k] += w * z * z


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
