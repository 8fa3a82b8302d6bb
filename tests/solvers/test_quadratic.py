import numpy as np
import pytest
import scipy.sparse

from solvers import least_squares


def banded_rows(rows: int, unknowns: int, width: int, seed: int) -> scipy.sparse.csr_array:
    """Random rows with entries in `width` neighbouring columns each, some of them empty."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((rows, unknowns))
    for number, row in enumerate(dense[: rows - 2]):
        first = number % (unknowns - width + 1)
        row[first : first + width] = rng.normal(size=width)
    return scipy.sparse.csr_array(dense)


def normal_equations(matrix, weights, right, damping):
    a = matrix.toarray()
    normal = a.T @ (weights[:, None] * a)
    return np.linalg.solve(normal + damping * np.diag(np.diag(normal)), a.T @ (weights * right))


@pytest.mark.kernels
@pytest.mark.parametrize("unknowns", [6, 40])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_narrow_bands_are_solved_exactly(unknowns, damping):
    matrix = banded_rows(150, unknowns, 5, unknowns)
    rng = np.random.default_rng(1)
    weights, right = rng.uniform(0, 2, 150), rng.normal(size=150)
    expected = normal_equations(matrix, weights, right, damping)
    np.testing.assert_allclose(least_squares(matrix, weights, right, damping), expected, rtol=1e-8, atol=1e-10)


def test_wide_bands_come_near(monkeypatch):
    monkeypatch.setattr("solvers.quadratic._LARGE", 0.0)
    matrix = banded_rows(400, 60, 60, 3)
    rng = np.random.default_rng(2)
    weights, right = rng.uniform(0.5, 2, 400), rng.normal(size=400)
    expected = normal_equations(matrix, weights, right, 1e-3)
    found = least_squares(matrix, weights, right, 1e-3)
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)


def test_unknowns_without_a_row_stay_where_they_are():
    matrix = scipy.sparse.csr_array(np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0]]))
    np.testing.assert_allclose(least_squares(matrix, np.ones(2), np.array([5.0, 2.0])), [1.0, 2.0, 0.0], atol=1e-9)
