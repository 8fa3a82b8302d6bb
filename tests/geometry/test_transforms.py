import numpy as np
import pytest
from support import naive, spaces
from support.maps import affine, bspline, every, field, points

from augreg import Affine, BSpline, Composition, DisplacementField

RNG = np.random.default_rng


@pytest.mark.kernels
@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_bspline_and_field_agree_with_their_definitions(ndim, name):
    spline = bspline(ndim, name=name)
    near = points(ndim, 25, name=name)
    # beyond the domain too, where ITK jumps to the identity
    far = spline.grid.points_at(RNG(2).uniform(0, np.array(spline.grid.shape) - 1, (10, ndim)))
    loose = BSpline(RNG(3).normal(size=spline.coefficients.shape), spline.grid)
    for x in [*near, *far]:
        for transform in (spline, loose):
            expected = x + naive.bspline_displacement(x, transform.coefficients, transform.grid)
            np.testing.assert_allclose(transform(x), expected, atol=1e-10)
    flow = field(ndim, name=name)
    for x in near:
        expected = x + naive.sample_linear(flow.values, flow.grid, x, 0.0)
        np.testing.assert_allclose(flow(x), expected, atol=1e-10)


@pytest.mark.parametrize("ndim", [2, 3])
def test_composition_applies_the_last_first_for_every_pair(ndim):
    x = points(ndim)
    for a in every(ndim, 0):
        for b in every(ndim, 5):
            np.testing.assert_allclose((a @ b)(x), a(b(x)), atol=1e-10)
            assert not np.allclose((a @ b)(x), (b @ a)(x), atol=1e-3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_composition_is_flat_and_affine_maps_stay_affine(ndim):
    a, b, c, d = every(ndim)
    product = (a @ b) @ (c @ d)
    assert isinstance(product, Composition)
    assert not any(isinstance(part, Composition) for part in product.transforms)
    np.testing.assert_allclose(product(points(ndim)), a(b(c(d(points(ndim))))), atol=1e-10)
    assert isinstance(a @ affine(ndim, 3), Affine)


@pytest.mark.parametrize("ndim", [2, 3])
def test_jacobian_is_the_derivative(ndim):
    step = 1e-6
    # away from the nodes, where a linear field has no derivative
    grid = spaces.grid(ndim)
    cells = np.array(grid.shape) - 1
    x = grid.points_at(RNG(1).integers(0, cells, (60, ndim)) + RNG(2).uniform(0.1, 0.9, (60, ndim)))
    for transform in [*every(ndim)[:2], field(ndim), affine(ndim) @ bspline(ndim, 1)]:
        numerical = np.stack([(transform(x + step * e) - transform(x - step * e)) / (2 * step) for e in np.eye(ndim)], axis=-1)
        np.testing.assert_allclose(transform.jacobian(x), numerical, atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_chain_rule(ndim):
    a, b = bspline(ndim, 1), affine(ndim, 2)
    x = points(ndim)
    np.testing.assert_allclose((a @ b).jacobian(x), a.jacobian(b(x)) @ b.jacobian(x), atol=1e-10)
    np.testing.assert_allclose((b @ a @ b).jacobian(x), b.jacobian(a(b(x))) @ a.jacobian(b(x)) @ b.jacobian(x), atol=1e-10)


@pytest.mark.parametrize("ndim", [2, 3])
def test_solve_inverts_at_points(ndim):
    y = points(ndim, margin=0.0)
    for transform in every(ndim):
        x = transform.solve(y, tolerance=1e-8)
        np.testing.assert_allclose(transform(x), y, atol=1e-7)
        assert np.abs(x - y).max() > 0.1


def test_solve_copes_where_the_fixed_point_iteration_diverges():
    # a whirl: gradients above one, yet invertible, since det J > 0 everywhere
    domain = spaces.grid(2, shape=(60, 40))
    zero = BSpline.zeros(domain, 4.0)
    arm = zero.grid.points() - domain.center
    angle = 2.2 * np.exp(-((arm / 14) ** 2).sum(axis=-1, keepdims=True)) * zero.free[..., None]
    turned = np.stack([-arm[..., 1], arm[..., 0]], axis=-1)
    whirl = BSpline((np.cos(angle) - 1) * arm + np.sin(angle) * turned, zero.grid)
    x = domain.with_shape((200, 150)).points()
    jacobian = whirl.jacobian(x)
    assert np.linalg.det(jacobian).min() > 0
    assert np.linalg.norm(jacobian - np.eye(2), ord=2, axis=(-2, -1)).max() > 1.2
    y = domain.points()
    guess = y
    for _ in range(60):
        guess = y - (whirl(guess) - guess)
    assert np.abs(whirl(guess) - y).max() > 1
    np.testing.assert_allclose(whirl(whirl.solve(y)), y, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
def test_inverse_is_exact_for_affine_and_to_tolerance_at_the_nodes_else(ndim):
    x = points(ndim, margin=0.0)
    a = affine(ndim)
    np.testing.assert_allclose(a.inverse()(a(x)), x, atol=1e-10)
    b = bspline(ndim)
    grid = spaces.grid(ndim)
    nodes = grid.points()
    np.testing.assert_allclose(b(b.inverse(grid)(nodes)), nodes, atol=1e-5)
    # the inverse on the spline's own domain serves everywhere, to interpolation error
    np.testing.assert_allclose((a @ b).inverse()((a @ b)(x)), x, atol=0.1 if ndim == 2 else 0.15)
    assert np.abs((b.inverse() @ a.inverse())((b @ a)(x)) - x).max() > 0.5


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_inverse_of_a_composition_holds_on_the_whole_grid(ndim):
    # the inverse of the affine part leads out of the grid, to where the splines still move points
    grid = spaces.grid(ndim)
    shift = grid.index_to_world @ (np.array(grid.shape) / 4)
    phi = Affine(np.eye(ndim), shift) @ bspline(ndim, 1) @ bspline(ndim, 2)
    y = grid.points()
    miss = np.linalg.norm(phi(phi.inverse(grid)(y)) - y, axis=-1)
    assert miss.max() < 0.1 * min(grid.spacing)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_displacement_on_a_grid_is_the_map_at_its_points(ndim, name):
    grid = spaces.grid(ndim, name)
    other = grid.with_shape([n + 3 for n in grid.shape]).padded(2)
    for transform in [*every(ndim), bspline(ndim, name=name), affine(ndim) @ bspline(ndim, name=name), field(ndim, name=name)]:
        for where in (grid, other):
            expected = transform(where.points()) - where.points()
            np.testing.assert_allclose(transform.displacement(where), expected, atol=1e-10)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_zero_bspline_leaves_every_voxel_its_full_freedom(ndim, name):
    domain = spaces.grid(ndim, name)
    spline = BSpline.zeros(domain, 4.0)
    assert max(spline.grid.spacing) <= 4.0 + 1e-9
    assert spline.free.sum() == np.prod(np.array(spline.grid.shape) - 6)
    ones = BSpline(np.where(spline.free[..., None], 1.0, 0.0) * np.ones(ndim), spline.grid)
    # the splines sum to one wherever all of them are free
    np.testing.assert_allclose(ones.displacement(domain), 1.0, atol=1e-12)
    border = domain.points_at(np.array(domain.shape) - 0.5)
    np.testing.assert_allclose(ones(border) - border, 1.0, atol=1e-12)


def test_wrong_shapes_and_numbers_are_refused():
    grid = spaces.grid(2)
    with pytest.raises(ValueError, match="matrix"):
        Affine(np.eye(4))
    with pytest.raises(ValueError, match="translation"):
        Affine(np.eye(2), np.zeros(3))
    with pytest.raises(ValueError, match="invertible matrix"):
        Affine(np.ones((2, 2))).inverse()
    with pytest.raises(ValueError, match="vector per grid point"):
        DisplacementField(np.zeros((*grid.shape, 3)), grid)
    with pytest.raises(ValueError, match="finite"):
        DisplacementField(np.full((*grid.shape, 2), np.nan), grid)
    with pytest.raises(ValueError, match="4 control points"):
        BSpline(np.zeros((3, 5, 2)), spaces.grid(2, shape=(3, 5)))
    with pytest.raises(ValueError, match="2 coordinates"):
        affine(2)(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="one dimension"):
        affine(2) @ affine(3)
