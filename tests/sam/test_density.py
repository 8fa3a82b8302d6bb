"""Densities of shape coefficients: what is drawn follows them, and which is chosen."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from sklearn.neighbors import KernelDensity
from support.subjects import model

from augreg.cli.arguments import SHAPES, turn
from augreg.recipes import Turn
from augreg.sam import fit_density
from augreg.sam.density import KINDS, SINGLE, chosen
from augreg.synthesis import AppearancePairs, pair_rngs


def known(n=24, rank=10, seed=0):
    """Two groups of shapes along the first mode, of unit variance in all modes."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((n, rank))
    b[:, 0] = np.where(np.arange(n) % 2, 1.0, -1.0) + 0.2 * rng.standard_normal(n)
    return (b - b.mean(axis=0)) / b.std(axis=0)


@pytest.mark.parametrize("kind", SINGLE)
def test_samples_have_the_mean_and_variance_of_the_training_shapes(kind):
    b = known()
    drawn = fit_density(b, kind).sample(np.random.default_rng(1), 20_000, 14)
    assert drawn.shape == (20_000, 14)
    assert np.abs(drawn.mean(axis=0)).max() < 0.05
    # a mixture keeps a little variance of its own, more than it is fitted to
    assert np.abs(drawn.std(axis=0) - 1).max() < (0.08 if kind == "mixture" else 0.03)


@pytest.mark.parametrize("kind", SINGLE)
def test_samples_follow_the_density_that_is_told(kind):
    """Along every leading mode the samples have the distribution function of the mixture."""
    density = fit_density(known(), kind)
    drawn = density.sample(np.random.default_rng(2), 4000, 12)
    for mode in range(density.means.shape[1]):

        def share(x, mode=mode):
            parts = scipy.stats.norm.cdf(x[:, None], density.means[:, mode], density.deviations[:, mode])
            return parts @ density.weights

        assert scipy.stats.kstest(drawn[:, mode], share).pvalue > 1e-3


def test_the_kernel_density_is_scikit_learns():
    b = known()
    density = fit_density(b, "kernel")
    h = density.deviations[0, 0]
    d = density.means.shape[1]
    twin = KernelDensity(bandwidth=h).fit(np.sqrt(1 - h**2) * b[:, :d])
    places = np.random.default_rng(3).standard_normal((50, d))
    assert np.allclose(density.log_density(places), twin.score_samples(places), atol=1e-9)
    left_out = [
        KernelDensity(bandwidth=h).fit(np.sqrt(1 - h**2) * np.delete(b[:, :d], i, axis=0)).score_samples(b[i : i + 1, :d])[0]
        for i in range(len(b))
    ]
    assert np.allclose(density.held_out, left_out, atol=1e-9)


def test_the_best_density_is_the_one_that_expects_unseen_shapes():
    """Two groups want two parts; shapes of a Gaussian are left to it."""
    groups = known(40, 2)
    assert fit_density(groups, "best").kind != "gaussian"
    assert len(fit_density(groups, "mixture").weights) >= 2
    plain = [fit_density(np.random.default_rng(seed).standard_normal((16, 8)), "best").kind for seed in range(4)]
    assert plain.count("gaussian") >= 3
    # of two that are as good as each other, the first
    one = fit_density(groups, "gaussian")
    better = replace(one, kind="other", held_out=one.held_out + np.tile([1.0, -0.9], 20))
    assert chosen([one, better]).kind == "gaussian"
    assert chosen([one, replace(better, held_out=one.held_out + 0.5 + 0.1 * np.tile([1.0, -1.0], 20))]).kind == "other"


@pytest.mark.parametrize("kind", ["kernel", "mixture", "best"])
def test_pairs_are_drawn_from_the_density_and_the_rest_of_a_draw_stays(kind):
    m = model()
    plain, other = (AppearancePairs(m, shapes=one).draw(pair_rngs(0, range(40))) for one in ("gaussian", kind))
    for name in ("mosaic", "gain", "pose", "light"):
        assert np.array_equal(getattr(plain, name), getattr(other, name))
    density = m.density(kind)
    d = density.means.shape[1]
    assert np.array_equal(plain.shape[..., d:], other.shape[..., d:])
    # a kernel density of width 1 is the Gaussian
    same = np.allclose(plain.shape[..., :d], other.shape[..., :d])
    assert same == bool((density.means == 0).all() and (density.deviations == 1).all())
    assert AppearancePairs(m, shapes=kind).describe()["shapes"] == kind
    again = AppearancePairs(m, shapes=kind).draw(pair_rngs(0, [7]))
    assert np.array_equal(again.shape[0], other.shape[7])


def test_wrong_densities_are_refused():
    with pytest.raises(ValueError, match="shapes: expected one of gaussian, kernel, mixture, best, got 'normal'"):
        AppearancePairs(model(), shapes="normal")
    with pytest.raises(ValueError, match="expected 4 training shapes or more for a kernel density, got 3; take gaussian"):
        fit_density(np.zeros((3, 2)), "kernel")
    with pytest.raises(ValueError, match="residuals: expected those of the training shapes"):
        AppearancePairs(replace(model(), residuals=None), shapes="best")


def test_the_command_line_offers_the_densities_that_there_are():
    assert SHAPES == KINDS
    assert turn("shared,shapes=best") == {"appearance": "shared", "shapes": "best"}
    assert Turn.of(turn("shared,shapes=kernel")).shapes == "kernel"
    with pytest.raises(argparse.ArgumentTypeError, match="shapes=D"):
        turn("shared,shapes=normal")
