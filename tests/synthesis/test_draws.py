"""The random numbers of pairs: what is drawn, and from which distribution."""

from dataclasses import fields

import numpy as np
import pytest
import scipy.interpolate
import scipy.stats
import torch
from support.draws import drawn
from support.subjects import model

from augreg.synthesis import AppearancePairs, SmoothField, ZeroField, make_pairs, pair_rngs


def test_coefficients_beyond_three_deviations_are_drawn_again():
    """What is left is a normal distribution cut at 3, without a heap at its ends."""
    pairs = AppearancePairs(model(), appearance="independent", amplitude=0.5, modes=2.0)
    draw = pairs.draw([np.random.default_rng(seed) for seed in range(300)])
    expected = scipy.stats.truncnorm(-3, 3)
    for coefficients, factor in ((draw.shape, 0.5), (draw.modes, 2.0)):
        values = np.abs(coefficients.ravel() / factor)
        assert len(values) > 10_000
        assert 2.95 < values.max() <= 3
        assert scipy.stats.kstest(values, lambda x: 2 * expected.cdf(x) - 1).pvalue > 1e-3
        # twice what is expected there; brought back to 3 they would be five times as many
        assert np.mean(values > 2.9) < 2 * 2 * expected.sf(2.9)


def test_a_rest_leaves_the_other_numbers_of_a_draw_as_they_were():
    (plain, bare), (_, draw) = drawn(3), drawn(3, rest=(SmoothField(12.0, (1.5,)), ZeroField()))
    for part in fields(draw):
        assert part.name == "rest" or np.array_equal(getattr(bare, part.name), getattr(draw, part.name))
    assert "rest" not in plain.describe()
    described = AppearancePairs(model(), rest=(SmoothField(12.0, (1.5,)),)).describe()
    assert described["rest"] == [{"family": "SmoothField", "spacing": 12.0, "magnitudes": (1.5,)}]


def test_a_pair_depends_on_seed_and_index_alone():
    generator = AppearancePairs(model(), appearance=0.5)
    together = make_pairs(generator, 8, range(5))
    for chosen in ([1, 2], [4]):
        apart = make_pairs(generator, 8, chosen)
        assert torch.allclose(apart.fixed, together[torch.tensor(chosen)].fixed, atol=1e-3)
        assert torch.allclose(apart.flow, together[torch.tensor(chosen)].flow, atol=1e-4)
    other = make_pairs(generator, 9, [1])
    assert (other.flow - together[1:2].flow).abs().max() > 0.5
    draw = generator.draw(pair_rngs(8, range(3)))
    assert len(draw[1:3]) == 2


def test_appearances_are_shared_independent_or_correlated():
    for choice, expected in (("shared", 1.0), ("independent", 0.0), (0.6, 0.6)):
        g = drawn(12, appearance=choice)[1].mosaic
        assert np.corrcoef(g[:, 0].ravel(), g[:, 1].ravel())[0, 1] == pytest.approx(expected, abs=0.05)
        assert g[:, 1].std() == pytest.approx(g[:, 0].std(), rel=0.05)
    same, apart = (drawn(40, appearance=choice)[1].gain for choice in ("shared", "independent"))
    assert np.array_equal(same[:, 0], same[:, 1])
    assert np.log(apart).std() == pytest.approx(np.log(model().gains).std(ddof=1), rel=0.25)
    assert not np.array_equal(apart[:, 0], apart[:, 1])


def test_intensity_changes_are_smooth_gains():
    plain, bright = (make_pairs(AppearancePairs(model(), intensity=i), 5, range(2)) for i in (0.0, 0.2))
    assert torch.equal(plain.flow, bright.flow)
    inside = plain.fixed > 30
    gain = (bright.fixed / plain.fixed)[inside]
    assert 0.02 < gain.log().std() < 0.5


@pytest.mark.parametrize(
    "wrong", [{"appearance": "equal"}, {"appearance": 1.5}, {"amplitude": -1.0}, {"pose": float("nan")}, {"mosaic": -1.0}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AppearancePairs(model(), **wrong)
