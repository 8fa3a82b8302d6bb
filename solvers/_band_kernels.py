"""Numba kernels of symmetric positive definite band matrices M = L L^T.

Eight columns make a block: band[B, j, r] = M[8 B + r, 8 B + j] for r = 0 .. reach - 1, `reach` a multiple of 8. All blocks
start at multiples of 8 rows, so that the innermost loops run over whole vector registers. What is above the diagonal is nothing.

LAPACK's band Cholesky runs in threads that wait for each other when the machine is busy; these are single loops.
"""

import numpy as np

from solvers._compile import FAST, inlined, kernel

BLOCK = 8
# blocks that are done together, from which reach on
PANEL, FAR = 8, 1024


@kernel
def bandwidth(starts, columns, places):
    """Largest distance between the places of two columns of one row (CSR)."""
    widest = 0
    for row in range(len(starts) - 1):
        first, last = len(places), -1
        for a in range(starts[row], starts[row + 1]):
            place = places[columns[a]]
            first, last = min(first, place), max(last, place)
        widest = max(widest, last - first)
    return widest


def empty_band(n, width):
    """Room for a matrix of n columns whose entries lie at most `width` below the diagonal."""
    reach, blocks = (width + BLOCK) // BLOCK * BLOCK + BLOCK, (n + BLOCK - 1) // BLOCK
    room = np.empty(blocks * BLOCK * reach + BLOCK)
    # vector registers are loaded fastest from multiples of their own size, 64 bytes
    skipped = -(room.ctypes.data // 8) % BLOCK
    return room[skipped : skipped + blocks * BLOCK * reach].reshape(blocks, BLOCK, reach)


def padded(band):
    """Length of a right-hand side: the n numbers, and zeros behind them."""
    return band.shape[0] * BLOCK + band.shape[2]


@inlined(fastmath=FAST)
def _subtract(t0, t1, t2, t3, s0, s1, s2, s3, j):
    """Four columns t lose their parts of four earlier columns s, at whose row j the first of t stands: factors in registers."""
    f00, f01, f02, f03 = s0[j], s0[j + 1], s0[j + 2], s0[j + 3]
    f10, f11, f12, f13 = s1[j], s1[j + 1], s1[j + 2], s1[j + 3]
    f20, f21, f22, f23 = s2[j], s2[j + 1], s2[j + 2], s2[j + 3]
    f30, f31, f32, f33 = s3[j], s3[j + 1], s3[j + 2], s3[j + 3]
    for r in range(len(s0)):
        a, b, c, d = s0[r], s1[r], s2[r], s3[r]
        t0[r] -= f00 * a + f10 * b + f20 * c + f30 * d
        t1[r] -= f01 * a + f11 * b + f21 * c + f31 * d
        t2[r] -= f02 * a + f12 * b + f22 * c + f32 * d
        t3[r] -= f03 * a + f13 * b + f23 * c + f33 * d


@inlined(fastmath=FAST)
def _subtract_block(t, s, shift):
    """A block t loses its part of an earlier block s, which begins `shift` rows above."""
    for j in (0, 4):
        for i in (0, 4):
            a, b, c, d = s[i, shift:], s[i + 1, shift:], s[i + 2, shift:], s[i + 3, shift:]
            _subtract(t[j], t[j + 1], t[j + 2], t[j + 3], a, b, c, d, j)


@inlined(fastmath=FAST)
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


@kernel(fastmath=FAST)
def factorise(band):
    """Cholesky factor in place of a band; False if the matrix is not positive definite."""
    blocks, _, reach = band.shape
    furthest = reach // BLOCK - 1
    panel = PANEL if reach >= FAR else 1
    for first in range(0, blocks, panel):
        end = min(first + panel, blocks)
        # earlier blocks come from far away, and serve the whole panel
        for before in range(max(0, first - furthest), end):
            if before >= first and not _factorise_block(band[before]):
                return False
            for here in range(max(first, before + 1), min(end, before + furthest + 1)):
                _subtract_block(band[here], band[before], BLOCK * (here - before))
    return True


@inlined(fastmath=FAST)
def substitute(band, x):
    """Solve L L^T x = x in place, with the factor L of `factorise`; x is as long as `padded` says."""
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
