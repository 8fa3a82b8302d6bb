import numpy as np
import pytest
import scipy.sparse
from support import naive_solvers as naive

from solvers import PiecewiseLinearProgram, _band_kernels, _problem_kernels, _segment_kernels
from solvers._compile import kernel
from solvers._search import _factorised, search
from solvers._systems import FEW, BandSystem, FullSystem, system_of

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


def slabs(program):
    """Segments, offsets and order, as the search holds them."""
    m, count = len(program.lower), len(program.widths)
    order, offsets = np.empty(m, dtype=np.int64), np.zeros(count + 2, dtype=np.int64)
    offsets = offsets[: _segment_kernels.row_order(program.pointers, order, offsets) + 1]
    segments, low = np.empty((3, count)), np.empty(m)
    parts = (program.pointers, order, program.lower, program.values, program.widths, program.slopes)
    constant, far = _segment_kernels.slabs(*parts, 0.0, offsets, segments, low)
    np.testing.assert_array_equal(low, program.lower[order])
    assert constant == pytest.approx(program.values.sum())
    assert far == 1 + np.abs(program.lower).max()
    return segments, offsets, order


def by_rows(program, offsets, order, values):
    """Numbers of slabs in the order of the program."""
    out = np.empty(len(values))
    for i, row in enumerate(order):
        for k in range(program.pointers[row + 1] - program.pointers[row]):
            out[program.pointers[row] + k] = values[offsets[k] + i]
    return out


@pytest.mark.parametrize("n", [5, 19])
def test_products_with_the_rows_and_newton_steps_agree_with_their_definitions(n):
    program = small(12, n, density=0.3)
    rng = np.random.default_rng(1)
    order = slabs(program)[2]
    places = rng.permutation(n)
    A = np.empty((len(order), n))
    A[:, places] = program.matrix.toarray()[order]
    width = _band_kernels.bandwidth(program.matrix.indptr, program.matrix.indices, places)
    spans = [np.flatnonzero(row) for row in A]
    assert width == max(int(c.max() - c.min()) for c in spans if c.size)
    system = system_of(program.matrix, order, places, width)
    assert isinstance(system, FullSystem if n <= FEW else BandSystem)
    m = len(A)
    c, low, y, q, weights = rng.normal(size=n), rng.normal(size=m), rng.normal(size=m), rng.normal(size=m), rng.uniform(1, 2, m)
    x, back, scale = np.empty(m), system.unknowns(), np.empty(n)
    worst = system.products(c, low, y, x, back, scale)
    np.testing.assert_allclose(x, A @ c - low, atol=1e-12)
    np.testing.assert_allclose(back[:n], A.T @ y, atol=1e-12)
    np.testing.assert_allclose(scale, np.abs(A.T) @ np.abs(y))
    assert worst == pytest.approx(np.max(np.abs(A.T @ y) / (1 + np.abs(A.T) @ np.abs(y))))
    # half of each diagonal entry once more
    assert system.factorise(weights, 0.5)
    full = A.T @ np.diag(weights) @ A
    full += 0.5 * np.diag(np.diag(full))
    dc, dy, right = system.unknowns(), np.empty(m), np.empty(m)
    system.newton(weights, q, y, right, dc, dy)
    np.testing.assert_allclose(dc[:n], np.linalg.solve(full, A.T @ (weights * q - y)), atol=1e-9)
    np.testing.assert_allclose(dy, weights * (A @ dc[:n] - q), atol=1e-9)
    assert system.factorise(weights, 0.0)
    exact = y.copy()
    system.balance(weights, back, right, exact)
    np.testing.assert_allclose(A.T @ exact, 0, atol=1e-9)
    np.testing.assert_allclose(exact, y - weights * (A @ np.linalg.solve(A.T @ np.diag(weights) @ A, A.T @ y)), atol=1e-9)
    assert not system.factorise(-weights, 0.0) or not np.any(A)


def test_a_second_look_takes_away_what_rounding_has_left():
    n = 19
    program = small(12, n, density=0.3)
    order, rng = slabs(program)[2], np.random.default_rng(2)
    system = BandSystem.of(program.matrix, order, np.arange(n), n - 1)
    A, m = program.matrix.toarray()[order], len(order)
    weights, q, y = rng.uniform(1, 2, m), rng.normal(size=m), rng.normal(size=m)
    dc, dy, right, residual, scale = system.unknowns(), np.empty(m), np.empty(m), system.unknowns(), np.zeros(n)
    assert system.factorise(weights, 0.0)
    system.newton(weights, q, y, right, dc, dy)
    np.testing.assert_allclose(A.T @ (y + dy), 0, atol=1e-9)
    right_dc, right_dy = dc.copy(), dy.copy()
    assert not system.refine(weights, y, scale, 1e-6, right, residual, dc, dy)
    # an error of dc, and what it does to dy
    error = rng.normal(size=n)
    dc[:n] += error
    dy += weights * (A @ error)
    assert system.refine(weights, y, scale, 1e-6, right, residual, dc, dy)
    np.testing.assert_allclose(dc, right_dc, atol=1e-9)
    np.testing.assert_allclose(dy, right_dy, atol=1e-9)


