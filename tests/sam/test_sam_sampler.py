import numpy as np
import pytest
from support.spaces import grid

from augreg.sam import JointSampler, Locality, SchurSampler, Threshold, WeightedSum
from augreg.sam.factors import JoinedFactor
from augreg.sam.locality import taper, taper_factor

EXTENT = 40.0
DRAWS = 60_000


def centred(rng, *shape):
    residuals = rng.normal(size=shape)
    return residuals - residuals.mean(axis=0)


def landmarks():
    rng = np.random.default_rng(1)
    points, residuals = rng.uniform(0, 28, (12, 2)), centred(rng, 5, 12, 2)
    locality = Locality(levels=4, merge=WeightedSum((1.0, 2.0, 2.0, 5.0)), scale=1.0)
    return points, residuals, locality


def mixed(points, locality):
    levels = range(1, locality.levels + 1)
    return np.tensordot(locality.weights, [taper(points, locality, level, EXTENT) for level in levels], axes=1)


def monte_carlo(a, b, cross):
    """The expected relative error of the covariance of DRAWS samples of two vectors with variances a, b."""
    return np.sqrt((a.sum() * b.sum() + np.sum(cross**2)) / DRAWS) / np.linalg.norm(cross)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def landmark_sampler():
    points, residuals, locality = landmarks()
    parts = tuple(taper_factor(points, locality, level, EXTENT) for level in range(1, 5))
    return SchurSampler(points.ravel(), residuals, JoinedFactor(parts, locality.weights))


def test_samples_have_the_local_covariance():
    points, residuals, locality = landmarks()
    sampler = landmark_sampler()
    z = sampler.sample(np.random.default_rng(0), DRAWS)
    flat = residuals.reshape(5, -1)
    expected = flat.T @ flat / 4 * np.kron(mixed(points, locality), np.ones((2, 2)))
    error = monte_carlo(np.diag(expected), np.diag(expected), expected)
    found = np.cov(z.T)
    assert relative(found, expected) < 1.3 * error
    assert np.abs(z.mean(axis=0) - points.ravel()).max() < 5 * np.sqrt(np.diag(expected).max() / DRAWS)

    # a field per coordinate keeps the variances but loses what the coordinates of a point share
    parted = np.stack([SchurSampler(np.zeros(12), residuals[:, :, [d]], sampler.factor).sample(np.random.default_rng(d), DRAWS)
                       for d in range(2)], axis=-1).reshape(DRAWS, -1)  # fmt: skip
    wrong = np.cov(parted.T)
    assert np.allclose(np.diag(wrong), np.diag(expected), rtol=0.05)
    assert relative(wrong, expected) > 10 * error


def test_variances_are_exactly_those_of_the_data():
    _, residuals, _ = landmarks()
    sampler = landmark_sampler()
    n, q = sampler.shape
    H = sampler.instance(np.eye(n * q).reshape(-1, n, q)) - sampler.mean
    assert np.allclose(np.sum(H**2, axis=0), residuals.reshape(5, -1).var(axis=0, ddof=1))


def test_instances_are_linear_and_their_numbers_counted():
    sampler = landmark_sampler()
    n, q = sampler.shape
    assert np.array_equal(sampler.instance(np.zeros((n, q))), sampler.mean)
    omega = np.random.default_rng(0).normal(size=(3, 2, n, q))
    z = sampler.instance(omega)
    assert z.shape == (3, 2, 24)
    assert np.allclose(sampler.instance(2 * omega[1, 0]) - sampler.mean, 2 * (z[1, 0] - sampler.mean))
    with pytest.raises(ValueError, match="omega"):
        sampler.instance(omega[..., :-1])


def joint(locality=None):
    rng = np.random.default_rng(4)
    g = grid(2, shape=(12, 10))
    points = g.points_at(rng.uniform(0.5, 8.5, (6, 2)))
    # textures that go with the shapes
    shapes, textures = centred(rng, 5, 6, 2), centred(rng, 5, g.size)
    textures += 2 * shapes[:, 0, :1]
    locality = locality or Locality(levels=3, merge=WeightedSum((1.0, 2.0, 3.0)), scale=1.0)
    return JointSampler(points, shapes, np.zeros(g.size), textures, g, locality, EXTENT)


def test_shared_fields_give_the_local_covariance_of_shape_and_texture():
    sampler = joint()
    shapes, textures = sampler.sample(np.random.default_rng(0), DRAWS)
    assert shapes.shape == (DRAWS, 6, 2)
    everywhere = np.concatenate([sampler.mean_shape, sampler.template.points().reshape(-1, 2)])
    R = mixed(everywhere, sampler.locality)[:6, 6:]
    flat = sampler.shapes.reshape(5, -1)
    expected = flat.T @ sampler.textures / 4 * np.kron(R, np.ones((2, 1)))
    error = monte_carlo(flat.var(axis=0, ddof=1), sampler.textures.var(axis=0, ddof=1), expected)
    s, a = shapes.reshape(DRAWS, -1), textures
    assert relative((s - s.mean(axis=0)).T @ (a - a.mean(axis=0)) / DRAWS, expected) < 1.3 * error
    assert np.allclose(s.var(axis=0), flat.var(axis=0, ddof=1), rtol=0.05)
    # fields of their own leave no covariance at all
    own = sampler.texture.sample(np.random.default_rng(9), DRAWS)
    assert relative((s - s.mean(axis=0)).T @ own / DRAWS, expected) > 0.9


def test_fields_at_places_are_those_of_the_grid():
    sampler = joint()
    index = np.array([[3.0, 4.0], [3.5, 4.0]])
    for factor in sampler._levels:
        G = factor.times(np.eye(factor.columns, dtype=np.float32)).reshape(12, 10, -1)
        at = factor.at(index).matrix
        assert np.allclose(at[0], G[3, 4], atol=1e-5)
        middle = G[3, 4] + G[4, 4]
        assert np.allclose(at[1], middle / np.linalg.norm(middle), atol=1e-4)
        assert np.allclose(np.linalg.norm(factor.at(index - 50).matrix, axis=1), 1)  # outside: as at the border


def test_joint_samplers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="landmarks alone"):
        joint(Locality(taper=Threshold(), scale=1.0)).sample(np.random.default_rng(0), 1)
    s = joint()
    with pytest.raises(ValueError, match="as many"):
        JointSampler(s.mean_shape, s.shapes[1:], s.mean_texture, s.textures, s.template, s.locality)
    with pytest.raises(ValueError, match="expected"):
        JointSampler(s.mean_shape[1:], s.shapes, s.mean_texture, s.textures, s.template, s.locality)
