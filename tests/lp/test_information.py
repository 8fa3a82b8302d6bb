"""Mutual information finds what a photograph has become under any contrast, whether there is noise or not. Truth by SimpleITK."""

import numpy as np
import pytest
from support import phantoms

from augreg.lp import LPRegistration

# of brightness from 0 to 1: as it is, its negative, folded, and a wave
LOOKS = (lambda v: v, lambda v: -v, lambda v: np.abs(v - 0.4), lambda v: np.sin(2.5 * np.pi * v))


def off(fixed, moving, x, y):
    """Mean error of an affine map, and whether it is doubted."""
    *_, state = LPRegistration(transform="affine", criterion="mi").steps(fixed, moving)
    return np.linalg.norm(state.transform(x) - y, axis=1).mean(), any("check the result" in text for text in state.warnings)


@pytest.mark.parametrize("name", ["retina", "coins", "moon"])
@pytest.mark.parametrize("seed", [4, 5])
def test_photographs_are_found_under_any_contrast(name, seed):
    """A dark sky fills most of one, a bright disc of the other; a wave has no correlation with what it came from."""
    fixed, moving, x, y = phantoms.pair(phantoms.photograph(name), phantoms.affine(seed), seed)
    for look in LOOKS:
        error, doubted = off(fixed, moving.with_values(look(moving.values).astype(np.float32)), x, y)
        assert error < 0.25
        assert not doubted


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_no_noise_is_no_trap(seed):
    """Where brightness is exact, a table that is learned at a wrong pose knows every pair that has met there."""
    values = phantoms.photograph("retina")
    error, doubted = off(*phantoms.pair(values, phantoms.affine(seed), seed, noise=0.0))
    assert error < 0.25
    assert not doubted