def _zero_band(n, width):
    band = _band_kernels.empty_band(n, width)
    assert band.ctypes.data % 64 == 0
    band[:] = 0
    return band


@kernel
def _substituted(band, x):
    _band_kernels.substitute(band, x)


@pytest.mark.parametrize(("n", "width"), [(10, 0), (21, 3), (21, 13), (16, 15), (3, 2)])
def test_band_systems_are_solved_and_indefinite_ones_refused(n, width):
    rng = np.random.default_rng(width)
    factor = np.tril(rng.normal(size=(n, n)))
    factor[np.subtract.outer(np.arange(n), np.arange(n)) > width] = 0
    full = factor @ factor.T + 0.5 * np.eye(n)
    band = naive.packed(full, _zero_band(n, width))
    right = rng.normal(size=n)
    x = np.zeros(_band_kernels.padded(band))
    x[:n] = right
    assert _band_kernels.factorise(band)
    np.testing.assert_allclose(naive.unpacked(band, n), np.linalg.cholesky(full), atol=1e-9)
    _substituted(band, x)
    np.testing.assert_allclose(full @ x[:n], right, atol=1e-9)
    np.testing.assert_array_equal(x[n:], 0)
    assert not _band_kernels.factorise(naive.packed(full - 100 * np.eye(n), _zero_band(n, width)))


def test_costs_and_conjugates_agree_with_their_definitions():
    program = small()
    segments, offsets, order = slabs(program)
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
    assert program.judged(c, y) == pytest.approx(
        (f.sum(), -dual.sum(), beyond.max(), np.max(np.abs(residual) / (1 + scale))), abs=1e-12
    )
    out, conjugate = np.empty(13), np.empty(13)
    length = (program.upper - program.lower)[order]
    parts = (offsets, segments, program.lower[order], length, program.values.sum(), (xi - program.lower)[order], y[order])
    gap, outside = _segment_kernels.costs(*parts, out, conjugate)
    np.testing.assert_allclose(out, f[order])
    np.testing.assert_allclose(conjugate, (dual - y * program.lower + program.values)[order], atol=1e-12)
    assert gap == pytest.approx(abs(f.sum() + dual.sum()) / (1 + abs(f.sum())))
    assert outside == pytest.approx(beyond.max())


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
    segments, offsets, order = slabs(program)
    assert list(np.diff(program.pointers)[order]) == sorted(np.diff(program.pointers), reverse=True)
    c = np.random.default_rng(4).normal(size=4)
    s, y, z, v = naive.start(program, c)
    mu = np.empty(13)
    x = (program.matrix @ c - program.lower)[order]
    left, filled, length = np.empty((3, 13))
    iterate = np.empty((7, len(program.widths)))
    _segment_kernels.started(offsets, segments, x, False, mu, left, iterate, filled, length)
    np.testing.assert_array_equal(mu, y[order])
    for ours, theirs in (
        (iterate[0], s),
        (iterate[1], program.widths - s),
        (iterate[2], z),
        (iterate[3], v),
        (segments[1], program.slopes),
    ):
        np.testing.assert_allclose(by_rows(program, offsets, order, ours), theirs)
    np.testing.assert_allclose(length, (program.upper - program.lower)[order])
    np.testing.assert_allclose(filled, np.add.reduceat(s, program.pointers[:-1])[order])


