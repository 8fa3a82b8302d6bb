"""What a step is weighed against, and when it is refused."""

import numpy as np
import pytest
from support.phantoms import blobs

from augreg import Affine, Grid, Image, LPRegistration
from augreg.geometry.resampling import sample
from solvers import Solution


def bending(phi, x):
    """How far phi moves the points x otherwise than the nearest affine map does, mm."""
    y, known = phi(x), np.column_stack([x, np.ones(len(x))])
    return float(np.linalg.norm(y - known @ np.linalg.lstsq(known, y, rcond=None)[0], axis=1).mean())


def test_what_is_smooth_does_not_depend_on_the_number_of_keypoints():
    grid = Grid((120, 110), (1.0, 1.2))
    fixed = blobs(grid, 60)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    wave = index + 3.0 * np.sin(2 * np.pi * index[..., ::-1] / 60)
    moving = Image(sample(fixed, grid.points_at(wave), fill=0.0).astype(np.float32), grid)
    x = grid.points()[15:-15:3, 15:-15:3].reshape(-1, 2)

    def found(smoothness, keypoints, polish):
        options = {"smoothness": smoothness, "keypoints": keypoints, "polish": polish, "dense": None}
        register = LPRegistration(grid_spacing=12.0, search=False, **options)
        return bending(register(fixed, moving), x)

    for polish in (0, 3):
        few, many = (found(0.1, count, polish) for count in (300, 1200))
        assert few == pytest.approx(many, rel=0.35)
        # a quarter of the weight is something else
        assert found(0.025, 300, polish) > 1.6 * few


def test_a_step_that_leads_most_keypoints_out_of_view_is_refused_however_well_the_others_fit():
    fixed = blobs(Grid((128, 120)), 80)
    other = blobs(Grid((128, 120)), 80, seed=7).values
    # what the left of fixed shows stands at the right of moving, far from it; the whole of fixed stands in a wider one
    cut = np.concatenate([other[:90], fixed.values[:38]])
    whole = np.concatenate([other[:90], fixed.values])

    def leap(program):
        """To the right by 90 mm, whatever the program says."""
        return Solution.judged(program, np.array([0.0, 90.0, 0.0]), np.zeros(len(program.lower)), "optimal", 0, 0.0)

    register = LPRegistration(transform="rigid", search=False, polish=0, solver=leap)
    for values, reached in ((cut, 0.0), (whole, 90.0)):
        phi = register(fixed, Image(values, Grid(values.shape)), initial=Affine.identity(2))
        np.testing.assert_allclose(phi(fixed.grid.center) - fixed.grid.center, [reached, 0.0], atol=1e-9)
