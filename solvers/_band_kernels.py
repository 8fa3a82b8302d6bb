"""Numba kernels of symmetric positive definite band matrices M = L L^T.

Eight columns make a block: band[B, j, r] = M[8 B + r, 8 B + j] for r = 0 .. reach - 1, `reach` a multiple of 8. All blocks
start at multiples of 8 rows, so that the innermost loops run over whole vector registers. What is above the diagonal is nothing.

LAPACK's band Cholesky runs in threads that wait for each other when the machine is busy; these are single loops.
"""

import numpy as np

from solvers._compile import njit

BLOCK = 8
# blocks that are done together, from which reach on
PANEL, FAR = 8, 1024
FAST = {"contract", "reassoc", "nsz", "arcp"}


@njit(cache=True, nogil=True, error_model="numpy")
def bandwidth(starts, columns, places):
    """Largest distance between the places of two columns of one row (CSR)."""
    widest = 0
    for row in range(len(starts) - 1):
        first, last = len(places), -1
        for a in range(starts[row], starts[row + 1]):
            first, last = min(first, places[columns[a]]), max(last, places[columns[a]])
        widest = max(widest, last - first)
    return widest


@njit(cache=True, nogil=True, error_model="numpy")
def empty_band(n, width):
    """Room for a matrix of n columns whose entries lie at most `width` below the diagonal."""
    reach, blocks = (width + BLOCK) // BLOCK * BLOCK + BLOCK, (n + BLOCK - 1) // BLOCK
    room = np.zeros(blocks * BLOCK * reach + BLOCK)
    # vector registers are loaded fastest from multiples of their own size, 64 bytes
    skipped = -(room.ctypes.data // 8) % BLOCK
    return room[skipped : skipped + blocks * BLOCK * reach].reshape(blocks, BLOCK, reach)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _subtract(t0, t1, t2, t3, s0, s1, s2, s3, factors, count):
    """Four columns t lose their parts of four earlier columns s: sixteen factors stay in registers."""
    f00, f01, f02, f03 = factors[0, 0], factors[0, 1], factors[0, 2], factors[0, 3]
    f10, f11, f12, f13 = factors[1, 0], factors[1, 1], factors[1, 2], factors[1, 3]
    f20, f21, f22, f23 = factors[2, 0], factors[2, 1], factors[2, 2], factors[2, 3]
    f30, f31, f32, f33 = factors[3, 0], factors[3, 1], factors[3, 2], factors[3, 3]
    for r in range(count):
        a, b, c, d = s0[r], s1[r], s2[r], s3[r]
        t0[r] -= f00 * a + f10 * b + f20 * c + f30 * d
        t1[r] -= f01 * a + f11 * b + f21 * c + f31 * d
        t2[r] -= f02 * a + f12 * b + f22 * c + f32 * d
        t3[r] -= f03 * a + f13 * b + f23 * c + f33 * d


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _factorise_block(block):
    """Cholesky of the eight columns of one block."""
    reach = block.shape[1]
    for q in range(BLOCK):
        if not block[q, q] > 0.0:
            return False
        inverse = 1 / np.sqrt(block[q, q])
        pivot = block[q]
        for r in range(q, reach):
            pivot[r] *= inverse
        for k in range(q + 1, BLOCK):
            factor, column = pivot[k], block[k]
            for r in range(reach):
                column[r] -= factor * pivot[r]
    return True


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def _subtract_block(t, s, shift):
    """A block t loses its part of an earlier block s, which begins `shift` rows above."""
    count = t.shape[1] - shift
    for j in (0, 4):
        for i in (0, 4):
            a, b, c, d = s[i, shift:], s[i + 1, shift:], s[i + 2, shift:], s[i + 3, shift:]
            factors = s[i : i + 4, shift + j : shift + j + 4]
            _subtract(t[j], t[j + 1], t[j + 2], t[j + 3], a, b, c, d, factors, count)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def factorise(band):
    """Cholesky factor in place of a band; False if the matrix is not positive definite."""
    blocks, _, reach = band.shape
    furthest = reach // BLOCK - 1
    panel = PANEL if reach >= FAR else 1
    for first in range(0, blocks, panel):
        end = min(first + panel, blocks)
        # earlier blocks come from far away, and serve the whole panel
        for before in range(max(0, first - furthest), first):
            for here in range(first, min(end, before + furthest + 1)):
                _subtract_block(band[here], band[before], BLOCK * (here - before))
        for here in range(first, end):
            for before in range(max(first, here - furthest), here):
                _subtract_block(band[here], band[before], BLOCK * (here - before))
            if not _factorise_block(band[here]):
                return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def empty_vector(band):
    """Room for the n numbers of a right-hand side, with zeros behind them."""
    return np.zeros(band.shape[0] * BLOCK + band.shape[2])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def substitute(band, x):
    """Solve L L^T x = x in place, with the factor L of `factorise`, for x as long as an `empty_vector`."""
    blocks, _, reach = band.shape
    for here in range(blocks):
        block, top, rest = band[here], x[here * BLOCK : (here + 1) * BLOCK], x[(here + 1) * BLOCK : here * BLOCK + reach]
        for q in range(BLOCK):
            top[q] /= block[q, q]
            for r in range(q + 1, BLOCK):
                top[r] -= block[q, r] * top[q]
        for q in (0, 4):
            a, b, c, d = block[q, BLOCK:], block[q + 1, BLOCK:], block[q + 2, BLOCK:], block[q + 3, BLOCK:]
            xa, xb, xc, xd = top[q], top[q + 1], top[q + 2], top[q + 3]
            for r in range(len(rest)):
                rest[r] -= xa * a[r] + xb * b[r] + xc * c[r] + xd * d[r]
    for here in range(blocks - 1, -1, -1):
        block, top, rest = band[here], x[here * BLOCK : (here + 1) * BLOCK], x[(here + 1) * BLOCK : here * BLOCK + reach]
        for q in (0, 4):
            a, b, c, d = block[q, BLOCK:], block[q + 1, BLOCK:], block[q + 2, BLOCK:], block[q + 3, BLOCK:]
            xa, xb, xc, xd = 0.0, 0.0, 0.0, 0.0
            for r in range(len(rest)):
                value = rest[r]
                xa += value * a[r]
                xb += value * b[r]
                xc += value * c[r]
                xd += value * d[r]
            top[q] -= xa
            top[q + 1] -= xb
            top[q + 2] -= xc
            top[q + 3] -= xd
        for q in range(BLOCK - 1, -1, -1):
            for r in range(q + 1, BLOCK):
                top[q] -= block[q, r] * top[r]
            top[q] /= block[q, q]
