"""What lies along an axis of a volume."""

import numpy as np
import pytest

from augreg import Grid, Image, projected


def volume():
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 10, (4, 5, 6)).astype(np.float32)
    values[1, 2] = 0
    values[:, 4] = 0
    return Image(values, Grid((4, 5, 6), (1.0, 2.0, 3.0)))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels_are_depth_mean_and_maximum_along_an_axis(axis):
    seen = projected(volume(), axis, threshold=7.0)
    rays = np.moveaxis(volume().values, axis, -1)
    spacing = volume().grid.spacing[axis]
    for place in np.ndindex(*rays.shape[:-1]):
        above = [k for k, value in enumerate(rays[place]) if value > 7.0]
        depth = spacing * (above[0] if above else rays.shape[-1])
        assert seen.values[place] == pytest.approx(
            [depth, sum(map(float, rays[place])) / rays.shape[-1], max(rays[place])], rel=1e-6
        )
    assert seen.grid == Grid(rays.shape[:-1], tuple(np.delete(volume().grid.spacing, axis)))
    # that one axis was mistaken for another would be seen
    assert len(np.unique(seen.values[..., 0])) > 2


def test_the_body_begins_halfway_between_the_extremes_where_nothing_is_said():
    halfway = projected(volume(), 1, ("depth",))
    assert halfway.channels == 1
    assert np.array_equal(halfway.values, projected(volume(), 1, threshold=volume().values.max() / 2).values[..., 0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((volume(), 3), "axis: expected one of 0, 1, 2, got 3"),
        ((volume(), 0, ("deep",)), "kinds: expected some of depth, mean, max, got deep"),
        ((volume(), 0, ()), "kinds: expected some of depth, mean, max, got none"),
        ((Image(np.zeros((4, 5)), Grid((4, 5))), 0), "volume: expected 3-D without channels, got 2-D with 1"),
    ],
)
def test_what_cannot_be_projected_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        projected(*arguments)
