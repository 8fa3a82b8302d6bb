"""Numba kernels of the segments: what each of them contributes to a Newton step (symbols: `interior`).

Rows stand in the order of falling numbers of segments, and the k-th segments of all rows that have one lie side by side in slab
k, offsets[k] : offsets[k + 1]. So every loop runs over neighbouring rows, and sums over a row's segments go from slab to slab.

Buffers, an array a line, all float64:

* segments (3, S): w, g, and b such that f_i(l_i + x) = max_k b_ik + g_ik x;
* iterate (7, S): s, t, z, v, 1 / theta, 1 / s, 1 / t;
* step (3, S): ds, dz, dv;
* aims (3, S): h, r_z and r_v, the right-hand sides of the corrector;
* vectors of the rows (m,): x = A c - l, y, dy; d and e are sums over a row's segments.
"""

import numpy as np

from solvers._compile import FAST, inlined, kernel

# maxima are found in vector registers only where no NaN is to be expected; the loop looks for them by itself
ORDERED = FAST | {"nnan"}
# of the mean slope times the mean width: s z and t v of the first iterate
_START = 0.3
# products s z and t v should lie between these shares of their mean after a step
_LEAST, _MOST = 0.1, 10.0
# how far a step goes towards the border
_SHARE = 0.995


@kernel
def row_order(pointers, order, offsets):
    """The rows by falling number of segments, (m,), and where the slabs begin; offsets come as zeros. The number of slabs."""
    m, longest = len(order), 0
    for i in range(m):
        count = pointers[i + 1] - pointers[i]
        longest = count if count > longest else longest
    # first as counts of the rows that have so many segments
    for i in range(m):
        offsets[longest - (pointers[i + 1] - pointers[i]) + 1] += 1
    for k in range(longest):
        offsets[k + 1] += offsets[k]
    for i in range(m):
        key = longest - (pointers[i + 1] - pointers[i])
        order[offsets[key]] = i
        offsets[key] += 1
    for k in range(longest + 1):
        offsets[k] = 0
    for i in range(m):
        for k in range(pointers[i + 1] - pointers[i]):
            offsets[k + 1] += 1
    for k in range(longest):
        offsets[k + 1] += offsets[k]
    return longest


@kernel
def slabs(pointers, order, lower, at_lower, widths, slopes, thin, offsets, segments, low):
    """The segments, slab by slab, none narrower than the share `thin` of the widest, and l in the rows' order.

    Returns sum_i f_i(l_i) and 1 + max_i |l_i|.
    """
    thinnest, constant, far = 0.0, 0.0, 0.0
    for j in range(len(widths)):
        thinnest = widths[j] if widths[j] > thinnest else thinnest
    thinnest *= thin
    for i in range(len(order)):
        first = pointers[order[i]]
        at, value = 0.0, at_lower[order[i]]
        low[i] = lower[order[i]]
        constant += value
        far = abs(low[i]) if abs(low[i]) > far else far
        for k in range(pointers[order[i] + 1] - first):
            j = offsets[k] + i
            w, g = widths[first + k], slopes[first + k]
            w = w if w > thinnest else thinnest
            segments[0, j] = w
            segments[1, j] = g
            segments[2, j] = value - g * at
            at += w
            value += w * g
    return constant, 1 + far


@kernel
def started(offsets, segments, x, sloped, y, left, iterate, filled, length):
    """The first iterate from x = A c - l, sum_k s_ik and the interval's length; y becomes the slopes at x unless it is `sloped`.

    Every segment is halfway between its middle and what x fills of it; s z and t v are alike where z or v is small.
    """
    m, count = len(y), segments.shape[1]
    for i in range(m):
        left[i] = x[i]
        filled[i] = 0.0
        length[i] = 0.0
    slope, width = 0.0, 0.0
    for k in range(len(offsets) - 1):
        first = offsets[k]
        for i in range(offsets[k + 1] - first):
            j = first + i
            w, g = segments[0, j], segments[1, j]
            slope += abs(g)
            width += w
            if not sloped and (k == 0 or left[i] > 0.0):
                y[i] = g
            part = left[i] if left[i] > 0.0 else 0.0
            s = 0.25 * w + 0.5 * (part if part < w else w)
            iterate[0, j] = s
            iterate[1, j] = w - s
            left[i] -= w
            length[i] += w
            filled[i] += s
    mu = _START * (slope / count) * (width / count) + 1e-6
    for k in range(len(offsets) - 1):
        first = offsets[k]
        for i in range(offsets[k + 1] - first):
            j = first + i
            rise = segments[1, j] - y[i]
            iterate[2, j] = (rise if rise > 0.0 else 0.0) + mu / iterate[0, j]
            iterate[3, j] = (-rise if rise < 0.0 else 0.0) + mu / iterate[1, j]


