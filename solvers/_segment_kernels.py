"""Numba kernels of the segments: what each of them contributes to a Newton step (symbols: `interior`).

Rows stand in the order of falling numbers of segments, and the k-th segments of all rows that have one lie side by side in slab
k, offsets[k] : offsets[k + 1]. So every loop runs over neighbouring rows, and sums over a row's segments go from slab to slab.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

# maxima are found in vector registers only where no NaN is to be expected; the loop looks for them by itself
FAST = {"contract", "reassoc", "nsz", "arcp", "nnan"}


class Segments(NamedTuple):
    """w, g, and b such that f_i(l_i + x) = max_k b_ik + g_ik x."""

    offsets: np.ndarray
    widths: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray


class Iterate(NamedTuple):
    """s, t, z, v, and the step ds; 1 / theta and h."""

    s: np.ndarray
    t: np.ndarray
    z: np.ndarray
    v: np.ndarray
    ds: np.ndarray
    inverse: np.ndarray
    h: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy")
def row_order(pointers):
    """The rows by falling number of segments."""
    m = len(pointers) - 1
    longest = 0
    for i in range(m):
        longest = max(longest, pointers[i + 1] - pointers[i])
    starts = np.zeros(longest + 2, dtype=np.int64)
    for i in range(m):
        starts[longest - (pointers[i + 1] - pointers[i]) + 1] += 1
    for k in range(longest + 1):
        starts[k + 1] += starts[k]
    order = np.empty(m, dtype=np.int64)
    for i in range(m):
        key = longest - (pointers[i + 1] - pointers[i])
        order[starts[key]] = i
        starts[key] += 1
    return order


@njit(cache=True, nogil=True, error_model="numpy")
def slabs(pointers, order, values, widths, slopes, thinnest):
    """The segments, slab by slab; none narrower than `thinnest`."""
    m = len(order)
    longest = pointers[order[0] + 1] - pointers[order[0]]
    offsets = np.zeros(longest + 1, dtype=np.int64)
    for i in range(m):
        for k in range(pointers[order[i] + 1] - pointers[order[i]]):
            offsets[k + 1] += 1
    for k in range(longest):
        offsets[k + 1] += offsets[k]
    count = offsets[longest]
    w, g, b = np.empty(count), np.empty(count), np.empty(count)
    for i in range(m):
        first = pointers[order[i]]
        at, value = 0.0, values[order[i]]
        for k in range(pointers[order[i] + 1] - first):
            j = offsets[k] + i
            w[j] = max(widths[first + k], thinnest)
            g[j] = slopes[first + k]
            b[j] = value - g[j] * at
            at += w[j]
            value += w[j] * g[j]
    return Segments(offsets, w, g, b)


@njit(cache=True, nogil=True, error_model="numpy")
def started(segments, y, warm):
    """The first iterate, sum_k s_ik and the interval's length; y becomes the middle slopes unless `warm`."""
    offsets, m = segments.offsets, len(y)
    if not warm:
        for k in range(len(offsets) - 1):
            last = offsets[k + 2] - offsets[k + 1] if k + 2 < len(offsets) else 0
            # rows with just k + 1 segments
            for i in range(last, offsets[k + 1] - offsets[k]):
                y[i] = segments.slopes[offsets[(k + 1) // 2] + i]
    margin = 0.1 * np.abs(segments.slopes).mean() + 1e-6
    s = 0.5 * segments.widths
    count = len(s)
    z, v = np.empty(count), np.empty(count)
    filled, length = np.zeros(m), np.zeros(m)
    for k in range(len(offsets) - 1):
        for i in range(offsets[k + 1] - offsets[k]):
            j = offsets[k] + i
            z[j] = max(segments.slopes[j] - y[i], 0.0) + margin
            v[j] = max(y[i] - segments.slopes[j], 0.0) + margin
            length[i] += segments.widths[j]
            filled[i] += s[j]
    return Iterate(s, s.copy(), z, v, np.empty(count), np.empty(count), np.empty(count)), filled, length


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def largest(values):
    """The maximum, or 0."""
    out = 0.0
    for i in range(len(values)):
        out = max(out, values[i])
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def true_costs(segments, x, y, f, conjugate):
    """f_i at l_i + x_i; sum_k w_ik max(0, y_i - g_ik) = f_i*(y_i) - l_i y_i + f_i(l_i)."""
    offsets = segments.offsets
    f[:] = -np.inf
    conjugate[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        w, g, b = segments.widths[here], segments.slopes[here], segments.intercepts[here]
        for i in range(len(w)):
            f[i] = max(f[i], b[i] + g[i] * x[i])
            conjugate[i] += w[i] * max(0.0, y[i] - g[i])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def predicted(segments, iterate, y, d, e):
    """1 / theta; d_i = sum_k 1 / theta_ik and e_i = sum_k h_ik / theta_ik, where h = y - g for the predictor."""
    offsets = segments.offsets
    d[:] = 0.0
    e[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here]
        g, inverse = segments.slopes[here], iterate.inverse[here]
        for i in range(len(s)):
            inverse[i] = s[i] * t[i] / (z[i] * t[i] + v[i] * s[i])
            d[i] += inverse[i]
            e[i] += inverse[i] * (y[i] - g[i])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def predictor_step(segments, iterate, y, dy, primal, dual):
    """ds; how far primal and dual variables may go; s z + t v, now and after these steps.

    With p = ds / s and q = ds / t: dz / z = -(1 + p), dv / v = -(1 - q), and the products after steps a and b are
    s z (1 + a p) (1 - b (1 + p)) + t v (1 - a q) (1 - b (1 - q)).
    """
    offsets = segments.offsets
    primal[:] = 1.0
    dual[:] = 1.0
    now, linear, square = 0.0, 0.0, 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v, ds = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.ds[here]
        g, inverse = segments.slopes[here], iterate.inverse[here]
        for i in range(len(s)):
            step = (dy[i] + y[i] - g[i]) * inverse[i]
            ds[i] = step
            p, q = step / s[i], step / t[i]
            primal[i] = max(primal[i], -p, q)
            dual[i] = max(dual[i], 1 + p, 1 - q)
            sz, tv = s[i] * z[i], t[i] * v[i]
            now += sz + tv
            linear += sz * p - tv * q
            square += sz * p * p + tv * q * q
    a, b = 1 / largest(primal), 1 / largest(dual)
    ahead = (1 - b) * now + (a * (1 - b) - b) * linear - a * b * square
    return now, ahead


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def corrected(segments, iterate, y, aim, e):
    """h and e_i of the corrector: s z and t v shall become `aim`, with the predictor's products of steps taken off."""
    offsets = segments.offsets
    e[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v, ds = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.ds[here]
        g, inverse, h = segments.slopes[here], iterate.inverse[here], iterate.h[here]
        for i in range(len(s)):
            over_s, over_t = 1 / s[i], 1 / t[i]
            p, q = ds[i] * over_s, ds[i] * over_t
            h[i] = y[i] - g[i] + aim * (over_s - over_t) + z[i] * p * (1 + p) + v[i] * q * (1 - q)
            e[i] += inverse[i] * h[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def corrector_step(segments, iterate, dy, aim, primal, dual):
    """ds, dz and dv, the last two in place of h and 1 / theta; the largest relative falls of s or t, and of z or v."""
    offsets = segments.offsets
    primal[:] = 0.0
    dual[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v, ds = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.ds[here]
        inverse, h = iterate.inverse[here], iterate.h[here]
        for i in range(len(s)):
            over_s, over_t = 1 / s[i], 1 / t[i]
            p, q = ds[i] * over_s, ds[i] * over_t
            step = (dy[i] + h[i]) * inverse[i]
            dz = aim * over_s - z[i] + z[i] * (p * (1 + p) - step * over_s)
            dv = aim * over_t - v[i] - v[i] * (q * (1 - q) - step * over_t)
            primal[i] = max(primal[i], -step * over_s, step * over_t)
            dual[i] = max(dual[i], -dz / z[i], -dv / v[i])
            ds[i], h[i], inverse[i] = step, dz, dv
    return largest(primal), largest(dual)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def advance(segments, iterate, primal, dual, filled):
    """Take the steps; filled_i = sum_k s_ik."""
    offsets = segments.offsets
    filled[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here]
        ds, dz, dv = iterate.ds[here], iterate.h[here], iterate.inverse[here]
        for i in range(len(s)):
            s[i] += primal * ds[i]
            t[i] -= primal * ds[i]
            z[i] += dual * dz[i]
            v[i] += dual * dv[i]
            filled[i] += s[i]
