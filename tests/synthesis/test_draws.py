"""The random numbers of pairs: what is drawn, and from which distribution."""

import numpy as np
import scipy.stats
from support.subjects import model

from augreg.synthesis import AppearancePairs


def test_coefficients_beyond_three_deviations_are_drawn_again():
    """What is left is a normal distribution cut at 3, without a heap at its ends."""
    pairs = AppearancePairs(model(), appearance="independent", amplitude=0.5, modes=2.0)
    draw = pairs.draw([np.random.default_rng(seed) for seed in range(300)])
    expected = scipy.stats.truncnorm(-3, 3)
    for drawn, factor in ((draw.shape, 0.5), (draw.modes, 2.0)):
        values = np.abs(drawn.ravel() / factor)
        assert len(values) > 10_000
        assert 2.95 < values.max() <= 3
        assert scipy.stats.kstest(values, lambda x: 2 * expected.cdf(x) - 1).pvalue > 1e-3
        # twice what is expected there; brought back to 3 they would be five times as many
        assert np.mean(values > 2.9) < 2 * 2 * expected.sf(2.9)
