import json

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.csgraph
from support.spaces import grid

from augreg.sam import Gaussian, Locality, Nested, Subspace, Threshold, WeightedSum, Wendland
from augreg.sam.correlation import correlation_root
from augreg.sam.factors import DenseFactor, GridFactor, JoinedFactor, KhatriRao, modes, principal_modes
from augreg.sam.locality import LandmarkPlaces, grid_taper_factor, landmark_taper, local_subspace, taper, taper_factor
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


@pytest.mark.parametrize("kind", [Gaussian(), Wendland()])
def test_khatri_rao_factors_reproduce_the_tapered_covariance(rng, kind):
    points = rng.uniform(0, 50, (25, 2))
    residuals = rng.normal(size=(6, 25, 2))
    residuals -= residuals.mean(axis=0)
    locality = Locality(levels=4, taper=kind, scale=1.0)
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
    locality = Locality(levels=3, scale=1.0)
    factor = grid_taper_factor(g, locality, 3, 12.0)
    G = factor.times(np.eye(factor.columns, dtype=np.float32))
    points = g.points().reshape(-1, ndim)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    assert np.abs(G @ G.T - locality.correlation(distance, 3, 12.0)).max() < 5e-3
    assert np.allclose(np.sum(G**2, axis=1), 1, atol=1e-5)
    y = rng.normal(size=(g.size, 2)).astype(np.float32)
    assert np.allclose(factor.transposed(y), G.T @ y, atol=1e-4)


def test_joined_factors_weigh_the_tapers(rng):
    parts = (DenseFactor(rng.normal(size=(8, 3))), DenseFactor(rng.normal(size=(8, 5))))
    joined = JoinedFactor(parts, (0.3, 0.7))
    G = joined.times(np.eye(8))
    assert np.allclose(G @ G.T, 0.3 * parts[0].matrix @ parts[0].matrix.T + 0.7 * parts[1].matrix @ parts[1].matrix.T)
    assert np.allclose(joined.transposed(np.eye(8)), G.T)


def test_randomised_modes_are_the_eigenvectors(rng):
    points = rng.uniform(0, 50, (30, 2))
    residuals = rng.normal(size=(5, 30, 2))
    residuals -= residuals.mean(axis=0)
    locality = Locality(levels=3, scale=1.0)
    H = KhatriRao(residuals, taper_factor(points, locality, 3, 60.0))
    dense = H.times(np.eye(H.columns))
    w, V = np.linalg.eigh(dense @ dense.T)
    found = modes(H, np.zeros(60), 10, 1.0, np.trace(dense @ dense.T))
    assert np.allclose(found.variance, w[::-1][:10], rtol=2e-2)
    assert np.abs(np.abs(np.sum(found.basis[:, :3] * V[:, ::-1][:, :3], axis=0)) - 1).max() < 1e-2


def test_principal_modes_are_those_of_the_covariance(rng):
    residuals = rng.normal(size=(6, 40))
    residuals -= residuals.mean(axis=0)
    modes = principal_modes(np.zeros(40), residuals, 1.0)
    assert modes.rank == 5
    assert np.allclose((modes.basis * modes.variance) @ modes.basis.T, residuals.T @ residuals / 5)


def test_the_merged_variance_is_that_of_the_coarse_or_the_fine_model(rng):
    A, B = random_subspace(rng, 40, 5), random_subspace(rng, 40, 9)
    coarse, fine = nest(A, B, "coarse"), nest(A, B, "fine")
    assert fine.variance.sum() == pytest.approx(B.variance.sum(), rel=1e-10)
    assert np.allclose(fine.variance / coarse.variance, B.variance.sum() / A.variance.sum())
    assert np.array_equal(fine.basis, coarse.basis)


def conditioned(mean, covariance, rows, values, noise):
    """Mean and covariance of a Gaussian given noisy coordinates, by the textbook formula."""
    K = covariance[:, rows] @ np.linalg.inv(covariance[np.ix_(rows, rows)] + noise**2 * np.eye(len(rows)))
    return mean + K @ (values - mean[rows]), covariance - K @ covariance[rows]


@pytest.mark.parametrize("noise", [0.03, 0.5, 4.0])
@pytest.mark.parametrize("rows", [[0, 7, 11], list(range(25))])
def test_posteriors_are_gaussian_conditioning(rng, rows, noise):
    prior = random_subspace(rng, 30, 6)
    values = prior.mean[rows] + rng.normal(size=len(rows))
    found = prior.posterior(rows, values, noise)
    mean, covariance = conditioned(prior.mean, (prior.basis * prior.variance) @ prior.basis.T, rows, values, noise)
    assert np.allclose(found.mean, mean, atol=1e-9)
    assert np.allclose((found.basis * found.variance) @ found.basis.T, covariance, atol=1e-9)
    assert np.abs(found.basis.T @ found.basis - np.eye(found.rank)).max() < 1e-10
    assert np.all(np.diff(found.variance) <= 0)
    mask = np.isin(np.arange(30), rows)
    assert np.allclose(prior.posterior(mask, values, noise).mean, found.mean)