@inlined(fastmath=ORDERED)
def _largest(values):
    """The maximum, or 0."""
    out = 0.0
    for i in range(len(values)):
        out = values[i] if values[i] > out else out
    return out


@kernel(fastmath=ORDERED)
def costs(offsets, segments, low, length, constant, x, y, f, conjugate):
    """Relative gap, and how far a row lies outside its interval.

    f_i at l_i + x_i, and sum_k w_ik max(0, y_i - g_ik) = f_i*(y_i) - l_i y_i + f_i(l_i).
    """
    for i in range(len(x)):
        f[i] = -np.inf
        conjugate[i] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        w, g, b = segments[0, here], segments[1, here], segments[2, here]
        for i in range(len(w)):
            value = b[i] + g[i] * x[i]
            f[i] = value if value > f[i] else f[i]
            above = y[i] - g[i]
            conjugate[i] += w[i] * above if above > 0.0 else 0.0
    primal, dual, beyond = 0.0, constant, 0.0
    for i in range(len(x)):
        primal += f[i]
        dual -= conjugate[i] + low[i] * y[i]
        outside = -x[i] if -x[i] > x[i] - length[i] else x[i] - length[i]
        beyond = outside if outside > beyond else beyond
    return abs(primal - dual) / (1 + abs(primal)), beyond


@kernel(fastmath=ORDERED)
def scaled(offsets, segments, iterate, y, filled, x, weights, q):
    """1 / s, 1 / t, 1 / theta; weights 1 / d_i with d_i = sum_k 1 / theta_ik, and q_i of the predictor, whose h = y - g."""
    m = len(y)
    for i in range(m):
        weights[i] = 0.0
        q[i] = filled[i] - x[i]
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate[0, here], iterate[1, here], iterate[2, here], iterate[3, here]
        inverse, over_s, over_t, g = iterate[4, here], iterate[5, here], iterate[6, here], segments[1, here]
        for i in range(len(s)):
            over_s[i] = 1 / s[i]
            over_t[i] = 1 / t[i]
            inverse[i] = 1 / (z[i] * over_s[i] + v[i] * over_t[i])
            weights[i] += inverse[i]
            q[i] += inverse[i] * (y[i] - g[i])
    for i in range(m):
        weights[i] = 1 / weights[i]


@kernel(fastmath=ORDERED)
def predicted(offsets, segments, iterate, y, dy, step, primal, dual):
    """ds; the product that the corrector aims at, after Mehrotra: the better the predictor, the less is left to centre.

    With p = ds / s and q = ds / t: dz / z = -(1 + p), dv / v = -(1 - q), and the products after steps a and b are
    s z (1 + a p) (1 - b (1 + p)) + t v (1 - a q) (1 - b (1 - q)).
    """
    for i in range(len(y)):
        primal[i] = 1.0
        dual[i] = 1.0
    now, linear, square = 0.0, 0.0, 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate[0, here], iterate[1, here], iterate[2, here], iterate[3, here]
        inverse, over_s, over_t = iterate[4, here], iterate[5, here], iterate[6, here]
        g, ds = segments[1, here], step[0, here]
        for i in range(len(s)):
            change = (dy[i] + y[i] - g[i]) * inverse[i]
            ds[i] = change
            p, q = change * over_s[i], change * over_t[i]
            fall = -p if -p > q else q
            primal[i] = fall if fall > primal[i] else primal[i]
            fall = 1 + p if p > -q else 1 - q
            dual[i] = fall if fall > dual[i] else dual[i]
            sz, tv = s[i] * z[i], t[i] * v[i]
            now += sz + tv
            linear += sz * p - tv * q
            square += sz * p * p + tv * q * q
    a, b = 1 / _largest(primal), 1 / _largest(dual)
    ahead = (1 - b) * now + (a * (1 - b) - b) * linear - a * b * square
    share = ahead / now if ahead > 0.0 else 0.0
    return now / (2 * iterate.shape[1]) * share * share * share