@pytest.mark.parametrize("n", [4, 18])
def test_directions_solve_the_whole_newton_system_and_steps_stay_inside(n):
    """Predictor, corrector and centring, with nothing eliminated; what is missing of A c = l + E s and A^T y = 0 falls."""
    program = small(9, n)
    segments, offsets, order = slabs(program)
    A, m, count = program.matrix, len(program.lower), len(program.widths)
    system = system_of(A, order, np.arange(n), n - 1)
    c, y, x, low, scratch = np.random.default_rng(5).normal(scale=0.1, size=n), *np.empty((4, m))
    low[:] = program.lower[order]
    filled, length, weights, q, dy = np.empty((5, m))
    iterate, step, aims, dc = np.empty((7, count)), np.empty((3, count)), np.empty((3, count)), system.unknowns()
    _segment_kernels.started(offsets, segments, A[order] @ c - low, False, y, scratch, iterate, filled, length)

    def in_program(rows):
        out = np.empty(m)
        out[order] = rows
        return out

    def agree(to_z, to_v, *parts):
        """The direction with its parts as far as they are known; its ds, dz and dv."""
        s, t, z, v = (by_rows(program, offsets, order, part) for part in iterate[:4])
        np.testing.assert_allclose(s + t, program.widths)
        expected = naive.newton(program, c, s, in_program(y), z, v, to_z, to_v)
        np.testing.assert_allclose(dc[:n], expected[0], atol=1e-7)
        np.testing.assert_allclose(in_program(dy), expected[2], atol=1e-7)
        for mine, theirs in zip(parts, (expected[1], *expected[3:]), strict=False):
            np.testing.assert_allclose(by_rows(program, offsets, order, mine), theirs, atol=1e-7)
        return expected[1], expected[3], expected[4]

    def left():
        residual = A @ c - program.lower - np.add.reduceat(by_rows(program, offsets, order, iterate[0]), program.pointers[:-1])
        return residual, A.T @ in_program(y)

    for _ in range(5):
        x[:] = A[order] @ c - low
        mean = (iterate[0] @ iterate[2] + iterate[1] @ iterate[3]) / (2 * count)
        _segment_kernels.scaled(offsets, segments, iterate, y, filled, x, weights, q)
        assert system.factorise(weights, 0.0)
        system.newton(weights, q, y, scratch, dc, dy)
        aim = _segment_kernels.predicted(offsets, segments, iterate, y, dy, step, scratch)
        assert 0 <= aim < mean
        ds, dz, dv = agree(np.zeros(count), np.zeros(count), step[0])
        _segment_kernels.corrected(offsets, segments, iterate, y, filled, x, step, aim, aims, q)
        system.newton(weights, q, y, scratch, dc, dy)
        primal, dual = _segment_kernels.lengths(offsets, iterate, aims, dy, step)
        # the predictor's products of steps are taken off
        agree(aim - ds * dz, aim + ds * dv, *step)
        before = aims.copy()
        products = (iterate[0] + primal * step[0]) * (iterate[2] + dual * step[1])
        _segment_kernels.centred(offsets, iterate, filled, x, step, aim, primal, dual, aims, q)
        # what is far from the aim is brought nearer, what is near stays
        assert np.all((aims[1] - before[1]) * (aim - products) >= 0)
        near = (products > 0.5 * aim) & (products < 2 * aim)
        np.testing.assert_array_equal(aims[1][near], before[1][near])
        system.newton(weights, q, y, scratch, dc, dy)
        primal, dual = _segment_kernels.lengths(offsets, iterate, aims, dy, step)
        goals = (aims[1] + iterate[0] * iterate[2], aims[2] + iterate[1] * iterate[3])
        agree(*(by_rows(program, offsets, order, goal) for goal in goals), *step)
        assert 0 < min(primal, dual) <= max(primal, dual) <= 1
        for now, along, share in (
            (iterate[:2], np.stack([step[0], -step[0]]), primal),
            (iterate[2:4], step[1:], dual),
        ):
            assert np.min(now + share * along) > 0
            assert share == 1 or np.min(now + 1.01 * share * along) < 0
        was = left()
        _segment_kernels.advanced(offsets, iterate, step, primal, dual, dc, dy, c, y, filled)
        for now, then, share in zip(left(), was, (primal, dual), strict=True):
            np.testing.assert_allclose(now, (1 - share) * then, atol=1e-7)


@pytest.mark.parametrize("n", [4, 18])
def test_few_iterations_certify(n):
    places = np.random.default_rng(6).permutation(n)
    for seed in range(20):
        program = small(60, n, seed)
        width = _band_kernels.bandwidth(program.matrix.indptr, program.matrix.indices, places)
        *_, certified, taken = search(program, places, width, (np.zeros(n), np.zeros(60 + n), False), 1e-8, 40)
        assert certified
        assert taken <= 12


@pytest.mark.parametrize("n", [4, 19])
def test_a_projection_that_certifies_nothing_leaves_no_trace(n, monkeypatch):
    program = small(30, n)
    places = np.arange(n)
    width = _band_kernels.bandwidth(program.matrix.indptr, program.matrix.indices, places)
    start = (np.zeros(n), np.zeros(30 + n), False)
    assert search(program, places, width, start, 1e-6, 30)[2]
    spoilt = []

    def spoil(system, weights, balance, right, y):
        spoilt.append(True)
        y += 1.0

    # with a tolerance of 0 none is tried
    c, y, _, _ = search(program, places, width, start, 0.0, 16)
    monkeypatch.setattr(type(system_of(program.matrix, slabs(program)[2], places, width)), "balance", spoil)
    mine, mu, certified, _ = search(program, places, width, start, 1e-6, 16)
    assert spoilt
    assert not certified
    np.testing.assert_allclose(mine, c, atol=1e-9)
    np.testing.assert_allclose(mu, y, atol=1e-9)


@pytest.mark.parametrize(("enough", "found"), [(0.0, True), (1e-10, True), (1.0, False)])
def test_the_diagonal_is_raised_step_by_step_and_never_by_much(enough, found):
    lifts = []

    class Stubborn:
        def factorise(self, weights, lift):
            lifts.append(lift)
            return lift > enough

    assert _factorised(Stubborn(), np.ones(3)) == found
    np.testing.assert_allclose(lifts, 1e-13 * 100.0 ** np.arange(len(lifts)))
    assert lifts[-1] < 1e-6
    assert not found or len(lifts) == (1 if enough == 0 else 3)
