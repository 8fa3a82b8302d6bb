from functools import partial

import numpy as np
import pytest
import scipy.linalg
from spaces import grid

from augreg.sam import Locality, Subspace
from augreg.sam.locality import (
    DenseFactor,
    GridFactor,
    JoinedFactor,
    KhatriRao,
    grid_taper_factor,
    local_subspace,
    principal_modes,
    taper_factor,
)
from augreg.sam.subspace import nest


def random_subspace(rng, size, rank):
    return Subspace(
        rng.normal(size=size), scipy.linalg.orth(rng.normal(size=(size, rank))), np.sort(rng.uniform(0.5, 4, rank))[::-1]
    )


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_projection_is_idempotent_and_nearest(rng):
    model = random_subspace(rng, 30, 6)
    x = rng.normal(size=(4, 30))
    near = model.project(x)
    assert np.allclose(model.project(near), near)
    assert np.allclose((x - near) @ model.basis, 0)


def test_coefficients_are_the_inverse_of_instances(rng):
    model = random_subspace(rng, 30, 6)
    b = rng.normal(size=(5, 6))
    assert np.allclose(model.coefficients(model.instance(b)), b)
    assert np.allclose(model.instance([2.0]), model.mean + 2 * np.sqrt(model.variance[0]) * model.basis[:, 0])
    with pytest.raises(ValueError, match="at most 6"):
        model.instance(np.zeros(7))
    with pytest.raises(ValueError, match="length 30"):
        model.coefficients(np.zeros(29))


def test_samples_have_the_modes_covariance(rng):
    model = random_subspace(rng, 5, 3)
    samples = model.sample(rng, 40000)
    expected = (model.basis * model.variance) @ model.basis.T
    assert np.allclose(samples.mean(axis=0), model.mean, atol=0.06)
    assert np.abs(np.cov(samples.T) - expected).max() < 0.12


def test_truncation_keeps_the_leading_modes(rng):
    model = Subspace(np.zeros(9), np.eye(9)[:, :4], np.array([6.0, 3.0, 1.0, 0.1]))
    assert model.truncate(2).rank == 2
    assert model.retain(0.9).rank == 3
    assert model.retain(1.0).rank == 4


def test_nested_subspaces_contain_the_coarse_and_are_nearest_to_the_fine(rng):
    A, B = random_subspace(rng, 40, 5), random_subspace(rng, 40, 9)
    merged = nest(A, B)
    G = merged.basis
    assert merged.rank == 9
    assert np.abs(G.T @ G - np.eye(9)).max() < 1e-10
    assert np.abs(A.basis - G @ (G.T @ A.basis)).max() < 1e-10
    assert merged.variance.sum() == pytest.approx(A.variance.sum(), rel=1e-10)
    # Ye and Lim: the distance of the two spans is that of their principal angles, and no other superspace of A is nearer to B
    angles = scipy.linalg.subspace_angles(A.basis, B.basis)
    distance = np.linalg.norm(scipy.linalg.subspace_angles(G, B.basis))
    assert distance == pytest.approx(np.linalg.norm(angles), abs=1e-7)
    for _ in range(20):
        other = scipy.linalg.orth(np.hstack([A.basis, G[:, 5:] + 0.1 * rng.normal(size=(40, 4))]))
        assert np.linalg.norm(scipy.linalg.subspace_angles(other, B.basis)) > distance
    assert nest(B, A) is B


@pytest.mark.parametrize("taper", ["gaussian", "wendland"])
def test_khatri_rao_factors_reproduce_the_tapered_covariance(rng, taper):
    points = rng.uniform(0, 50, (25, 2))
    residuals = rng.normal(size=(6, 25, 2))
    residuals -= residuals.mean(axis=0)
    locality = Locality(levels=4, taper=taper)
    factor = taper_factor(points, locality, 4, 60.0)
    H = KhatriRao(residuals, factor).times(np.eye(6 * factor.columns))
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    R = np.kron(locality.correlation(distance, 4, 60.0), np.ones((2, 2)))  # the components of a point share its taper
    flat = residuals.reshape(6, -1)
    expected = flat.T @ flat / 5 * R
    assert np.abs(H @ H.T - expected).max() < 0.02 * np.abs(expected).max()
    assert np.allclose(np.diag(H @ H.T), np.diag(expected))  # variances are exact
    y = rng.normal(size=(50, 3))
    assert np.allclose(KhatriRao(residuals, factor).transposed(y), H.T @ y)


