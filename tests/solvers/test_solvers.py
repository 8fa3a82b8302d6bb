import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

from solvers import HiGHS, InteriorPoint, PiecewiseLinearProgram, Solution

SOLVERS = [HiGHS(method="simplex"), HiGHS(method="ipx"), InteriorPoint()]


def generated(m, n, seed=0, density=1.0):
    """A random program with interior optimum: convex functions with 1 to 5 segments around 0, and a box on every unknown."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) < density)
    counts = rng.integers(1, 6, m)
    widths = [rng.uniform(0.5, 3, k) for k in counts]
    slopes = [np.sort(rng.normal(size=k)) for k in counts]
    lower = [-w.sum() * rng.uniform(0.3, 0.7) for w in widths]
    box = 0.5
    rows = scipy.sparse.vstack([scipy.sparse.csr_array(matrix), scipy.sparse.eye_array(n)]).tocsr()
    return PiecewiseLinearProgram(
        rows,
        np.concatenate([lower, np.full(n, -box)]),
        np.concatenate([rng.normal(size=m), np.zeros(n)]),
        np.concatenate([[0], np.cumsum(np.concatenate([counts, np.ones(n, dtype=int)]))]),
        np.concatenate([*widths, np.full(n, 2 * box)]),
        np.concatenate([*slopes, np.zeros(n)]),
    )


def by_linprog(program):
    """The primal in segments, solved by SciPy."""
    m, n = program.matrix.shape
    s = len(program.widths)
    to_rows = scipy.sparse.csr_array((np.ones(s), (program.rows, np.arange(s))), shape=(m, s))
    equal = scipy.sparse.hstack([program.matrix, -to_rows])
    bounds = [(None, None)] * n + [(0, w) for w in program.widths]
    return scipy.optimize.linprog(np.concatenate([np.zeros(n), program.slopes]), A_eq=equal, b_eq=program.lower, bounds=bounds)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("m", "n", "density"), [(40, 6, 1.0), (300, 30, 0.2), (5, 9, 1.0)])
def test_the_optimum_is_that_of_the_primal_and_is_certified(solver, m, n, density):
    for seed in range(4):
        program = generated(m, n, seed, density)
        solution = solver(program)
        assert solution.status == "optimal"
        assert solution.primal_residual < 1e-6
        assert solution.dual_residual < 1e-6
        assert -1e-9 < solution.gap < 1e-6
        reference = by_linprog(program)
        assert solution.objective == pytest.approx(reference.fun + program.values.sum(), abs=1e-5)


def test_the_objective_is_the_sum_of_the_functions():
    program = generated(20, 4)
    c = np.random.default_rng(1).uniform(-0.3, 0.3, 4)
    xi, total = program.matrix @ c, 0.0
    for i in range(len(program.lower)):
        part = slice(program.pointers[i], program.pointers[i + 1])
        knots = program.lower[i] + np.concatenate([[0], np.cumsum(program.widths[part])])
        f = program.values[i] + np.concatenate([[0], np.cumsum(program.widths[part] * program.slopes[part])])
        inside = np.clip(xi[i], knots[0], knots[-1])
        total += np.interp(inside, knots, f)
        total += (xi[i] - inside) * program.slopes[part][0 if xi[i] < inside else -1]
    assert program.objective(c) == pytest.approx(total)


def test_weak_duality_holds_for_every_multiplier_in_the_kernel():
    program = generated(30, 5)
    best = HiGHS()(program).objective
    kernel = scipy.linalg.null_space(program.matrix.toarray().T)
    for seed in range(20):
        mu = kernel @ np.random.default_rng(seed).normal(size=kernel.shape[1])
        assert program.dual_objective(mu) <= best + 1e-9


def test_the_judge_does_not_believe_a_wrong_answer():
    program = generated(30, 5)
    good = HiGHS()(program)
    shifted = Solution.judged(program, good.x + 0.05, good.multipliers, "optimal", 0, 0.0)
    assert shifted.gap > 1e-4
    bent = Solution.judged(program, good.x, good.multipliers + 0.1, "optimal", 0, 0.0)
    assert bent.dual_residual > 1e-3
    far = Solution.judged(program, good.x + 10, good.multipliers, "optimal", 0, 0.0)
    assert far.primal_residual > 1


def with_known_optimum(m, n, seed):
    """Slopes on either side of multipliers in the kernel of A^T, a knot of every row at a_i . c: c is the optimum."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) < 0.5)
    kernel = scipy.linalg.null_space(matrix.T)
    c, mu = rng.normal(size=n), kernel @ rng.normal(size=kernel.shape[1])
    widths, values = rng.uniform(0.5, 2, (m, 4)), rng.normal(size=m)
    rises = rng.uniform(0.1, 1, (m, 4))
    # the knot is between the second and the third segment, or, every third row, all of the second is flat: degenerate
    slopes = mu[:, None] + np.column_stack([-rises[:, 0] - rises[:, 1], -rises[:, 1], rises[:, 2], rises[:, 2] + rises[:, 3]])
    slopes[::3, 1] = mu[::3]
    xi = matrix @ c
    lower = xi - widths[:, 0] - widths[:, 1]
    optimum = (values + (widths[:, :2] * slopes[:, :2]).sum(axis=1)).sum()
    program = PiecewiseLinearProgram(
        scipy.sparse.csr_array(matrix), lower, values, 4 * np.arange(m + 1), widths.ravel(), slopes.ravel()
    )
    return program, c, mu, optimum


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("m", "n"), [(30, 3), (40, 7), (90, 30)])
def test_a_known_optimum_is_found(solver, m, n):
    for seed in range(3):
        program, c, mu, optimum = with_known_optimum(m, n, seed)
        assert program.objective(c) == pytest.approx(optimum)
        assert program.dual_objective(mu) == pytest.approx(optimum)
        assert solver(program).objective == pytest.approx(optimum, abs=1e-6 * (1 + abs(optimum)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_unknowns_that_no_row_determines_do_no_harm(solver):
    good = with_known_optimum(30, 4, 0)
    # one column of zeros, one that repeats another
    matrix = good[0].matrix.toarray()
    wide = np.column_stack([matrix[:, 0], np.zeros(30), matrix[:, 1:], matrix[:, 2]])
    program = PiecewiseLinearProgram(
        scipy.sparse.csr_array(wide), good[0].lower, good[0].values, good[0].pointers, good[0].widths, good[0].slopes
    )
    solution = solver(program)
    assert solution.status == "optimal"
    assert np.isfinite(solution.x).all()
    assert solution.objective == pytest.approx(good[3], abs=1e-6 * (1 + abs(good[3])))


@pytest.mark.parametrize("solver", SOLVERS)
def test_fixed_unknowns_stay_where_they_are(solver):
    free = generated(60, 5)
    held = np.array([0.1, -0.2, 0.3])
    program = PiecewiseLinearProgram(
        scipy.sparse.vstack([free.matrix, scipy.sparse.eye_array(3, 5)], format="csr"),
        np.concatenate([free.lower, held]),
        np.concatenate([free.values, np.zeros(3)]),
        np.concatenate([free.pointers, free.pointers[-1] + np.arange(1, 4)]),
        np.concatenate([free.widths, np.zeros(3)]),
        np.concatenate([free.slopes, np.zeros(3)]),
    )
    solution = solver(program)
    np.testing.assert_allclose(solution.x[:3], held, atol=1e-6)
    assert solution.status == "optimal"
    assert solution.gap < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_many_unknowns_that_contradict_each_other_have_a_status(solver):
    # the sum of all unknowns is 10 and each is at most 0.1
    n = 30
    program = PiecewiseLinearProgram(
        scipy.sparse.csr_array(np.vstack([np.eye(n), np.ones((1, n))])),
        np.append(np.full(n, -0.1), 10.0),
        np.zeros(n + 1),
        np.arange(n + 2),
        np.append(np.full(n, 0.2), 0.0),
        np.zeros(n + 1),
    )
    solution = solver(program)
    assert solution.status == "infeasible"
    assert solution.solver.startswith("HiGHS")


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_infeasible_program_has_a_status(solver):
    # x in [0, 1] and x in [2, 3]
    program = PiecewiseLinearProgram(
        scipy.sparse.csr_array(np.ones((2, 1))), np.array([0.0, 2.0]), np.zeros(2), np.arange(3), np.ones(2), np.zeros(2)
    )
    assert solver(program).status == "infeasible"


@pytest.mark.parametrize("solver", SOLVERS)
def test_empty_rows_fixed_rows_and_degeneracy(solver):
    # an empty row, a fixed unknown, and twice the same V-shaped term at 1
    matrix = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    program = PiecewiseLinearProgram(
        scipy.sparse.csr_array(matrix),
        np.array([-1.0, 0.25, -4.0, -4.0]),
        np.array([1.0, 0.0, 5.0, 5.0]),
        np.array([0, 2, 3, 5, 7]),
        np.array([1.0, 1.0, 0.0, 5.0, 5.0, 5.0, 5.0]),
        np.array([-1.0, 1.0, 0.0, -1.0, 1.0, -1.0, 1.0]),
    )
    solution = solver(program)
    np.testing.assert_allclose(solution.x, [0.25, 1.0], atol=1e-5)
    assert solution.objective == pytest.approx(0.0, abs=1e-5)


def test_the_interior_point_needs_no_help_and_agrees_with_the_reference():
    alone = InteriorPoint(fallback=HiGHS(time_limit=1e-9))
    for n, density in ((6, 1.0), (60, 0.1)):
        for seed in range(3):
            program = generated(10 * n, n, seed, density)
            solution, reference = alone(program), HiGHS()(program)
            assert solution.status == "optimal"
            assert solution.objective == pytest.approx(reference.objective, rel=1e-7)
            np.testing.assert_allclose(solution.x, reference.x, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": np.zeros(3)}, "rows"),
        ({"slopes": np.array([1.0, -1.0])}, "ascend"),
        ({"widths": np.array([1.0, -1.0])}, "below 0"),
        ({"values": np.array([np.nan])}, "finite"),
        ({"pointers": np.array([0, 1])}, "pointers"),
    ],
)
def test_impossible_programs_are_refused(change, message):
    good = {
        "matrix": scipy.sparse.csr_array(np.ones((1, 1))),
        "lower": np.zeros(1),
        "values": np.zeros(1),
        "pointers": np.array([0, 2]),
        "widths": np.ones(2),
        "slopes": np.array([-1.0, 1.0]),
    }
    with pytest.raises(ValueError, match=message):
        PiecewiseLinearProgram(**{**good, **change})