@kernel(fastmath=ORDERED)
def corrected(offsets, segments, iterate, y, filled, x, step, aim, aims, q):
    """r_z, r_v, h and q_i: s z and t v shall become `aim`, with the predictor's products of steps taken off."""
    for i in range(len(y)):
        q[i] = filled[i] - x[i]
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate[0, here], iterate[1, here], iterate[2, here], iterate[3, here]
        inverse, over_s, over_t = iterate[4, here], iterate[5, here], iterate[6, here]
        g, ds, h, r_z, r_v = segments[1, here], step[0, here], aims[0, here], aims[1, here], aims[2, here]
        for i in range(len(s)):
            rise, fall = ds[i] * over_s[i], ds[i] * over_t[i]
            r_z[i] = aim - s[i] * z[i] * (1 - rise * (1 + rise))
            r_v[i] = aim - t[i] * v[i] * (1 + fall * (1 - fall))
            h[i] = y[i] - g[i] + z[i] - v[i] + r_z[i] * over_s[i] - r_v[i] * over_t[i]
            q[i] += inverse[i] * h[i]


@inlined(fastmath=ORDERED)
def _missing(product, aim):
    """What brings a product between its shares of the aim, at most as much as is bearable."""
    least, most = _LEAST * aim, _MOST * aim
    goal = least if product < least else most if product > most else product
    return goal - product if product - goal < most else -most


@kernel(fastmath=ORDERED)
def centred(offsets, iterate, filled, x, step, aim, primal, dual, aims, q):
    """Change r_z, r_v, h and q_i so that no product is far from `aim` after such long steps (Gondzio 1996)."""
    for i in range(len(q)):
        q[i] = filled[i] - x[i]
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate[0, here], iterate[1, here], iterate[2, here], iterate[3, here]
        inverse, over_s, over_t = iterate[4, here], iterate[5, here], iterate[6, here]
        ds, dz, dv = step[0, here], step[1, here], step[2, here]
        h, r_z, r_v = aims[0, here], aims[1, here], aims[2, here]
        for i in range(len(s)):
            more_z = _missing((s[i] + primal * ds[i]) * (z[i] + dual * dz[i]), aim)
            more_v = _missing((t[i] - primal * ds[i]) * (v[i] + dual * dv[i]), aim)
            r_z[i] += more_z
            r_v[i] += more_v
            h[i] += more_z * over_s[i] - more_v * over_t[i]
            q[i] += inverse[i] * h[i]


@kernel(fastmath=ORDERED)
def lengths(offsets, iterate, aims, dy, step, primal, dual):
    """ds, dz and dv; how far primal and dual variables may go along them."""
    for i in range(len(dy)):
        primal[i] = _SHARE
        dual[i] = _SHARE
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        z, v, inverse, over_s, over_t = iterate[2, here], iterate[3, here], iterate[4, here], iterate[5, here], iterate[6, here]
        ds, dz, dv = step[0, here], step[1, here], step[2, here]
        h, r_z, r_v = aims[0, here], aims[1, here], aims[2, here]
        for i in range(len(z)):
            ds[i] = (dy[i] + h[i]) * inverse[i]
            dz[i] = (r_z[i] - z[i] * ds[i]) * over_s[i]
            dv[i] = (r_v[i] + v[i] * ds[i]) * over_t[i]
            p, q = -ds[i] * over_s[i], ds[i] * over_t[i]
            fall = p if p > q else q
            primal[i] = fall if fall > primal[i] else primal[i]
            p, q = -dz[i] / z[i], -dv[i] / v[i]
            fall = p if p > q else q
            dual[i] = fall if fall > dual[i] else dual[i]
    return _SHARE / _largest(primal), _SHARE / _largest(dual)


@kernel(fastmath=ORDERED)
def advanced(offsets, iterate, step, primal, dual, dc, dy, c, y, filled):
    """Take the steps; filled_i = sum_k s_ik."""
    for j in range(len(c)):
        c[j] += primal * dc[j]
    for i in range(len(y)):
        y[i] += dual * dy[i]
        filled[i] = 0.0
    for k in range(len(offsets) - 1):
        here = slice(offsets[k], offsets[k + 1])
        s, t, z, v = iterate[0, here], iterate[1, here], iterate[2, here], iterate[3, here]
        ds, dz, dv = step[0, here], step[1, here], step[2, here]
        for i in range(len(s)):
            s[i] += primal * ds[i]
            t[i] -= primal * ds[i]
            z[i] += dual * dz[i]
            v[i] += dual * dv[i]
            filled[i] += s[i]
