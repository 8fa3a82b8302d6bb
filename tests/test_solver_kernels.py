import naive_solvers as naive
import numpy as np
import pytest
import scipy.sparse

from solvers import PiecewiseLinearProgram, _band_kernels, _interior_kernels, _problem_kernels, _row_kernels, _segment_kernels

pytestmark = pytest.mark.kernels


def small(m=9, n=4, seed=0, density=0.6):
    """A program with rows of one to four segments, a box, and an interior optimum or none."""
    rng = np.random.default_rng(seed)
    counts = np.concatenate([rng.integers(1, 5, m), np.ones(n, dtype=int)])
    matrix = rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) < density)
    widths = rng.uniform(0.5, 2, counts.sum())
    slopes = np.concatenate([np.sort(rng.normal(size=k)) for k in counts])
    lower = np.array([-0.5 * part.sum() for part in np.split(widths, np.cumsum(counts)[:-1])])
    rows = scipy.sparse.csr_array(np.vstack([matrix, np.eye(n)]))
    return PiecewiseLinearProgram(rows, lower, rng.normal(size=m + n), np.concatenate([[0], np.cumsum(counts)]), widths, slopes)


def arranged(program):
    """Rows, segments and order, as the search holds them."""
    A = program.matrix
    order = _segment_kernels.row_order(program.pointers)
    rows = _row_kernels.arranged(A.indptr, A.indices, A.data, order, np.arange(A.shape[1]))
    return rows, _segment_kernels.slabs(program.pointers, order, program.values, program.widths, program.slopes, 0.0), order


def by_rows(program, segments, order, values):
    """Numbers of slabs in the order of the program."""
    out = np.empty(len(values))
    for i, row in enumerate(order):
        for k in range(program.pointers[row + 1] - program.pointers[row]):
            out[program.pointers[row] + k] = values[segments.offsets[k] + i]
    return out


@pytest.mark.parametrize("n", [5, 19])
def test_products_with_the_rows_agree_with_their_definitions(n):
    program = small(12, n, density=0.3)
    rows, _, order = arranged(program)
    A, rng = program.matrix.toarray()[order], np.random.default_rng(1)
    m = len(A)
    x, y, weights = rng.normal(size=n), rng.normal(size=m), rng.uniform(1, 2, m)
    out = np.empty(m)
    _row_kernels.forward(rows, x, out)
    np.testing.assert_allclose(out, A @ x, atol=1e-12)
    back, scale = np.empty(n), np.empty(n)
    _row_kernels.backward(rows, y, back)
    np.testing.assert_allclose(back, A.T @ y, atol=1e-12)
    worst = _row_kernels.imbalance(rows, y, back, scale)
    np.testing.assert_allclose(back, A.T @ y, atol=1e-12)
    np.testing.assert_allclose(scale, np.abs(A.T) @ np.abs(y))
    assert worst == pytest.approx(np.max(np.abs(A.T @ y) / (1 + np.abs(A.T) @ np.abs(y))))
    spans = [np.flatnonzero(row) for row in A]
    width = max(int(c.max() - c.min()) for c in spans if c.size)
    assert _band_kernels.bandwidth(program.matrix.indptr, program.matrix.indices, np.arange(n)) == width
    band = _band_kernels.empty_band(n, width)
    _row_kernels.normal_matrix(rows, weights, np.empty(m), band)
    np.testing.assert_allclose(naive.unpacked(band, n), np.tril(A.T @ np.diag(weights) @ A), atol=1e-12)
    _row_kernels.lift_diagonal(band, n, 0.5)
    np.testing.assert_allclose(np.diag(naive.unpacked(band, n)), 1.5 * np.diag(A.T @ np.diag(weights) @ A))


@pytest.mark.parametrize(("n", "width"), [(10, 0), (21, 3), (21, 13), (16, 15), (3, 2)])
def test_band_systems_are_solved_and_indefinite_ones_refused(n, width):
    rng = np.random.default_rng(width)
    factor = np.tril(rng.normal(size=(n, n)))
    factor[np.subtract.outer(np.arange(n), np.arange(n)) > width] = 0
    full = factor @ factor.T + 0.5 * np.eye(n)
    band = naive.packed(full, _band_kernels.empty_band(n, width))
    right = rng.normal(size=n)
    x = _band_kernels.empty_vector(band)
    x[:n] = right
    assert _band_kernels.factorise(band)
    np.testing.assert_allclose(naive.unpacked(band, n), np.linalg.cholesky(full), atol=1e-9)
    _band_kernels.substitute(band, x)
    np.testing.assert_allclose(full @ x[:n], right, atol=1e-9)
    np.testing.assert_array_equal(x[n:], 0)
    assert not _band_kernels.factorise(naive.packed(full - 100 * np.eye(n), _band_kernels.empty_band(n, width)))