def test_posteriors_go_from_the_prior_to_the_points(rng):
    prior = random_subspace(rng, 30, 6)
    rows = [2, 3, 20, 21]
    values = prior.instance(rng.normal(size=6))[rows]
    loose, tight = prior.posterior(rows, values, 1e6), prior.posterior(rows, values, 1e-7)
    assert np.allclose(loose.mean, prior.mean, atol=1e-6)
    assert np.allclose(loose.variance, prior.variance)
    assert np.allclose(tight.mean[rows], values, atol=1e-6)
    assert np.abs(tight.sample(rng, 50)[:, rows] - values).max() < 1e-5
    # four points leave two of six degrees of freedom
    assert (tight.variance > 1e-6).sum() == 2
    for wrong in (0.0, np.inf, np.nan, -1.0):
        with pytest.raises(ValueError, match="noise"):
            prior.posterior(rows, values, wrong)
    with pytest.raises(ValueError, match="values: expected 4 finite"):
        prior.posterior(rows, values[:3], 1.0)


@pytest.mark.parametrize("merge", [Nested(), Nested(keep="fine"), WeightedSum(), WeightedSum((1.0, 1.0, 2.0, 2.0, 4.0))])
@pytest.mark.parametrize("kind", [Gaussian(), Wendland(), Threshold()])
def test_locality_lifts_the_rank_and_the_generalisation(rng, merge, kind):
    # smooth shapes with more freedom than eight images can show
    points = np.stack(np.meshgrid(np.linspace(0, 60, 9), np.linspace(0, 40, 7), indexing="ij"), axis=-1).reshape(-1, 2)
    kernel = np.exp(-0.5 * (np.linalg.norm(points[:, None] - points, axis=-1) / 12) ** 2)
    root = np.linalg.cholesky(kernel + 1e-9 * np.eye(len(points)))
    shapes = np.einsum("ab,nbc->nac", root, rng.normal(size=(48, len(points), 2)))
    train, unseen = shapes[:8], shapes[8:].reshape(40, -1)
    mean = train.mean(axis=0)

    def error(locality):
        model = local_subspace(mean.ravel(), train - mean, LandmarkPlaces(points, 72.0), locality, 126, "shapes")
        assert np.abs(model.basis.T @ model.basis - np.eye(model.rank)).max() < 1e-8
        return model.rank, np.abs(model.project(unseen) - unseen).mean()

    rank, global_error = error(Locality(levels=1))
    local_rank, local_error = error(Locality(levels=5, merge=merge, taper=kind, scale=1.0))
    assert rank <= 7 < local_rank
    assert local_error < 0.6 * global_error


def test_identical_images_are_refused():
    with pytest.raises(ValueError, match="identical shapes"):
        local_subspace(np.zeros(6), np.zeros((4, 3, 2)), LandmarkPlaces(np.zeros((3, 2)), 1.0), Locality(), 5, "shapes")


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": 0},
        {"taper": "box"},
        {"merge": "mean"},
        {"merge": WeightedSum((1.0, 2.0))},
        {"retained": 0.0},
        {"retained": 1.5},
        {"scale": 0.0},
        {"affinity": 1.1},
    ],
)
def test_wrong_localities_are_refused(wrong):
    with pytest.raises(
        (ValueError, TypeError), match="weights" if isinstance(wrong.get("merge"), WeightedSum) else next(iter(wrong))
    ):
        Locality(**wrong)


