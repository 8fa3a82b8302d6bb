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
def _spread(offsets, rows, segments):
    """A row's number to all its segments."""
    for k in range(len(offsets) - 1):
        part = segments[offsets[k] : offsets[k + 1]]
        for i in range(len(part)):
            part[i] = rows[i]


@inlined(fastmath=ORDERED)
def _add_products(offsets, a, b, rows):
    """Add sum_k a_ik b_ik to the row's number."""
    for k in range(len(offsets) - 1):
        x, y = a[offsets[k] : offsets[k + 1]], b[offsets[k] : offsets[k + 1]]
        for i in range(len(x)):
            rows[i] += x[i] * y[i]


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
    s, t, z, v = iterate[0], iterate[1], iterate[2], iterate[3]
    inverse, over_s, over_t, slopes = iterate[4], iterate[5], iterate[6], segments[1]
    for j in range(len(s)):
        over_s[j] = 1 / s[j]
        over_t[j] = 1 / t[j]
        inverse[j] = 1 / (z[j] * over_s[j] + v[j] * over_t[j])
    m = len(y)
    for i in range(m):
        weights[i] = 0.0
        q[i] = filled[i] - x[i]
    for k in range(len(offsets) - 1):
        part, g = inverse[offsets[k] : offsets[k + 1]], slopes[offsets[k] : offsets[k + 1]]
        for i in range(len(part)):
            weights[i] += part[i]
            q[i] += part[i] * (y[i] - g[i])
    for i in range(m):
        weights[i] = 1 / weights[i]


@kernel(fastmath=ORDERED)
def predicted(offsets, segments, iterate, y, dy, step, scratch):
    """ds; the product that the corrector aims at, after Mehrotra: the better the predictor, the less is left to centre.

    With p = ds / s and q = ds / t: dz / z = -(1 + p), dv / v = -(1 - q), and the products after steps a and b are
    s z (1 + a p) (1 - b (1 + p)) + t v (1 - a q) (1 - b (1 - q)).
    """
    s, t, z, v = iterate[0], iterate[1], iterate[2], iterate[3]
    inverse, over_s, over_t, g, ds = iterate[4], iterate[5], iterate[6], segments[1], step[0]
    for i in range(len(y)):
        scratch[i] = y[i] + dy[i]
    _spread(offsets, scratch, ds)
    now, linear, square, primal, dual = 0.0, 0.0, 0.0, 1.0, 1.0
    for j in range(len(s)):
        change = (ds[j] - g[j]) * inverse[j]
        ds[j] = change
        p, q = change * over_s[j], change * over_t[j]
        primal = max(primal, -p, q)
        dual = max(dual, 1 + p, 1 - q)
        sz, tv = s[j] * z[j], t[j] * v[j]
        now += sz + tv
        linear += sz * p - tv * q
        square += sz * p * p + tv * q * q
    a, b = 1 / primal, 1 / dual
    ahead = (1 - b) * now + (a * (1 - b) - b) * linear - a * b * square
    share = ahead / now if ahead > 0.0 else 0.0
    return now / (2 * len(s)) * share * share * share


@kernel(fastmath=ORDERED)
def corrected(offsets, segments, iterate, y, filled, x, step, aim, aims, q):
    """r_z, r_v, h and q_i: s z and t v shall become `aim`, with the predictor's products of steps taken off."""
    s, t, z, v = iterate[0], iterate[1], iterate[2], iterate[3]
    inverse, over_s, over_t, g, ds = iterate[4], iterate[5], iterate[6], segments[1], step[0]
    h, r_z, r_v = aims[0], aims[1], aims[2]
    _spread(offsets, y, h)
    for j in range(len(s)):
        rise, fall = ds[j] * over_s[j], ds[j] * over_t[j]
        r_z[j] = aim - s[j] * z[j] * (1 - rise * (1 + rise))
        r_v[j] = aim - t[j] * v[j] * (1 + fall * (1 - fall))
        h[j] += z[j] - v[j] - g[j] + r_z[j] * over_s[j] - r_v[j] * over_t[j]
    for i in range(len(y)):
        q[i] = filled[i] - x[i]
    _add_products(offsets, inverse, h, q)


@inlined(fastmath=ORDERED)
def _missing(product, aim):
    """What brings a product between its shares of the aim, at most as much as is bearable."""
    least, most = _LEAST * aim, _MOST * aim
    goal = least if product < least else most if product > most else product
    return goal - product if product - goal < most else -most


@kernel(fastmath=ORDERED)
def centred(offsets, iterate, filled, x, step, aim, primal, dual, aims, q):
    """Change r_z, r_v, h and q_i so that no product is far from `aim` after such long steps (Gondzio 1996)."""
    s, t, z, v = iterate[0], iterate[1], iterate[2], iterate[3]
    inverse, over_s, over_t = iterate[4], iterate[5], iterate[6]
    ds, dz, dv, h, r_z, r_v = step[0], step[1], step[2], aims[0], aims[1], aims[2]
    for j in range(len(s)):
        more_z = _missing((s[j] + primal * ds[j]) * (z[j] + dual * dz[j]), aim)
        more_v = _missing((t[j] - primal * ds[j]) * (v[j] + dual * dv[j]), aim)
        r_z[j] += more_z
        r_v[j] += more_v
        h[j] += more_z * over_s[j] - more_v * over_t[j]
    for i in range(len(q)):
        q[i] = filled[i] - x[i]
    _add_products(offsets, inverse, h, q)


@kernel(fastmath=ORDERED)
def lengths(offsets, iterate, aims, dy, step):
    """ds, dz and dv; how far primal and dual variables may go along them."""
    z, v, inverse, over_s, over_t = iterate[2], iterate[3], iterate[4], iterate[5], iterate[6]
    ds, dz, dv, h, r_z, r_v = step[0], step[1], step[2], aims[0], aims[1], aims[2]
    _spread(offsets, dy, ds)
    primal, dual = _SHARE, _SHARE
    for j in range(len(z)):
        change = (ds[j] + h[j]) * inverse[j]
        to_z, to_v = (r_z[j] - z[j] * change) * over_s[j], (r_v[j] + v[j] * change) * over_t[j]
        ds[j] = change
        dz[j] = to_z
        dv[j] = to_v
        primal = max(primal, -change * over_s[j], change * over_t[j])
        dual = max(dual, -to_z / z[j], -to_v / v[j])
    return _SHARE / primal, _SHARE / dual


@kernel(fastmath=ORDERED)
def advanced(offsets, iterate, step, primal, dual, dc, dy, c, y, filled):
    """Take the steps; filled_i = sum_k s_ik."""
    s, t, z, v = iterate[0], iterate[1], iterate[2], iterate[3]
    ds, dz, dv = step[0], step[1], step[2]
    for j in range(len(s)):
        s[j] += primal * ds[j]
        t[j] -= primal * ds[j]
        z[j] += dual * dz[j]
        v[j] += dual * dv[j]
    for j in range(len(c)):
        c[j] += primal * dc[j]
    for i in range(len(y)):
        y[i] += dual * dy[i]
        filled[i] = 0.0
    for k in range(len(offsets) - 1):
        part = s[offsets[k] : offsets[k + 1]]
        for i in range(len(part)):
            filled[i] += part[i]