def test_costs_and_conjugates_agree_with_their_definitions():
    program = small()
    _, segments, order = arranged(program)
    c, y = np.random.default_rng(2).normal(scale=2, size=4), np.random.default_rng(3).normal(size=13)
    xi = program.matrix @ c
    f = np.array([naive.cost(program, i, xi[i]) for i in range(13)])
    dual = np.array([naive.conjugate(program, i, y[i]) for i in range(13)])
    beyond = np.array([naive.excess(program, i, xi[i]) for i in range(13)])
    assert 0 < np.count_nonzero(beyond) < 13
    terms, excess = program.terms_and_excess(c)
    np.testing.assert_allclose(terms, f)
    np.testing.assert_allclose(excess, beyond, atol=1e-12)
    assert program.dual_objective(y) == pytest.approx(-dual.sum())
    residual, scale = program.balance(y)
    np.testing.assert_allclose(residual, program.matrix.T @ y)
    np.testing.assert_allclose(scale, abs(program.matrix).T @ np.abs(y))
    out, conjugate = np.empty(13), np.empty(13)
    _segment_kernels.true_costs(segments, (xi - program.lower)[order], y[order], out, conjugate)
    np.testing.assert_allclose(out, f[order])
    np.testing.assert_allclose(conjugate, (dual - y * program.lower + program.values)[order], atol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_faults_are_found():
    sound = (np.ones(2), np.zeros(2), np.zeros(2), np.array([0, 2, 3]), np.ones(3), np.array([-1.0, 1.0, 0.0]))
    assert _problem_kernels.fault(*sound) == 0
    for place, value, code in (
        (3, np.array([0, 0, 3]), 1),
        (1, np.array([0.0, np.inf]), 2),
        (4, np.array([1.0, -1.0, 1.0]), 3),
        (5, np.array([1.0, -1.0, 0.0]), 4),
    ):
        assert _problem_kernels.fault(*sound[:place], value, *sound[place + 1 :]) == code


def test_the_first_iterate_and_the_slabs_hold_every_segment_once():
    program = small()
    _, segments, order = arranged(program)
    assert list(np.diff(program.pointers)[order]) == sorted(np.diff(program.pointers), reverse=True)
    c = np.random.default_rng(4).normal(size=4)
    s, y, z, v = naive.start(program, c)
    mu = np.empty(13)
    x = (program.matrix @ c - program.lower)[order]
    iterate, filled, length = _segment_kernels.started(segments, x, mu, False)
    np.testing.assert_array_equal(mu, y[order])
    for ours, theirs in (
        (iterate.s, s),
        (iterate.t, program.widths - s),
        (iterate.z, z),
        (iterate.v, v),
        (segments.slopes, program.slopes),
    ):
        np.testing.assert_allclose(by_rows(program, segments, order, ours), theirs)
    np.testing.assert_allclose(length, (program.upper - program.lower)[order])
    np.testing.assert_allclose(filled, np.add.reduceat(s, program.pointers[:-1])[order])


@pytest.mark.parametrize("n", [4, 18])
def test_steps_agree_with_the_whole_newton_system(n):
    program = small(9, n)
    A = program.matrix
    m = A.shape[0]
    places = np.random.default_rng(6).permutation(n)
    width = _band_kernels.bandwidth(A.indptr, A.indices, places)
    first = np.random.default_rng(5).normal(scale=0.1, size=n)
    c, (s, y, z, v) = first, naive.start(program, first)
    for steps in range(5):
        mine, mu = first.copy(), np.zeros(m)
        parts = (program.lower, program.values, program.pointers, program.widths, program.slopes)
        ended, taken = _interior_kernels.search(A.indptr, A.indices, A.data, *parts, places, width, mine, mu, False, 1e-12, steps)
        assert (ended, taken) == (_interior_kernels.TIRED, steps)
        np.testing.assert_allclose(mine, c, atol=1e-8)
        np.testing.assert_allclose(mu, y, atol=1e-8)
        c, s, y, z, v = naive.step(program, c, s, y, z, v, rounds=0 if n <= _row_kernels.FULL else 2)
