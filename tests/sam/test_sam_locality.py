"""What locality promises, on shapes whose truth is known."""

import functools

import numpy as np
import pytest
from support import toyshapes
from threadpoolctl import threadpool_info, threadpool_limits

from augreg.sam import Gaussian, Locality, Nested, Threshold, WeightedSum, Wendland, choose_scale
from augreg.sam.locality import LandmarkPlaces, local_subspace

EXTENT = 150.0
LOCAL = {
    "threshold, nested": Locality(taper=Threshold(), merge=Nested("coarse"), scale=1.0),
    "gaussian, nested": Locality(taper=Gaussian(), merge=Nested("fine"), scale=1.0),
    "wendland, nested": Locality(taper=Wendland(), scale=1.0),
    "gaussian, sum": Locality(merge=WeightedSum(), scale=1.0),
    "objects apart": Locality(affinity=0.5, scale=1.0),
}


def fitted(train, locality):
    mean = train.mean(axis=0)
    places = LandmarkPlaces(mean, EXTENT, toyshapes.contours()[1])
    return local_subspace(mean.ravel(), train - mean, places, locality, mean.size, "shapes")


@functools.cache
def measured(name, count):
    """Rank, generalisation and specificity against unseen shapes, means over three training sets."""
    locality = LOCAL.get(name, Locality(levels=1))
    unseen = toyshapes.shapes(np.random.default_rng(100), 100).reshape(100, -1)
    rows = []
    for seed in range(3):
        model = fitted(toyshapes.shapes(np.random.default_rng(seed), count), locality)
        samples = model.sample(np.random.default_rng(seed), 150)
        nearest = np.array([toyshapes.distance(one, unseen).min() for one in samples])
        rows.append((model.rank, toyshapes.distance(unseen, model.project(unseen)).mean(), nearest.mean()))
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("count", [5, 10])
@pytest.mark.parametrize("name", LOCAL)
def test_local_models_generalise_better_at_little_cost_of_specificity(name, count):
    rank, generalisation, specificity = measured(name, count)
    plain_rank, plain_generalisation, plain_specificity = measured("principal components", count)
    assert rank > 2 * plain_rank
    assert generalisation < 0.8 * plain_generalisation
    assert specificity < 1.2 * plain_specificity


@pytest.mark.parametrize("name", LOCAL)
def test_more_images_generalise_better(name):
    assert measured(name, 10)[1] < measured(name, 5)[1]


def test_the_truth_is_likelier_than_scales_far_from_it():
    # four levels at scale s span 2 tau = s 150 ... s 19: the true lengths are 60 and 15
    found = choose_scale(toyshapes.shapes(np.random.default_rng(0), 12), Locality(), EXTENT, scales=2.0 ** np.arange(-5, 4))
    assert 0.25 <= found.scale <= 2
    assert found.likelihood[0] < found.likelihood.max() - 0.05
    assert found.likelihood[-1] < found.likelihood.max() - 0.05


def test_longer_correlations_ask_for_larger_scales():
    rng = np.random.default_rng(0)
    points = np.stack(np.meshgrid(np.linspace(0, 100, 9), np.linspace(0, 100, 9), indexing="ij"), axis=-1).reshape(-1, 2)
    squared = np.sum((points[:, None] - points) ** 2, axis=-1)
    chosen = []
    for length in (8.0, 25.0, 150.0):
        root = np.linalg.cholesky(np.exp(-0.5 * squared / length**2) + 1e-4 * np.eye(81))
        shapes = points + np.einsum("ab,nbc->nac", root, rng.standard_normal((15, 81, 2)))
        chosen.append(choose_scale(shapes, Locality(), 140.0, scales=2.0 ** np.arange(-4, 4)).scale)
    assert chosen[0] < chosen[1] < chosen[2]


def test_chosen_scales_are_of_the_candidates_and_the_unit_of_length_does_not_matter():
    shapes = toyshapes.shapes(np.random.default_rng(3), 8)
    found = choose_scale(shapes, Locality(), EXTENT)
    again = choose_scale(1000 * shapes, Locality(scale=7.0), 1000 * EXTENT)
    assert found.scale in found.scales
    assert found.scale == again.scale
    assert np.allclose(found.likelihood, again.likelihood)
    for locality in (Locality(taper=Threshold()), Locality(merge=WeightedSum((0.0, 1.0, 1.0, 1.0, 1.0)), affinity=0.3)):
        other = choose_scale(shapes, locality, EXTENT, toyshapes.contours()[1])
        assert np.isfinite(other.likelihood).all()
        assert not np.allclose(other.likelihood, found.likelihood)
    with pytest.raises(ValueError, match="at least 3"):
        choose_scale(shapes[:2], Locality(), EXTENT)
    with pytest.raises(ValueError, match="identical"):
        choose_scale(np.repeat(shapes[:1], 4, axis=0), Locality(), EXTENT)


def test_likelihoods_are_those_of_the_gaussian_density():
    rng = np.random.default_rng(5)
    points = rng.uniform(0, 50, (6, 2))
    shapes = points + rng.normal(size=(5, 6, 2))
    locality = Locality(levels=3)
    mean = shapes.mean(axis=0)
    d = np.linalg.norm(mean[:, None] - mean, axis=-1)
    R = np.kron((1 + sum(np.exp(-0.5 * (d / (2 * 0.5 * 60 * 2.0**-j)) ** 2) for j in (1, 2))) / 3, np.ones((2, 2)))
    vectors = (shapes - shapes.mean(axis=(0, 1))).reshape(5, -1)
    vectors /= np.sqrt(vectors.var(axis=0, ddof=1).mean())
    best = -np.inf
    for noise in 2.0 ** np.arange(-8, 1):
        total = 0.0
        for i in range(5):
            others = np.delete(vectors, i, axis=0)
            S = np.cov(others.T) * R + noise**2 * np.eye(12)
            r = vectors[i] - others.mean(axis=0)
            total += -0.5 * (r @ np.linalg.solve(S, r) + np.linalg.slogdet(2 * np.pi * S)[1])
        best = max(best, total / 60)
    assert choose_scale(shapes, locality, 60.0, scales=[0.5]).likelihood[0] == pytest.approx(best, rel=1e-6)


def test_linear_algebra_of_thin_matrices_has_one_thread_and_others_keep_theirs():
    seen = []

    class Looking(Gaussian):
        def correlation(self, distance, tau):
            seen.append(blas_threads())
            return super().correlation(distance, tau)

    def blas_threads():
        return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    shapes = toyshapes.shapes(np.random.default_rng(0), 6)
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        choose_scale(shapes, Locality(taper=Looking()), EXTENT, scales=[1.0])
        fitted(shapes, Locality(taper=Looking(), scale=1.0))
        assert blas_threads() == before
    assert set(seen) == {1}