@pytest.mark.parametrize("ndim", [2, 3])
def test_grid_factors_are_products_of_axes(ndim, rng):
    g = grid(ndim, shape=(7, 5, 4)[:ndim])
    locality = Locality(levels=3)
    factor = grid_taper_factor(g, locality, 3, 12.0)
    G = factor.times(np.eye(factor.columns, dtype=np.float32))
    points = g.points().reshape(-1, ndim)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    assert np.abs(G @ G.T - locality.correlation(distance, 3, 12.0)).max() < 5e-3
    assert np.allclose(np.sum(G**2, axis=1), 1, atol=1e-5)
    y = rng.normal(size=(g.size, 2)).astype(np.float32)
    assert np.allclose(factor.transposed(y), G.T @ y, atol=1e-4)


def test_joined_factors_average_the_tapers(rng):
    parts = (DenseFactor(rng.normal(size=(8, 3))), DenseFactor(rng.normal(size=(8, 5))))
    joined = JoinedFactor(parts)
    G = joined.times(np.eye(8))
    assert np.allclose(G @ G.T, sum(p.matrix @ p.matrix.T for p in parts) / 2)
    assert np.allclose(joined.transposed(np.eye(8)), G.T)


def test_randomised_modes_are_the_eigenvectors(rng):
    points = rng.uniform(0, 50, (30, 2))
    residuals = rng.normal(size=(5, 30, 2))
    residuals -= residuals.mean(axis=0)
    locality = Locality(levels=3)
    H = KhatriRao(residuals, taper_factor(points, locality, 3, 60.0))
    dense = H.times(np.eye(H.shape[1]))
    w, V = np.linalg.eigh(dense @ dense.T)
    found = H.modes(np.zeros(60), 10, 1.0, np.trace(dense @ dense.T))
    assert np.allclose(found.variance, w[::-1][:10], rtol=2e-2)
    assert np.abs(np.abs(np.sum(found.basis[:, :3] * V[:, ::-1][:, :3], axis=0)) - 1).max() < 1e-2


def test_principal_modes_are_those_of_the_covariance(rng):
    residuals = rng.normal(size=(6, 40))
    residuals -= residuals.mean(axis=0)
    modes = principal_modes(np.zeros(40), residuals, 1.0)
    assert modes.rank == 5
    assert np.allclose((modes.basis * modes.variance) @ modes.basis.T, residuals.T @ residuals / 5)


@pytest.mark.parametrize("merge", ["nested", "sum"])
def test_locality_lifts_the_rank_and_the_generalisation(rng, merge):
    # smooth shapes with more freedom than eight images can show
    points = np.stack(np.meshgrid(np.linspace(0, 60, 9), np.linspace(0, 40, 7), indexing="ij"), axis=-1).reshape(-1, 2)
    kernel = np.exp(-0.5 * (np.linalg.norm(points[:, None] - points, axis=-1) / 12) ** 2)
    root = np.linalg.cholesky(kernel + 1e-9 * np.eye(len(points)))
    shapes = np.einsum("ab,nbc->nac", root, rng.normal(size=(48, len(points), 2)))
    train, unseen = shapes[:8], shapes[8:].reshape(40, -1)
    mean = train.mean(axis=0)
    factor = partial(taper_factor, points)

    def error(locality):
        build = partial(factor, locality, extent=72.0)
        model = local_subspace(mean.ravel(), train - mean, lambda level: build(level), locality, 126, "shapes")
        assert np.abs(model.basis.T @ model.basis - np.eye(model.rank)).max() < 1e-8
        return model.rank, np.abs(model.project(unseen) - unseen).mean()

    rank, global_error = error(Locality(levels=1))
    local_rank, local_error = error(Locality(levels=5, merge=merge))
    assert rank <= 7 < local_rank
    assert local_error < 0.6 * global_error


def test_identical_images_are_refused():
    with pytest.raises(ValueError, match="identical shapes"):
        local_subspace(np.zeros(6), np.zeros((4, 3, 2)), lambda level: DenseFactor(np.eye(3)), Locality(), 5, "shapes")


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"taper": "box"}, {"merge": "mean"}, {"retained": 0.0}, {"retained": 1.5}])
def test_wrong_localities_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Locality(**wrong)


def test_tapers_that_are_not_positive_semidefinite_are_refused():
    class Box(Locality):
        def correlation(self, distance, level, extent):
            return (np.asarray(distance) <= 20).astype(float)

    with pytest.raises(ValueError, match="least eigenvalue"):
        taper_factor(np.random.default_rng(0).uniform(0, 50, (40, 2)), Box(), 3, 70.0)


def test_grid_factor_columns_are_counted():
    assert GridFactor((np.zeros((4, 2)), np.zeros((5, 3)))).columns == 6
