"""Both solvers on programs recorded from real registrations.

`python -m benchmarks run programs --small tests/solvers/programs` has recorded them.
"""

import numpy as np
import pytest
import scipy.sparse
from support.programs import PROGRAMS, recorded

from solvers import HiGHS, InteriorPoint, Solution
from solvers.interior import _numbering


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_programs_of_real_registrations_are_solved_and_both_solvers_agree(path):
    program = recorded(path)
    solution, reference = InteriorPoint(tolerance=1e-7)(program), HiGHS()(program)
    assert solution.solver == "InteriorPoint"
    assert reference.solver.startswith("HiGHS")
    for answer in (solution, reference):
        assert answer.status == "optimal"
        assert answer.primal_residual < 1e-7
        assert answer.dual_residual < 1e-9
        assert -1e-9 < answer.gap < 1e-6
    # each one's multipliers bound the other one's objective
    assert program.dual_objective(solution.multipliers) <= reference.objective + 1e-7
    assert program.dual_objective(reference.multipliers) <= solution.objective + 1e-7


def test_there_are_recorded_programs_of_every_kind():
    assert {path.parent.name for path in PROGRAMS} >= {"affine-2d", "affine-3d", "spline-2d", "spline-3d", "spline-people"}


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
def test_a_gap_of_the_tolerance_is_certified_by_multipliers_in_the_kernel(tolerance):
    for path in PROGRAMS[::3]:
        solution = InteriorPoint(tolerance)(recorded(path))
        assert solution.gap < tolerance
        assert solution.dual_residual < 1e-12


def test_a_start_changes_the_path_and_not_the_end():
    for first, second in ((PROGRAMS[0], PROGRAMS[1]), (PROGRAMS[-2], PROGRAMS[-1])):
        before, program = recorded(first), recorded(second)
        for solver in (InteriorPoint(1e-7), HiGHS()):
            cold = solver(program)
            # its own solution, another program's, and nonsense
            for start in (cold, solver(before), Solution.none(program, "failed", 0, 0.0)):
                warm = solver(program, start)
                assert warm.status == "optimal"
                assert warm.objective == pytest.approx(cold.objective, rel=3e-7)
        wild = Solution.judged(program, np.full(program.matrix.shape[1], 1e4), cold.multipliers, "optimal", 0, 0.0)
        assert InteriorPoint(1e-7)(program, wild).objective == pytest.approx(cold.objective, rel=3e-7)


def test_a_grid_with_a_longer_second_axis_is_numbered_the_other_way():
    # rows over 2 x 2 x 2 neighbours of a grid of 30 x 60 x 20
    shape = (30, 60, 20)
    numbers = np.arange(np.prod(shape)).reshape(shape)
    corners = [numbers[i : 29 + i, j : 59 + j, k : 19 + k].ravel() for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    columns = np.stack(corners, axis=1)
    starts = 8 * np.arange(len(columns) + 1)
    matrix = scipy.sparse.csr_array((np.ones(columns.size), columns.ravel(), starts), shape=(len(columns), numbers.size))
    places, width = _numbering(matrix)
    assert sorted(places) == list(range(numbers.size))
    assert width == max(np.ptp(places[columns], axis=1)) == 30 * 20 + 20 + 1
