"""Slow twins of the kernels of the dense registration, from their equations, in float64."""

import itertools

import numpy as np


def displacement(field, blocks, shape):
    """U in voxels, (*shape, D), of a field (D, *h) on blocks: multilinear between the middles of blocks, constant beyond."""
    out = np.empty((*shape, len(shape)))
    for voxel in np.ndindex(*shape):
        at = (np.array(voxel) - (np.array(blocks) - 1) / 2) / np.array(blocks)
        out[voxel] = [blocks[d] * multilinear(part, at) for d, part in enumerate(field)]
    return out


def multilinear(values, at):
    """A value at one index; beyond the border that of the border."""
    at = np.clip(at, 0, np.array(values.shape) - 1)
    first = np.minimum(at.astype(int), np.maximum(np.array(values.shape) - 2, 0))
    total = 0.0
    for corner in itertools.product((0, 1), repeat=values.ndim):
        weight = np.prod(np.where(corner, at - first, 1 - (at - first)))
        if weight > 0:
            total += weight * values[tuple(first + corner)]
    return total


def warped(moving, field, matrix, offset, blocks, shape):
    """moving(M (i + U) + offset), NaN outside the voxels of moving."""
    u, out = displacement(field, blocks, shape), np.full(shape, np.nan)
    for voxel in np.ndindex(*shape):
        at = matrix @ (np.array(voxel) + u[voxel]) + offset
        if (at >= -0.5).all() and (at <= np.array(moving.shape) - 0.5).all():
            out[voxel] = multilinear(moving, at)
    return out


def window_of(block, reach, shape):
    """The blocks within reach, as slices."""
    return tuple(slice(max(b - r, 0), min(b + r + 1, n)) for b, r, n in zip(block, reach, shape, strict=True))


def windows(fixed, moved, blocks, reach, least, none, floor):
    """Of images (C, *shape) per block: n, a, b, ncc, w of its window, (5, *h), and means f, m, (2, C, *h)."""
    shape = tuple(np.array(fixed.shape[1:]) // blocks)
    out, means = np.zeros((5, *shape)), np.zeros((2, len(fixed), *shape))
    for block in np.ndindex(*shape):
        near = tuple(slice(s.start * b, s.stop * b) for s, b in zip(window_of(block, reach, shape), blocks, strict=True))
        f, m = (image[(slice(None), *near)].reshape(len(image), -1) for image in (fixed, moved))
        known = np.isfinite(f + m).all(axis=0)
        f, m = f[:, known], m[:, known]
        if f.shape[1] >= least:
            a, b = f.var(axis=1).sum() + floor, m.var(axis=1).sum() + floor
            ncc = ((f * m).mean(axis=1) - f.mean(axis=1) * m.mean(axis=1)).sum() / np.sqrt(a * b)
            w = max(a - floor - none, 0) / a * max(b - floor - none, 0) / b
            out[(slice(None), *block)] = f.shape[1], a, b, ncc, w
            means[(slice(None), slice(None), *block)] = f.mean(axis=1), m.mean(axis=1)
    return out, means


def objective(fixed, moved, weights, *how):
    """sum w ncc+^2 / 2 for given weights."""
    return float((weights * np.maximum(windows(fixed, moved, *how)[0][3], 0) ** 2).sum()) / 2


def pulls(fixed, moved, found, means, blocks, reach):
    """s (C, *shape) and B (*shape) at every voxel, 0 where one of the images is not known."""
    n, a, b, ncc, w = found
    g = w * np.maximum(ncc, 0) / np.maximum(n, 1)
    a, b = np.where(a > 0, a, 1), np.where(b > 0, b, 1)
    along, own = g / np.sqrt(a * b), g * ncc / b
    rest = along * means[0] - own * means[1]
    shape, s, weight = n.shape, np.zeros(fixed.shape), np.zeros(fixed.shape[1:])
    for voxel in np.ndindex(*weight.shape):
        here = (slice(None), *voxel)
        if np.isfinite(fixed[here] + moved[here]).all():
            near = window_of(tuple(np.array(voxel) // blocks), reach, shape)
            A, B = along[near].sum(), own[near].sum()
            C = rest[(slice(None), *near)].reshape(len(fixed), -1).sum(axis=1)
            s[here], weight[voxel] = A * fixed[here] - B * moved[here] - C, B
    return s, weight


def system(moved, s, weight, blocks, scale):
    """G (D, *h) and T (D, D, *h): sums over blocks."""
    ndim, shape = moved.ndim, tuple(np.array(moved.shape) // blocks)
    slopes = []
    for axis in range(ndim):
        rows = np.moveaxis(moved, axis, 0)
        half = (np.concatenate([rows[1:], rows[-1:]]) - np.concatenate([rows[:1], rows[:-1]])) / 2
        slopes.append(scale[axis] * np.nan_to_num(np.moveaxis(half, 0, axis)))
    J = np.stack(slopes)
    G, T = np.zeros((ndim, *shape)), np.zeros((ndim, ndim, *shape))
    for voxel in np.ndindex(*moved.shape):
        block, j = tuple(np.array(voxel) // blocks), J[(slice(None), *voxel)]
        G[(slice(None), *block)] += s[voxel] * j
        T[(slice(None), slice(None), *block)] += weight[voxel] * np.outer(j, j)
    return G, T


def filtered(values, taps, reach, repeat):
    """Of (n0, n1, n2): sum over offsets of taps and values, the border repeated, or 0 beyond."""
    wide = np.pad(values, [(r, r) for r in reach], mode="edge" if repeat else "constant")
    out = np.zeros(values.shape)
    for offset in itertools.product(*(range(-r, r + 1) for r in reach)):
        weight = np.prod([taps[a][abs(o)] for a, o in enumerate(offset)])
        part = tuple(slice(r + o, r + o + n) for r, o, n in zip(reach, offset, values.shape, strict=True))
        out += weight * wide[part]
    return out


def composed(field, step):
    """step + field o (id + step)."""
    shape, out = field.shape[1:], np.array(step, dtype=float)
    for node in np.ndindex(*shape):
        at = np.array(node) + step[(slice(None), *node)]
        out[(slice(None), *node)] += [multilinear(part, at) for part in field]
    return out


def determinants(field, points):
    """Least determinant of id + u in every cell (those half outside too), at so many points along each axis, (*h + 1)."""
    ndim = len(field)
    wide = np.pad(field.astype(float), [(0, 0)] + [(1, 1)] * ndim, mode="edge")
    cells = tuple(np.array(wide.shape[1:]) - 1)
    least = np.full(cells, np.inf)
    corners = list(itertools.product((0, 1), repeat=ndim))
    values = {c: wide[(slice(None), *(slice(i, n + i) for i, n in zip(c, cells, strict=True)))] for c in corners}
    for at in itertools.product(np.linspace(0, 1, points), repeat=ndim):
        D = np.zeros((*cells, ndim, ndim))
        for axis in range(ndim):
            for c in corners:
                weight = (1 if c[axis] else -1) * np.prod([at[a] if c[a] else 1 - at[a] for a in range(ndim) if a != axis])
                D[..., axis] += weight * np.moveaxis(values[c], 0, -1)
        least = np.minimum(least, np.linalg.det(D + np.eye(ndim)))
    return least
