import numpy as np
import pytest
from support import naive_correlation

from augreg.sam.correlation import correlation_root, nearest_correlation


def test_highams_example():
    A = np.array([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    found = nearest_correlation(A).matrix
    assert np.allclose(found[[0, 0, 1], [1, 2, 2]], [0.7607, 0.1573, 0.7607], atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_nearest_correlations_agree_with_alternating_projections(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 10, (25, 2))
    rho = np.corrcoef(rng.normal(size=(25, 6)))
    A = rho * (np.linalg.norm(points[:, None] - points, axis=-1) < 4)
    assert np.linalg.eigvalsh(A)[0] < -0.1
    repair = nearest_correlation(A)
    slow = naive_correlation.nearest_correlation(A)
    assert np.abs(repair.matrix - slow).max() < 1e-4
    assert repair.change == pytest.approx(np.linalg.norm(slow - A) / np.linalg.norm(A), abs=1e-5)
    assert np.linalg.eigvalsh(repair.matrix)[0] > -1e-12
    assert np.array_equal(np.diag(repair.matrix), np.ones(25))


def test_no_correlation_matrix_is_nearer():
    rng = np.random.default_rng(1)
    A = rng.uniform(-1, 1, (8, 8))
    A = 0.5 * (A + A.T)
    np.fill_diagonal(A, 1)
    found = nearest_correlation(A, tolerance=1e-9).matrix
    root = correlation_root(found + 1e-9 * np.eye(8))
    for _ in range(50):
        other = root + 0.05 * rng.normal(size=root.shape)
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        assert np.linalg.norm(other @ other.T - A) > np.linalg.norm(found - A) - 1e-5


def test_correlations_are_left_alone():
    rho = np.corrcoef(np.random.default_rng(2).normal(size=(12, 5)))
    repair = nearest_correlation(rho)
    assert np.allclose(repair.matrix, rho, atol=1e-6)
    assert repair.change < 1e-6
