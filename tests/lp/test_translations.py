"""Scores of all translations at once against loops over the translations; what each of them sees of another contrast."""

import numpy as np
import pytest

from augreg import Grid
from augreg.lp.translations import correlation_ratios, correlations

SHAPE, REACH = (14, 11), 0.3
GRID = Grid(SHAPE)


def overlap(fixed, moving, shift):
    """Values of both images where both are known, moving(x + d) on fixed(x)."""
    (f, known), (m, seen) = fixed, moving
    places = np.argwhere(known)
    there = places + shift
    inside = np.all((there >= 0) & (there < m.shape), axis=1)
    places, there = places[inside], there[inside]
    both = seen[tuple(there.T)]
    return f[tuple(places[both].T)], m[tuple(there[both].T)]


def pearson(a, b):
    return np.corrcoef(a, b)[0, 1]


def explained(by, values, bounds):
    """Share of the variance of values that the class of the other one explains."""
    number = np.searchsorted(bounds, by)
    between = sum((number == k).sum() * (values[number == k].mean() - values.mean()) ** 2 for k in np.unique(number))
    return between / ((values - values.mean()) ** 2).sum()


def bounds_of(values, valid):
    return np.unique(np.quantile(values[valid], np.arange(1, 8) / 8))


def best_of_all(fixed, moving, score):
    found = []
    reach = [int(REACH * n) for n in SHAPE]
    for a in range(-reach[0], reach[0] + 1):
        for b in range(-reach[1], reach[1] + 1):
            f, m = overlap(fixed, moving, (a, b))
            if len(f) >= 0.4 * fixed[1].sum():
                found.append((score(f, m), (a, b)))
    return max(found)


def images(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(3, *SHAPE)).astype(np.float32)
    valid = rng.random((3, *SHAPE)) < 0.9
    values[~valid] = 0
    return (values[0], valid[0]), (values[1:], valid[1:])


@pytest.mark.parametrize("seed", range(3))
def test_all_translations_at_once_are_one_after_the_other(seed):
    fixed, moving = images(seed)
    scores, shifts = correlations(fixed, moving, GRID, REACH)
    ratios, places = correlation_ratios(fixed, moving, GRID, REACH)
    for k in range(2):
        one = moving[0][k], moving[1][k]
        classes = bounds_of(*fixed), bounds_of(*one)

        def either(f, m, classes=classes):
            return max(explained(f, m, classes[0]), explained(m, f, classes[1]))

        best, shift = best_of_all(fixed, one, pearson)
        assert scores[k] == pytest.approx(best, abs=1e-4)
        assert tuple(shifts[k]) == shift
        best, shift = best_of_all(fixed, one, either)
        assert ratios[k] == pytest.approx(best, abs=1e-4)
        assert tuple(places[k]) == shift


def test_only_ratios_see_what_became_of_a_brightness_whichever_way():
    """A contrast that folds has no correlation; the fold explains one image by the other, in one of the two ways."""
    rng = np.random.default_rng(0)
    grid, shift = Grid((40, 40)), np.array([5, -3])
    values = rng.uniform(-1, 1, (50, 50)).astype(np.float32)
    here = values[5:45, 5:45]
    there = values[tuple(slice(5 - d, 45 - d) for d in shift)]
    everywhere = np.ones((40, 40), dtype=bool)
    for fixed, moving in ((here, np.abs(there)), (np.abs(here), there)):
        pair = (fixed, everywhere), (moving[None], everywhere[None])
        assert np.abs(correlations(*pair, grid, REACH)[0]) < 0.2
        ratio, found = correlation_ratios(*pair, grid, REACH)
        assert ratio[0] > 0.9
        np.testing.assert_array_equal(found[0], shift)


def test_images_that_show_nothing_or_lie_outside_have_no_ratio():
    everywhere = np.ones(SHAPE, dtype=bool)
    values = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    constant, nowhere = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=bool)
    moving = np.stack([constant, constant]), np.stack([everywhere, nowhere])
    ratios, shifts = correlation_ratios((values, everywhere), moving, GRID, REACH)
    assert abs(ratios[0]) < 1e-3
    assert ratios[1] == -np.inf
    assert np.isfinite(shifts).all()
