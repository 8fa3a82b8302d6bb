"""A pair of images and their flow in one go, plane by plane: what lies between stays in the cache, and is never written down.

Its twin is `Arithmetic.shown`, made of the functions that stand for the steps.
"""

import numpy as np

from augreg.synthesis.render._lattice_kernels import lattice_line, lattice_plane
from augreg.synthesis.render._map_kernels import EDGE, value
from augreg.synthesis.render._texture_kernels import textured
from solvers._compile import kernel


@kernel
def shown_at(
    begin, end, splines, start, step, affine, shape, own, textures, raster, low, high, swapped, flow, mask, fixed, moving
):
    """phi - id and both images of B pairs: image_o(y) = a(B(phi(y))) and image_b(y) = a(B(y)), a clipped to [low, high].

    splines (2 B, ..) of w_o, then of w_b; affine (2 B, D, D + 1) of A, then of T_b^-1; own (2 B,) the numbers of the images'
    textures, flat, of `raster` (n0, n1, n2, 1); flow (B, D, N), mask (B, N), images (B, N). The outermost index counts pixels of
    the first axis, pair by pair.
    """
    ndim, pairs = len(shape), len(swapped)
    line, last, wide = shape[ndim - 1], splines.shape[2], 1
    if splines.ndim == 5:
        last, wide = splines.shape[4], splines.shape[3]
    pixels, size = mask.shape[1] // shape[0], raster[0] * raster[1] * raster[2]
    where, weight = np.empty(line, np.int64), np.empty((4, line))
    lattice_line(start[ndim - 1], step[ndim - 1], last, where, weight)
    rows, along, plane = np.zeros((ndim, last)), np.empty((ndim, line)), np.zeros((ndim, wide, last))
    points, buffer, u = np.empty((pixels, ndim)), np.empty((3, 4)), np.empty(ndim)
    seen, taps_weight, taps_where = np.empty(pixels, np.float32), np.empty(12), np.empty(12, np.int64)
    taps_weight[0], taps_where[0] = 1.0, 0
    for job in range(begin, end):
        b, i = job // shape[0], job % shape[0]
        for k in range(2):
            n = k * pairs + b
            lattice_plane(splines[n], affine[n], start, step, shape, i, where, weight, rows, along, plane, points)
            for p in range(pixels):
                x, at = points[p], i * pixels + p
                if k == 0:
                    within = True
                    for d in range(ndim):
                        y = i if d == 0 else p % line if d == ndim - 1 else p // line
                        within &= -EDGE <= x[d] <= shape[d] - 1 + EDGE
                        flow[b, d, at] = x[d] - y
                    mask[b, at] = within
                    c, A = splines[pairs + b], affine[pairs + b]
                    value(c, start, step, x, u, buffer)
                    for d in range(ndim):
                        u[d] += x[d]
                    for d in range(ndim):
                        total = A[d, ndim]
                        for a in range(ndim):
                            total += A[d, a] * u[a]
                        x[d] = total
            textured(textures, own[n] * size, raster, points, 0, pixels, taps_weight, taps_where, seen)
            for p in range(pixels):
                t = min(max(seen[p], low[own[n]]), high[own[n]])
                if (k == 0) == swapped[b]:
                    moving[b, i * pixels + p] = t
                else:
                    fixed[b, i * pixels + p] = t
