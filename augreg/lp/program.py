"""The program of one iteration: terms of one kind for data, smoothness, trust region, bounds and landmarks.

A model says how a level's unknowns c move points on the fixed side, v(x) = sum_j b_j(x) c_j, as rows n . v(p); `assemble` adds
to every keypoint's row the lower convex envelope of its cost, at most some segments long (Kybic and Borovec 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from augreg.geometry.grid import FloatArray
from augreg.lp import _bundle_kernels
from solvers import PiecewiseLinearProgram


@dataclass(frozen=True, eq=False)
class Terms:
    """Terms f_i(a_i . c) of one kind: the fields of a `PiecewiseLinearProgram`."""

    matrix: scipy.sparse.csr_array
    lower: FloatArray
    values: FloatArray
    counts: npt.NDArray[np.int64]
    widths: FloatArray
    slopes: FloatArray


def assemble(parts: Sequence[Terms]) -> PiecewiseLinearProgram:
    """One program of all terms."""
    counts = np.concatenate([part.counts for part in parts])
    return PiecewiseLinearProgram(
        stacked([part.matrix for part in parts]),
        np.concatenate([part.lower for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([part.widths for part in parts]),
        np.concatenate([part.slopes for part in parts]),
    )


def stacked(matrices: Sequence[scipy.sparse.csr_array]) -> scipy.sparse.csr_array:
    """The matrices one above the other."""
    # scipy's vstack costs as much as a small program
    ends = np.cumsum([0, *(matrix.nnz for matrix in matrices)])
    starts = [matrix.indptr[:-1] + end for matrix, end in zip(matrices, ends, strict=False)]
    parts = (np.concatenate([m.data for m in matrices]), np.concatenate([m.indices for m in matrices]))
    rows = sum(matrix.shape[0] for matrix in matrices)
    return scipy.sparse.csr_array((*parts, np.concatenate([*starts, ends[-1:]])), shape=(rows, matrices[0].shape[1]))


def data_terms(matrix: scipy.sparse.csr_array, center: FloatArray, costs: FloatArray, step: float, weights: FloatArray) -> Terms:
    """Envelopes of costs (N, 2X+1) at a_i . c = center_i + (-X .. X) step, times weights."""
    count, length = costs.shape
    counts = np.empty(count, dtype=np.int64)
    widths, slopes = np.empty((2, count * (length - 1)))
    knots = np.empty(length, dtype=np.int64)
    _bundle_kernels.lower_envelopes(costs, step, weights, knots, counts, widths, slopes)
    used = int(counts.sum())
    reach = (length - 1) / 2 * step
    return Terms(matrix, center - reach, costs[:, 0] * weights, counts, widths[:used], slopes[:used])


def bounded(matrix: scipy.sparse.csr_array, low: FloatArray, high: FloatArray) -> Terms:
    """low <= a_i . c <= high at no cost."""
    m = matrix.shape[0]
    return Terms(matrix, low, np.zeros(m), np.ones(m, dtype=int), high - low, np.zeros(m))


def absolute(matrix: scipy.sparse.csr_array, weight: float, reach: float) -> Terms:
    """weight |a_i . c|, within |a_i . c| <= reach."""
    m = matrix.shape[0]
    sides = np.tile([-weight, weight], m)
    full = np.full(m, reach)
    return Terms(matrix, -full, weight * full, np.full(m, 2), np.full(2 * m, reach), sides)


def near(matrix: scipy.sparse.csr_array, target: FloatArray, tolerance: float, weight: float, reach: float) -> Terms:
    """No cost for |a_i . c - target_i| <= tolerance, weight times the rest beyond: a soft constraint that is never infeasible."""
    m = matrix.shape[0]
    widths = np.tile([reach, 2 * tolerance, reach], m)
    slopes = np.tile([-weight, 0.0, weight], m)
    return Terms(matrix, target - tolerance - reach, np.full(m, weight * reach), np.full(m, 3), widths, slopes)