def test_wrong_merges_are_refused():
    with pytest.raises(ValueError, match="keep"):
        Nested(keep="both")
    for weights in ((), (1.0, -1.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="weights"):
            WeightedSum(weights)


@pytest.mark.parametrize(
    "locality",
    [Locality(), Locality(3, Wendland(), WeightedSum((1.0, 2.0, 3.0)), 0.9, 0.5, 0.2), Locality(2, Threshold(), Nested("fine"))],
)
def test_descriptions_give_back_the_locality(locality):
    again = Locality.from_json(json.loads(json.dumps(locality.to_json())))
    assert again == locality
    assert hash(again) == hash(locality)


def test_scales_stretch_every_level_but_the_first():
    one, half = Locality(scale=1.0), Locality(scale=0.5)
    assert one.tau(1, 100.0) == half.tau(1, 100.0) == np.inf
    assert [one.tau(level, 100.0) for level in (2, 3, 5)] == [50.0, 25.0, 6.25]
    assert half.tau(3, 100.0) == one.tau(4, 100.0)
    with pytest.raises(ValueError, match="not chosen yet"):
        Locality().tau(2, 100.0)


def test_tapers_fade_from_one_to_nothing():
    d = np.linspace(0, 50, 201)
    for kind in (Gaussian(), Wendland(), Threshold()):
        R = kind.correlation(d, 10.0)
        assert R[0] == 1
        assert np.all(np.diff(R) <= 0)
        assert R[-1] < 0.05
        assert np.all(kind.correlation(d, np.inf) == 1)
    assert Gaussian().correlation(20.0, 10.0) == pytest.approx(np.exp(-0.5))
    assert Wendland().correlation(20.0, 10.0) == 0 < Wendland().correlation(19.0, 10.0)
    assert Threshold().correlation(10.0, 10.0) == 1 > Threshold().correlation(10.01, 10.0)


def three_rings():
    """Landmarks of three closed contours, their objects, and distances along each contour, leaps between them penalised."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = 15 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([ring + c for c in ([0.0, 0.0], [50.0, 0.0], [25.0, 40.0])])
    objects = np.repeat([4, 7, 9], 24)
    steps = np.abs(np.subtract.outer(np.arange(24), np.arange(24)))
    along = np.minimum(steps, 24 - steps) * 15 * 2 * np.pi / 24
    distance = 10 * np.linalg.norm(points[:, None] - points, axis=-1) + 30
    for k in range(3):
        distance[24 * k : 24 * k + 24, 24 * k : 24 * k + 24] = along
    return points, objects, scipy.sparse.csgraph.shortest_path(distance)


@pytest.mark.parametrize("kind", [Gaussian(), Wendland()])
def test_tapers_of_other_than_euclidean_distances_are_refused(kind):
    points, _, distance = three_rings()
    euclidean = np.linalg.norm(points[:, None] - points, axis=-1)
    tau = distance.max() / 4
    G = correlation_root(kind.correlation(euclidean, tau))
    assert np.allclose(np.sum(G**2, axis=1), 1)
    with pytest.raises(ValueError, match=r"least eigenvalue is -\d"):
        correlation_root(kind.correlation(distance, tau))


@pytest.mark.parametrize("affinity", [0.0, 0.3, 1.0])
def test_product_kernels_part_the_objects(affinity, rng):
    points, objects, _ = three_rings()
    locality = Locality(levels=3, scale=1.0, affinity=affinity)
    plain = taper(points, locality, 3, 80.0)
    R = taper(points, locality, 3, 80.0, objects)
    same = objects[:, None] == objects
    assert np.array_equal(R[same], plain[same])
    assert np.allclose(R[~same], affinity * plain[~same])
    assert np.linalg.eigvalsh(R)[0] > -1e-10
    assert np.all(taper(points, locality, 1, 80.0, objects) == 1)  # level 1 stays global
    G = taper_factor(points, locality, 3, 80.0, objects).matrix
    assert np.abs(G @ G.T - R).max() < 0.02


def test_thresholds_serve_landmarks_but_not_textures(rng):
    points, _, _ = three_rings()
    locality = Locality(levels=3, taper=Threshold(), scale=1.0)
    with pytest.raises(ValueError, match="least eigenvalue"):
        taper_factor(points, locality, 3, 80.0)
    with pytest.raises(ValueError, match="landmarks alone"):
        grid_taper_factor(grid(2), locality, 3, 80.0)
    residuals = rng.normal(size=(6, 72, 2))
    residuals -= residuals.mean(axis=0)
    residuals[:, 5, 1] = 0  # a coordinate that never varies
    level = landmark_taper(points, locality, 3, 80.0).localised(residuals)
    S = level.matrix @ level.matrix.T
    flat = residuals.reshape(6, -1)
    C = flat.T @ flat / 5
    assert np.allclose(np.diag(S), np.diag(C))
    assert 0.02 < level.change < 0.6
    sigma = np.sqrt(np.where(np.diag(C) > 0, np.diag(C), 1))
    mask = np.kron(taper(points, locality, 3, 80.0), np.ones((2, 2)))
    cut = C / np.outer(sigma, sigma) * mask
    np.fill_diagonal(cut, 1)
    moved = S / np.outer(sigma, sigma)
    np.fill_diagonal(moved, 1)
    assert np.linalg.norm(moved - cut) / np.linalg.norm(cut) == pytest.approx(level.change, rel=1e-6)


def test_grid_factor_columns_are_counted():
    assert GridFactor((np.zeros((4, 2)), np.zeros((5, 3)))).columns == 6
