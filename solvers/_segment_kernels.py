"""Numba kernels of the segments: what each of them contributes to a Newton step (symbols: `interior`).

Rows stand in the order of falling numbers of segments, and the k-th segments of all rows that have one lie side by side in slab
k, offsets[k] : offsets[k + 1]. So every loop runs over neighbouring rows, and sums over a row's segments go from slab to slab.
"""

from typing import NamedTuple

import numpy as np

from solvers._compile import njit

# maxima are found in vector registers only where no NaN is to be expected; the loop looks for them by itself
FAST = {"contract", "reassoc", "nsz", "arcp", "nnan"}
# of the mean slope times the mean width: s z and t v of the first iterate
_START = 0.3
# products s z and t v should lie between these shares of their mean after a step
_LEAST, _MOST = 0.1, 10.0


class Segments(NamedTuple):
    """w, g, and b such that f_i(l_i + x) = max_k b_ik + g_ik x."""

    offsets: np.ndarray
    widths: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray


class Iterate(NamedTuple):
    """s, t, z, v; 1 / theta, the right-hand sides h, r_z and r_v; the step ds, dz, dv, and the one before."""

    s: np.ndarray
    t: np.ndarray
    z: np.ndarray
    v: np.ndarray
    inverse: np.ndarray
    h: np.ndarray
    r_z: np.ndarray
    r_v: np.ndarray
    step: np.ndarray
    kept: np.ndarray


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
def started(segments, x, y, sloped):
    """The first iterate from x = A c - l, sum_k s_ik and the interval's length; y becomes the slopes at x unless it is `sloped`.

    Every segment is halfway between its middle and what x fills of it; s z and t v are alike where z or v is small.
    """
    offsets, count, m = segments.offsets, len(segments.widths), len(y)
    numbers = np.empty((6, count))
    s, t, z, v = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    filled, length, left = np.zeros(m), np.zeros(m), x.copy()
    for k in range(len(offsets) - 1):
        for i in range(offsets[k + 1] - offsets[k]):
            j = offsets[k] + i
            w = segments.widths[j]
            if not sloped and (k == 0 or left[i] > 0.0):
                y[i] = segments.slopes[j]
            s[j] = 0.25 * w + 0.5 * min(max(left[i], 0.0), w)
            t[j] = w - s[j]
            left[i] -= w
            length[i] += w
            filled[i] += s[j]
    mu = _START * np.abs(segments.slopes).mean() * segments.widths.mean() + 1e-6
    for k in range(len(offsets) - 1):
        for i in range(offsets[k + 1] - offsets[k]):
            j = offsets[k] + i
            rise = segments.slopes[j] - y[i]
            z[j] = max(rise, 0.0) + mu / s[j]
            v[j] = max(-rise, 0.0) + mu / t[j]
    steps = np.empty((2, 3, count))
    return Iterate(s, t, z, v, numbers[0], numbers[1], numbers[2], numbers[3], steps[0], steps[1]), filled, length


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
        s, t, z, v, ds = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.step[0, here]
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
    """r_z, r_v, h and e_i of the corrector: s z and t v shall become `aim`, with the predictor's products of steps taken off."""
    offsets = segments.offsets
    e[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v, ds = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.step[0, here]
        g, inverse, h = segments.slopes[here], iterate.inverse[here], iterate.h[here]
        r_z, r_v = iterate.r_z[here], iterate.r_v[here]
        for i in range(len(s)):
            over_s, over_t = 1 / s[i], 1 / t[i]
            p, q = ds[i] * over_s, ds[i] * over_t
            r_z[i] = aim - s[i] * z[i] * (1 - p * (1 + p))
            r_v[i] = aim - t[i] * v[i] * (1 + q * (1 - q))
            h[i] = y[i] - g[i] + z[i] - v[i] + r_z[i] * over_s - r_v[i] * over_t
            e[i] += inverse[i] * h[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def centred(segments, iterate, mu, primal, dual, e):
    """Change r_z, r_v, h and e_i so that no product is far from mu after such long steps (Gondzio 1996)."""
    offsets = segments.offsets
    e[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v, inverse = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.inverse[here]
        ds, dz, dv = iterate.step[0, here], iterate.step[1, here], iterate.step[2, here]
        h, r_z, r_v = iterate.h[here], iterate.r_z[here], iterate.r_v[here]
        for i in range(len(s)):
            sz = (s[i] + primal * ds[i]) * (z[i] + dual * dz[i])
            tv = (t[i] - primal * ds[i]) * (v[i] + dual * dv[i])
            more_z = max(min(max(sz, _LEAST * mu), _MOST * mu) - sz, -_MOST * mu)
            more_v = max(min(max(tv, _LEAST * mu), _MOST * mu) - tv, -_MOST * mu)
            r_z[i] += more_z
            r_v[i] += more_v
            h[i] += more_z / s[i] - more_v / t[i]
            e[i] += inverse[i] * h[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def corrector_step(segments, iterate, dy, primal, dual):
    """ds, dz and dv; the largest relative falls of s or t, and of z or v."""
    offsets = segments.offsets
    primal[:] = 0.0
    dual[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v, inverse = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here], iterate.inverse[here]
        ds, dz, dv = iterate.step[0, here], iterate.step[1, here], iterate.step[2, here]
        h, r_z, r_v = iterate.h[here], iterate.r_z[here], iterate.r_v[here]
        for i in range(len(s)):
            over_s, over_t = 1 / s[i], 1 / t[i]
            ds[i] = (dy[i] + h[i]) * inverse[i]
            dz[i] = (r_z[i] - z[i] * ds[i]) * over_s
            dv[i] = (r_v[i] + v[i] * ds[i]) * over_t
            primal[i] = max(primal[i], -ds[i] * over_s, ds[i] * over_t)
            dual[i] = max(dual[i], -dz[i] / z[i], -dv[i] / v[i])
    return largest(primal), largest(dual)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def advance(segments, iterate, primal, dual, filled):
    """Take the steps; filled_i = sum_k s_ik."""
    offsets = segments.offsets
    filled[:] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate.s[here], iterate.t[here], iterate.z[here], iterate.v[here]
        ds, dz, dv = iterate.step[0, here], iterate.step[1, here], iterate.step[2, here]
        for i in range(len(s)):
            s[i] += primal * ds[i]
            t[i] -= primal * ds[i]
            z[i] += dual * dz[i]
            v[i] += dual * dv[i]
            filled[i] += s[i]
