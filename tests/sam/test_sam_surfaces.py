import numpy as np
import pytest
from support.spaces import directions

from augreg import Grid, Labels
from augreg.sam import Contours
from augreg.sam.surfaces import surface_points, surface_sizes


def ellipsoids(centers, radii, direction="oblique", spacing=(1.1, 0.8, 1.4)):
    """A label volume of ellipsoids with axes along the world's."""
    grid = Grid((48, 60, 40), spacing, (-30.0, 12.0, 5.0), directions(3)[direction])
    x = grid.points()
    values = np.zeros(grid.shape, np.uint8)
    for label, (c, r) in enumerate(zip(centers, radii, strict=True), start=1):
        values[(((x - grid.center - c) / r) ** 2).sum(axis=-1) <= 1] = label
    return Labels(values, grid)


@pytest.mark.parametrize("direction", ["identity", "oblique"])
def test_points_lie_on_the_surface_in_fixed_world_directions(direction):
    radii = np.array([14.0, 9.0, 11.0])
    labels = ellipsoids([(1.0, 0.0, -2.0)], [radii], direction)
    points = surface_points(labels, (1,), (60,))
    assert points.shape == (61, 3)
    center = labels.grid.center + np.array([1.0, 0.0, -2.0])
    assert np.abs(points[-1] - center).max() < 0.1
    on = (((points[:-1] - center) / radii) ** 2).sum(axis=1)
    assert np.abs(np.sqrt(on) - 1).max() < 0.08  # voxels are a tenth of the radius
    towards = (points[:-1] - points[-1]) / np.linalg.norm(points[:-1] - points[-1], axis=1, keepdims=True)
    assert np.linalg.norm(towards.mean(axis=0)) < 0.05
    other = surface_points(ellipsoids([(1.0, 0.0, -2.0)], [radii], "identity", (1.0, 1.0, 1.0)), (1,), (60,))
    assert np.abs((other - other[-1]) - (points - points[-1])).max() < 1.2


def test_small_fragments_do_not_count():
    labels = ellipsoids([(0, 0, 0), (0, 0, 0)], [(9, 9, 9), (0.1, 0.1, 0.1)])
    labels.values[2:4, 2:4, 2:4] = 1
    assert np.linalg.norm(surface_points(labels, (1,), (30,)) - labels.grid.center, axis=1).max() < 10


def test_sizes_are_surfaces():
    labels = ellipsoids([(0, 0, 0)], [(10, 10, 10)])
    assert surface_sizes(labels, (1,))[0] == pytest.approx(4 * np.pi * 100, rel=0.03)


def test_volumes_have_corresponding_points_like_slices():
    maps = [ellipsoids([(-8, 0, 0), (10 + k, 0, 1)], [(8 + k, 7, 6), (6, 5, 6 + k)]) for k in range(3)]
    contours = Contours.from_labels(maps, points=80)
    assert contours.structures == (1, 2)
    assert contours.counts[0] > contours.counts[1] > 0
    points = contours.corresponding(maps)
    assert points.shape == (3, contours.size, 3)
    grown = np.linalg.norm(points[2, : contours.counts[0]] - points[2, contours.counts[0]], axis=1)
    before = np.linalg.norm(points[0, : contours.counts[0]] - points[0, contours.counts[0]], axis=1)
    assert (grown - before).max() == pytest.approx(2, abs=0.5)
    assert np.abs(grown - before).min() < 0.4
    with pytest.raises(ValueError, match=r"labels\[1\].*label 2 is missing"):
        Contours.from_labels([maps[0], Labels(np.where(maps[1].values == 2, 0, maps[1].values), maps[1].grid)], structures=[1, 2])
