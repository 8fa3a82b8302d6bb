"""Slow twins of the kernels of `augreg.lp`: the definitions, one keypoint at a time."""

import itertools

import numpy as np

from support import naive


def gradient(values, spacing):
    """Central differences along the index axes, one-sided halves at the border; of several channels the largest gradient."""
    ndim = len(spacing)
    out = np.zeros((*values.shape[:ndim], ndim))
    for index in itertools.product(*map(range, values.shape[:ndim])):
        candidates = []
        for channel in range(values.shape[ndim]):
            g = np.zeros(ndim)
            for axis in range(ndim):
                ahead, behind = list(index), list(index)
                ahead[axis] = min(index[axis] + 1, values.shape[axis] - 1)
                behind[axis] = max(index[axis] - 1, 0)
                g[axis] = (values[(*ahead, channel)] - values[(*behind, channel)]) / (2 * spacing[axis])
            candidates.append(g)
        out[index] = max(candidates, key=np.linalg.norm)
    return out


def lines(values, grid, centers, along, across, first, step, count):
    """Samples (N, C, L, count) on bundles of lines; NaN outside the grid's voxel centres."""
    out = np.full((len(centers), values.shape[-1], across.shape[1], count), np.nan)
    for i, line, t in np.ndindex(len(centers), across.shape[1], count):
        point = centers[i] + across[i, line] + (first + t) * step * along[i]
        index = grid.indices_at(point)
        if np.all((index >= 0) & (index <= np.array(grid.shape) - 1)):
            out[i, :, line, t] = naive.sample_linear(values, grid, point, np.nan)
    return out


def _pairs(fixed, moving, ratio, shift):
    """Samples that face each other at one shift, (samples, C) each, of fixed (C, L, T) and moving, and where none is NaN."""
    channels, _, length = fixed.shape
    f = fixed.reshape(channels, -1).T
    m = moving[:, :, shift : shift + (length - 1) * ratio + 1 : ratio].reshape(channels, -1).T
    good = np.isfinite(f) & np.isfinite(m)
    return f, m, good


def ncc(fixed, moving, ratio, shifts, floor, least):
    out = np.full((len(fixed), shifts), np.nan)
    for i, shift in np.ndindex(out.shape):
        f, m, good = _pairs(fixed[i], moving[i], ratio, shift)
        if any(good[:, c].sum() < least * len(f) for c in range(f.shape[1])):
            continue
        terms = []
        for c in range(f.shape[1]):
            a, b = f[good[:, c], c], m[good[:, c], c]
            terms.append(
                1 - np.mean((a - a.mean()) * (b - b.mean())) / np.sqrt((a.var() + floor[0, c]) * (b.var() + floor[1, c]))
            )
        out[i, shift] = np.mean(terms)
    return out


def ssd(fixed, moving, ratio, shifts, variance, least):
    out = np.full((len(fixed), shifts), np.nan)
    for i, shift in np.ndindex(out.shape):
        f, m, good = _pairs(fixed[i], moving[i], ratio, shift)
        if good.sum() >= least * good.size:
            out[i, shift] = np.mean((((f - m) ** 2) / variance)[good])
    return out


def table(fixed, moving, ratio, shifts, rho, least):
    out = np.full((len(fixed), shifts), np.nan)
    for i, shift in np.ndindex(out.shape):
        f, m, _ = _pairs(fixed[i, None].astype(float), moving[i, None].astype(float), ratio, shift)
        pairs = [(int(a), int(b)) for a, b in zip(f[:, 0], m[:, 0], strict=True) if a >= 0 and b >= 0]
        if len(pairs) >= least * len(f):
            out[i, shift] = np.mean([rho[pair] for pair in pairs])
    return out


def envelope(costs):
    """The lower convex envelope at every x: the least value of a chord over x."""
    n = len(costs)
    out = costs.astype(float).copy()
    for x in range(n):
        for a in range(x):
            for b in range(x + 1, n):
                out[x] = min(out[x], (costs[a] * (b - x) + costs[b] * (x - a)) / (b - a))
    return out


def outward(labels, index, spacing, reach):
    """Sum of o / |o|^2 over offsets o (mm) to voxels with another label within `reach` voxels along each axis."""
    total = np.zeros(labels.ndim)
    for steps in itertools.product(range(-reach, reach + 1), repeat=labels.ndim):
        at = np.array(index) + steps
        if np.all(at >= 0) and np.all(at < labels.shape) and labels[tuple(at)] != labels[tuple(index)]:
            o = np.array(steps) * spacing
            total += o / (o @ o)
    return total


def best_offsets(fixed, moved, corner, centers, half, reach, floor, least):
    """Offsets (N, D) and scores (N, 3) of block matching, on arrays of D axes."""
    offsets, scores = [], []
    for center in centers:
        found = {}
        for d in itertools.product(*(range(-r, r + 1) for r in reach)):
            f, m, total = [], [], 0
            for u in itertools.product(*(range(-h, h + 1) for h in half)):
                total += 1
                x = tuple(c + k for c, k in zip(center, u, strict=True))
                if all(0 <= k < n for k, n in zip(x, fixed.shape, strict=True)):
                    f.append(fixed[x])
                    m.append(moved[tuple(k + o + c for k, o, c in zip(x, d, corner, strict=True))])
            f, m = np.array(f, float), np.array(m, float)
            known = np.isfinite(f + m)
            if known.sum() < max(least * total, 2):
                continue
            f, m = f[known], m[known]
            found[d] = np.mean((f - f.mean()) * (m - m.mean())) / np.sqrt((f.var() + floor[0]) * (m.var() + floor[1]))
        best = max(found, key=found.get) if found else (0,) * len(half)
        here = found.get((0,) * len(half), np.nan)
        offsets.append(best)
        scores.append((found.get(best, np.nan), here, min(found.values(), default=np.nan)))
    return np.array(offsets), np.array(scores)
