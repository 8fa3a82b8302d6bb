"""Programs recorded from real registrations."""

from pathlib import Path

import numpy as np
import scipy.sparse

from solvers import PiecewiseLinearProgram

PROGRAMS = sorted((Path(__file__).parents[1] / "solvers" / "programs").glob("*/*.npz"))


def recorded(path):
    """As `benchmarks.solvers.programs` has written it."""
    with np.load(path) as f:
        parts = (f["data"].astype(float), f["indices"].astype(np.int32), f["indptr"])
        matrix = scipy.sparse.csr_array(parts, shape=tuple(f["shape"]))
        return PiecewiseLinearProgram(matrix, f["lower"], f["values"], f["pointers"], f["widths"], f["slopes"])
